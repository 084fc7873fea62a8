/*
 * Long sequences of few heads, cut in spans that are worked on at the same time (span_call.h): several launches of a forward kernel instead of one.
 *
 *     set up   the entries that the kernel sees instead of sequences
 *     early    of each long sequence the first span; and every other but the last from 0, and without values from the identity
 *     carry    the state that each span starts from
 *     late     from these states every span but the first, as if each were a sequence; and the sequences that are not long
 *     whole    the kernel as it is, where no sequence turned out to be long: all launches but set-up and this one end at once then
 *
 * Whether and where a sequence is cut follows from what every call of a model has alike (heads, beta, norm) and from places inside the sequence
 * alone: it has the same bits in any batch, and a checkpoint has those of a run that ends there.
 */
#ifndef FKDAI_CUDA_SPANS_H
#define FKDAI_CUDA_SPANS_H

#include "cuda_kernel.h"

/* A kernel's plan, of which it uses no more; it asserts that. */
typedef struct fkdai_cuda_span_plan {
    uint64_t own[2];
} fkdai_cuda_span_plan;

typedef struct fkdai_cuda_spans {
    fkdai_span_rule rule;                        /* next 0: no sequence of the call can be long enough to be cut */
    fkdai_cuda_span_plan early, late;
} fkdai_cuda_spans;

/* Is it a call whose sequences may be cut by this kernel? Fills in spans->rule. Pure. */
int fkdai_cuda_cuts(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *device, const fkdai_desc *desc, fkdai_cuda_spans *spans);

/* Plans its launches, behind kernel->plan: plan->workspace_bytes and plan->choice grow. Pure. */
fkda_status fkdai_cuda_plan_spans(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *device, fkdai_plan *plan, fkdai_cuda_spans *spans);

/* Enqueues them. whole: the kernel's plan of the call. Returns a cudaError_t. */
int fkdai_cuda_run_spans(const fkdai_cuda_kernel *kernel, const fkdai_cuda_spans *spans, const fkdai_cuda_kernel_plan *whole, const fkdai_desc *desc,
                         const fkda_fwd_args *args, void *workspace, fkda_stream stream);

#endif

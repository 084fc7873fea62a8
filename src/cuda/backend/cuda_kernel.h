/*
 * What the CUDA backend knows of a kernel. cuda_kernels.c lists them in order of preference: of those that do the operation and run on the device
 * the first that takes the desc does the call, and their refusals are joined into one sentence.
 */
#ifndef FKDAI_CUDA_KERNEL_H
#define FKDAI_CUDA_KERNEL_H

#include "backend.h"
#include "cuda_device.h"
#include "forward_call.h"

/* A plan as one kernel sees it. */
typedef struct fkdai_cuda_kernel_plan {
    uint64_t own[28];              /* the kernel's own struct; it asserts that it fits */
} fkdai_cuda_kernel_plan;

/* What a forward kernel does for cuda_spans.h. plan, run: as those of fkdai_cuda_kernel, with `spans` in the place of the call's sequences, desc->N of
 * them. rule: the bits of a call follow from it, so it may look only at what every call of a model has alike. */
typedef struct fkdai_cuda_span_kernel {
    fkdai_span_rule (*rule)(const fkdai_cuda_device *device, const fkdai_desc *desc);
    fkda_status (*plan)(const fkdai_cuda_device *device, fkdai_plan *plan, fkdai_cuda_kernel_plan *to);
    int (*run)(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, const fkdai_spans *spans, void *workspace, fkda_stream stream);
} fkdai_cuda_span_kernel;

typedef struct fkdai_cuda_kernel {
    const char *name;              /* begins its refusals: "prefill_sm90" */
    const char *architectures;     /* for people: "sm_90" */
    const char *preferred;         /* why it comes before the others in the list that do the same; NULL: there are none */
    fkdai_operation_id operation;  /* whose desc and args the functions below are given */

    int (*runs_on)(const fkdai_cuda_device *device);

    /* plan->desc lies in CUDA memory on a device that it runs on. Fills in `to`, plan->workspace_bytes and plan->choice, or refuses with a status
     * and a sentence that names the field and the rule. Pure. */
    fkda_status (*plan)(const fkdai_cuda_device *device, fkdai_plan *plan, fkdai_cuda_kernel_plan *to);

    /* What its copies need of addresses. Pure. */
    fkda_status (*check_args)(const fkdai_desc *desc, const void *args);

    /* Describes as packed copies in desc, and marks in *copies, the arguments that plan or check_args would refuse and a copy mends. args may be
     * NULL: addresses are unknown. The backend makes the copies of the forward pass that keep the dtype (cuda_copies.h), the caller the others.
     * What plan fills in may not depend on which arguments are packed for their address. Pure. NULL: of its operation nothing is copied. */
    fkda_status (*suit)(fkdai_desc *desc, const void *args, uint32_t *copies);

    /* Both with the device current, and a cudaError_t as result. load: once a device, before a capture. run: enqueues, as its <kernel>_launch.h
     * says. */
    int (*load)(void);
    int (*run)(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, void *workspace, fkda_stream stream);

    const struct fkdai_cuda_span_kernel *spans;    /* how it does a call whose sequences are cut (cuda_spans.h); NULL: it never does */
} fkdai_cuda_kernel;

extern const fkdai_cuda_kernel fkdai_prefill_sm90, fkdai_prefill_mma, fkdai_decode, fkdai_decode_fused;

/* Best first; NULL ends the list. */
extern const fkdai_cuda_kernel *const fkdai_cuda_kernels[];

#endif

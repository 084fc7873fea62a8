/* Which kernel does a desc on a device. Pure: no device call, no pointer. */
#ifndef FKDAI_CUDA_PLAN_H
#define FKDAI_CUDA_PLAN_H

#include "cuda_spans.h"

/* plan->own of this backend. */
typedef struct fkdai_cuda_own {
    const fkdai_cuda_kernel *kernel;
    fkdai_cuda_kernel_plan plan;
    fkdai_cuda_spans spans;        /* rule.next 0: the kernel is launched once */
    uint32_t strided;              /* arguments that every run copies (cuda_copies.h) */
    uint32_t unaligned;            /* those that a run copies if their address needs it */
    size_t copies_at;              /* of the workspace, behind the kernel's own */
} fkdai_cuda_own;
_Static_assert(sizeof(fkdai_cuda_own) <= FKDAI_PLAN_OWN_BYTES, "fkdai_plan.own is too small");

/* Fills in plan->own, workspace_bytes and choice, or refuses with one sentence. */
fkda_status fkdai_cuda_plan(const fkdai_cuda_machine *machine, fkdai_plan *plan);

/* The same, with arguments described as the caller's copies where that is needed: for the kernel that takes the desc without, else for the first
 * that takes it with them. desc.unaligned gets the bits that the addresses of the others need. */
fkda_status fkdai_cuda_suit(const fkdai_cuda_machine *machine, fkdai_plan *plan, const void *args, uint32_t *copies);

/* Does any kernel run there? */
int fkdai_cuda_has_kernel(const fkdai_cuda_machine *machine, int device);

/* "sm_90": for people, what the kernels of this build that do an operation run on; NULL: "fwd on sm_90, decode on ...". */
void fkdai_cuda_architectures(const fkdai_operation *operation, char *text, size_t size);

#endif

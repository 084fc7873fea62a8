/*
 * Arguments of the forward pass that a kernel takes only packed: where their copies lie in the workspace, what the kernel is told instead, and
 * what is copied before and behind it. Pure but for the last function, which enqueues.
 *
 * A copy of a tensor is contiguous. A copy of a state has one row for each sequence (each checkpoint that there can be), also where the caller has
 * a pool: the copying kernel looks up the slots, so that only those are touched that the call reads or writes.
 */
#ifndef FKDAI_CUDA_COPIES_H
#define FKDAI_CUDA_COPIES_H

#include "cuda_plan.h"

/* ---------------------------------------------------------------- planning */

/* Bits of the arguments that can be copied. */
uint32_t fkdai_cuda_copyable(const fkdai_cuda_kernel *kernel, const fkdai_desc *desc);

/* Bits of those that the kernel does not take as they lie, but takes packed in the same dtype. args may be NULL: addresses are unknown. */
uint32_t fkdai_cuda_mended_by_copies(const fkdai_cuda_kernel *kernel, const fkdai_desc *desc, const void *args);

/* Describes as the caller's copies, and marks in *copies, the arguments that the kernel takes in another dtype alone. */
fkda_status fkdai_cuda_leave_to_caller(const fkdai_cuda_kernel *kernel, fkdai_desc *desc, uint32_t *copies);

/* Sets the bits of desc->unaligned that these addresses need; not those of `copies`, which the caller copies. */
void fkdai_cuda_need_addresses(const fkdai_plan *plan, const fkdai_cuda_own *own, const void *args, uint32_t copies, fkdai_desc *desc);

/* desc, with these arguments packed. */
fkda_status fkdai_cuda_pack(const fkdai_desc *desc, uint32_t copies, fkdai_desc *packed);

/* Bytes of workspace for them. */
size_t fkdai_cuda_copies_bytes(const fkdai_desc *desc, uint32_t copies);

/* Appends ", copies q, k: strides" to text, where there are any. */
void fkdai_cuda_describe_copies(const char *verb, uint32_t copies, const char *why, char *text, size_t size);

/* ---------------------------------------------------------------- running */

/* Which arguments this call copies: those of the plan, and those of desc.unaligned whose address the kernel does not take. Fails where the kernel
 * does not take an address. */
fkda_status fkdai_cuda_choose_copies(const fkdai_plan *plan, const fkdai_cuda_own *own, const void *args, void *workspace, uint32_t *copies);

/* Enqueues the copies in, the kernel, the copies out. With the device current and everything checked. */
fkda_status fkdai_cuda_run(const fkdai_plan *plan, const fkdai_cuda_own *own, uint32_t copies, const void *args, void *workspace,
                           fkda_stream stream);

#endif

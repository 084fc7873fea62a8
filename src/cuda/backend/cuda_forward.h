/* What the forward kernels take of a call alike, and how they are given it. Pure: no device call. */
#ifndef FKDAI_CUDA_FORWARD_H
#define FKDAI_CUDA_FORWARD_H

#include "backend.h"
#include "forward_call.h"

/* Sizes, and how the arguments lie but for their addresses. K and V are the kernel's own matter. */
fkda_status fkdai_forward_check_desc(const fkda_fwd_desc *d);

/* As fkdai_cuda_kernel has them. */
fkda_status fkdai_forward_check_args(const fkdai_desc *desc, const void *args);
fkda_status fkdai_forward_suit(fkdai_desc *desc, const void *args, uint32_t *copies);

fkdai_element fkdai_forward_element(fkda_dtype dtype);
fkdai_strides fkdai_forward_strides(const fkda_fwd_desc *d, fkda_arg argument);
fkdai_tensor fkdai_forward_tensor(const fkda_fwd_desc *d, fkda_arg argument, const void *data);
fkdai_state_rows fkdai_forward_state_rows(const fkda_state_desc *s, const void *slots);
fkdai_gate fkdai_forward_gate(fkda_gate gate);

#endif

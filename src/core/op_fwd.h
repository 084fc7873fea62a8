/* What backends and other operations ask of a desc of the forward pass. */
#ifndef FKDAI_OP_FWD_H
#define FKDAI_OP_FWD_H

#include "extent.h"

/* One of FKDA_ARG_Q to FKDA_ARG_OUT. */
const fkda_tensor_desc *fkdai_fwd_tensor(const fkda_fwd_desc *d, fkda_arg argument);
fkdai_shape fkdai_fwd_shape(const fkda_fwd_desc *d, fkda_arg argument);

/* Describes an argument FKDA_ARG_* as a contiguous tensor in this dtype and marks it in *copies. d stays resolved. Fails only where that many
 * bytes do not fit. */
fkda_status fkdai_fwd_copy(fkda_fwd_desc *d, fkda_arg argument, fkda_dtype dtype, uint32_t *copies);

/* The rules of what every operation over tokens has in common with the forward pass, on a desc of it, in the order in which they are checked. */
fkda_status fkdai_fwd_check_meaning(const fkda_fwd_desc *d);     /* gate, beta, norm, scale */
void fkdai_fwd_fill_tokens(fkda_fwd_desc *d);                     /* defaults of HV, beta_multiplier, dtypes of q ... out */
fkda_status fkdai_fwd_check_token_dtypes(const fkda_fwd_desc *d); /* q ... out, cu_seqlens, A_log, dt_bias */
fkda_status fkdai_fwd_check_heads(const fkda_fwd_desc *d);        /* H, HV, K, V */
fkda_status fkdai_fwd_resolve_tokens(fkda_fwd_desc *d);           /* strides of q ... out */
fkda_status fkdai_fwd_check_elements(const fkda_fwd_desc *d);     /* N*HV*K*V */
fkda_status fkdai_fwd_refuse_f16(const fkda_fwd_desc *d);         /* of any tensor or state */

#endif

/* What backends ask of a desc of the forward pass. */
#ifndef FKDAI_OP_FWD_H
#define FKDAI_OP_FWD_H

#include "extent.h"

/* One of FKDA_ARG_Q to FKDA_ARG_OUT. */
const fkda_tensor_desc *fkdai_fwd_tensor(const fkda_fwd_desc *d, fkda_arg argument);
fkdai_shape fkdai_fwd_shape(const fkda_fwd_desc *d, fkda_arg argument);

/* Describes an argument FKDA_ARG_* as a contiguous tensor in this dtype and marks it in *copies. d stays resolved. Fails only where that many
 * bytes do not fit. */
fkda_status fkdai_fwd_copy(fkda_fwd_desc *d, fkda_arg argument, fkda_dtype dtype, uint32_t *copies);

#endif

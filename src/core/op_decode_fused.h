/* Decode with convolution and gated norm, as a forward pass of one token: what is shared with it is asked of this desc. */
#ifndef FKDAI_OP_DECODE_FUSED_H
#define FKDAI_OP_DECODE_FUSED_H

#include "op_fwd.h"

static inline int fkdai_has_conv(const fkda_decode_fused_desc *d) { return d->conv_weight.dtype != FKDA_NONE; }
static inline int fkdai_has_norm(const fkda_decode_fused_desc *d) { return d->norm_weight != FKDA_NONE; }

/* Dense: B = N sequences of one token. initial_state and final_state are the state. */
void fkdai_fused_as_fwd(const fkda_decode_fused_desc *d, fkda_fwd_desc *fwd);
void fkdai_fused_args_as_fwd(const fkda_decode_fused_args *a, fkda_fwd_args *fwd);

#endif

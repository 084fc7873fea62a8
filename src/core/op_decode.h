/* Decode as a forward pass: S tokens a sequence, from the slots of a state to themselves. What is shared with it is asked of this desc. */
#ifndef FKDAI_OP_DECODE_H
#define FKDAI_OP_DECODE_H

#include "op_fwd.h"

/* Dense: B = N sequences of T = S tokens. Packed: B = 1. initial_state and final_state are the state. */
void fkdai_decode_as_fwd(const fkda_decode_desc *d, fkda_fwd_desc *fwd);
void fkdai_decode_args_as_fwd(const fkda_decode_args *a, fkda_fwd_args *fwd);

#endif

/* Rules on the values of slots and checkpoints, of a call on host memory. */
#ifndef FKDAI_CHECK_STATES_H
#define FKDAI_CHECK_STATES_H

#include "flashkda.h"

/* Workspace that the check needs. desc is resolved. */
int64_t fkdai_check_states_bytes(const fkda_fwd_desc *desc);

/* Every index in use is null or below slot_count, every checkpoint inside its sequence and its row inside checkpoint_count; nothing is written twice,
 * and in place nothing is written that another sequence reads. cu_seqlens is checked. */
fkda_status fkdai_check_states(const fkda_fwd_desc *desc, const fkda_fwd_args *args, void *workspace);

#endif

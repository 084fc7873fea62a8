/* Who uses which slot of a pool: a list in the workspace of a call, and the uses in it that may not be together. */
#ifndef FKDAI_SLOT_USES_H
#define FKDAI_SLOT_USES_H

#include <stdint.h>

/* A slot that is read or written by user i: a sequence, a checkpoint, an entry of an array. */
typedef struct fkdai_slot_use {
    int64_t slot, i;
    int is_write;
} fkdai_slot_use;

/* Two uses of one slot of which one writes and that are not by the same user; NULL: there are none. Sorts the list. */
const fkdai_slot_use *fkdai_find_slot_conflict(fkdai_slot_use *uses, int64_t count, const fkdai_slot_use **other);

#endif

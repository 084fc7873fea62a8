/* Which row of memory a state lies in, and which checkpoints a sequence has. Host memory only, of a checked call. */
#ifndef FKDAI_STATE_ROWS_H
#define FKDAI_STATE_ROWS_H

#include "sequences.h"

#define FKDAI_NO_ROW ((int64_t)-1)    /* reads 0, writes nothing */

/* The row or slot of sequence n. */
int64_t fkdai_initial_row(const fkda_fwd_desc *desc, const fkda_fwd_args *args, int64_t n);
int64_t fkdai_final_row(const fkda_fwd_desc *desc, const fkda_fwd_args *args, int64_t n);

/* The row or slot of checkpoint `number`, counted over all sequences. */
int64_t fkdai_checkpoint_row(const fkda_fwd_desc *desc, const fkda_fwd_args *args, int64_t number);

/* Is the sequence to start from 0, whatever lies in its row? */
int fkdai_is_masked(const fkda_fwd_desc *desc, const fkda_fwd_args *args, int64_t n);
int fkdai_is_null_slot(const fkda_state_desc *state, int64_t index);

/* The checkpoints of one sequence: numbers [first, first + count), some of which may be skipped. */
typedef struct fkdai_checkpoints {
    const fkda_fwd_desc *desc;
    const void *offsets;      /* NULL: every desc->checkpoint_every tokens */
    int64_t first, count;
    int64_t n;                /* the sequence */
} fkdai_checkpoints;

/* Of sequence 0, and then of a sequence n >= c->n, whose length may be anything. Cheap where n grows by little. */
fkdai_checkpoints fkdai_first_checkpoints(const fkda_fwd_desc *desc, const fkda_fwd_args *args);
void fkdai_seek_checkpoints(fkdai_checkpoints *c, const void *cu_seqlens, int64_t n);

/* Tokens after which checkpoint j < count of the sequence is taken; <= 0: it is skipped. */
int64_t fkdai_checkpoint_position(const fkdai_checkpoints *c, int64_t j);

/* The first position beyond `after`; INT64_MAX if there is none. */
int64_t fkdai_next_checkpoint(const fkdai_checkpoints *c, int64_t after);

/* The first j' >= j whose position is `position` > 0; count if there is none. */
int64_t fkdai_find_checkpoint(const fkdai_checkpoints *c, int64_t position, int64_t j);

#endif

/* Which states a decode call reads and writes: rows of args.state and of args.step_states. Host memory only, of a checked call. */
#ifndef FKDAI_DECODE_STATES_H
#define FKDAI_DECODE_STATES_H

#include "state_rows.h"

/* Entry j of sequence n in args.slots, as it lies, and its number there. j is 0 unless commit is EACH. */
int64_t fkdai_decode_slot(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t j);
int64_t fkdai_decode_slot_at(const fkda_decode_desc *d, int64_t n, int64_t j);

/* num_accepted[n]; 1 where there is none. */
int64_t fkdai_decode_accepted(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n);

/* The entry of args.slots that the sequence begins with. */
int64_t fkdai_decode_first_slot(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n);

int fkdai_decode_is_masked(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n);

/* A row of padding: of out alone, which becomes 0. */
int fkdai_decode_is_padding(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n);

/* Row of args.state that the sequence begins with; FKDAI_NO_ROW: from 0. */
int64_t fkdai_decode_initial_row(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n);

/* Row of args.state that gets the state after token t of the `length` of the sequence, or FKDAI_NO_ROW. */
int64_t fkdai_decode_final_row(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t t, int64_t length);

/* Row of args.step_states that gets it, or FKDAI_NO_ROW where there are none. */
int64_t fkdai_decode_step_row(const fkda_decode_desc *d, int64_t n, int64_t t);

/* Of a tree: the token that t goes on from; -1: the initial state. */
int64_t fkdai_decode_parent(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t t);

/* So many of the `length` tokens are needed: the rest would change nothing that is written. */
int64_t fkdai_decode_needed(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t length);

/* Rules on the values of slots, num_accepted and parent (check_decode.c). cu_seqlens is checked, desc is resolved. */
int64_t fkdai_check_decode_bytes(const fkda_decode_desc *d);    /* of workspace */
fkda_status fkdai_check_decode(const fkda_decode_desc *d, const fkda_decode_args *a, void *workspace);

#endif

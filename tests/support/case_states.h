/*
 * Where the states of a case lie: who has which slot, who starts from 0, who writes nothing, where checkpoints are. All of it follows from the
 * case alone, so that a run on plain memory (is_plain) means the same.
 *
 * Slots of states: initial ones are odd, final ones even, but in place every second sequence has one slot for both. Slots of checkpoints go
 * downwards. Slot 0 is nobody's.
 */
#ifndef FKDA_TEST_CASE_STATES_H
#define FKDA_TEST_CASE_STATES_H

#include "case_spec.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CASE_NO_ROW ((int64_t)-1)

/* As arrays hold them; null ones are of both kinds. */
int64_t case_initial_slot(const case_spec *s, int64_t n);
int64_t case_final_slot(const case_spec *s, int64_t n);
int64_t case_checkpoint_slot(const case_spec *s, int64_t number);
uint8_t case_mask(const case_spec *s, int64_t n);
int64_t case_checkpoint_offset(const case_spec *s, int64_t n, int64_t j);
int64_t case_slot_count(const case_spec *s);               /* of the pools of states */
int64_t case_checkpoint_slot_count(const case_spec *s);

int64_t case_per_sequence(const case_spec *s);             /* C */
int64_t case_checkpoint_count(const case_spec *s);         /* rows: those that the case has, and one more that nobody may touch */

/* The checkpoint of row `number`: 1 if it is written, after *position tokens of sequence *n. */
int case_has_checkpoint(const case_spec *s, int64_t number, int64_t *n, int64_t *position);

/* Does sequence n start from 0 although there is an initial state? Is its final state not written? */
int case_starts_from_0(const case_spec *s, int64_t n);
int case_writes_nothing(const case_spec *s, int64_t n);

/* Rows of memory, or CASE_NO_ROW. */
int64_t case_initial_row(const case_spec *s, int64_t n);
int64_t case_final_row(const case_spec *s, int64_t n);
int64_t case_checkpoint_row(const case_spec *s, int64_t number);

#ifdef __cplusplus
}
#endif

#endif

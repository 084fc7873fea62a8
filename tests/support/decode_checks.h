/* What decode promises bit for bit, and where its numbers are hard: the same checks for every program that can run a case of decode. */
#ifndef FKDA_TEST_DECODE_CHECKS_H
#define FKDA_TEST_DECODE_CHECKS_H

#include "case_run.h"

/* Runs a case, outputs and unread states poisoned with this byte. */
typedef case_result decode_runner(const void *context, const case_spec *spec, const input_values *x, uint8_t poison);

typedef struct decode_way {
    decode_runner *run;
    const void *context;
    const char *name;
    int64_t together_from;    /* a call of so many tokens and commit LAST has bits of its own; 0: never */
} decode_way;

/* S tokens in one call, and S calls: the same bits, or where tokens are taken together within the bars of f32. `text`: a case with fp32 states and no
 * pool. */
void check_one_by_one(const decode_way *way, const char *text);

/* Commit NONE, where tokens may be taken together: outputs near to those of S calls, whose bits do not depend on the tokens that come after them, nor on
 * the batch, and are those of commit LAST where it takes them together too; states stay. */
void check_together(const decode_way *way, const char *text);

/* Every sequence alone, and all of them together. */
void check_batch(const decode_way *way, const char *text);

/* A masked slot may hold anything; NaN in a sequence stays there. */
void check_poisoned_slots(const decode_way *way);
void check_nan_stays(const decode_way *way);

/* Thousands of tokens that hardly decay: what a rounded decay would lose in every call is not lost. */
void check_slow_decay(const decode_way *way);

/* exp(A_log) that leaves fp32, where 0 times infinity waits. */
void check_odd_rates(const decode_way *way);

#endif

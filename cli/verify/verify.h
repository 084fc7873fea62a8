/*
 * What flashkda verify finds out. The time of the whole call is the median of a few after a first one; each sequence is also run alone,
 * as a call of its own through views into the same tensors, so that its row shows what it costs without company. The last call is
 * again a whole one: its outputs are what is compared and written.
 */
#ifndef CLI_VERIFY_H
#define CLI_VERIFY_H

#include "accuracy.h"
#include "call.h"
#include "progress.h"
#include "work.h"

enum { VERIFY_TIMED_SEQUENCES = 40, VERIFY_PLAN_BYTES = 512 };    /* more sequences than that: compared, but not timed alone nor listed */

typedef struct verify_row {
    problem_sequence where;
    double ms;                    /* alone; NaN: not timed */
    accuracy out, final_state;
} verify_row;

typedef struct verify_total {
    accuracy sums;
    double bar;                   /* on M1; on M2 accuracy_m2_factor() times that */
    const char *answer;           /* "file" or "ref" */
    fkda_dtype got_dtype, want_dtype;
} verify_total;

typedef struct verify_result {
    fkda_backend backend;
    char plan[VERIFY_PLAN_BYTES];
    call_times times;             /* of the whole call */
    int64_t row_count;
    verify_row *rows;             /* one a sequence */
    verify_total out, final_state, checkpoints;
    int has_checkpoints;
    int is_inside;                /* everything inside its bar */
} verify_result;

/* Runs the problem and compares. On failure *r holds nothing. */
fkda_status verify_measure(const work_options *w, const safetensors_file *file, problem *p, progress *bar, verify_result *r);
void verify_free(verify_result *r);

int verify_step_count(void);      /* steps that verify_measure makes on the progress bar, beside one for each timed sequence */

void verify_print_text(const work_options *w, const problem *p, const verify_result *r);
void verify_print_json(const work_options *w, const problem *p, const verify_result *r);

#endif

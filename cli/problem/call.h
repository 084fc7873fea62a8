/* A problem that is ready to run: plan, pointers, workspace. Whole, or one of its sequences alone through views into the same tensors. */
#ifndef CLI_CALL_H
#define CLI_CALL_H

#include "problem.h"

typedef struct call {
    operation op;
    const problem *from;      /* decode begins with its initial states */
    size_t layer_bytes;       /* of final_state */
    fkda_plan plan;
    fkda_fwd_args args;
    memory_block workspace;
    fkda_memory memory;
} call;

/* On failure *c holds nothing. */
fkda_status call_prepare(const problem *p, call *c);
fkda_status call_prepare_sequence(const problem *p, int64_t n, call *c);    /* writes to the same rows of out and final_state, and no checkpoints */
fkda_status call_run(const call *c);                                         /* returns when the outputs are written. Decode: goes on from the states that are there */
void call_free(call *c);

/* ---------------------------------------------------------------- time */

typedef struct call_times {
    int runs;
    double median_ms, min_ms, p10_ms, p90_ms, max_ms;
} call_times;

/* How long to measure: at least min_runs, then until budget_ms are spent or max_runs are made. */
typedef struct call_patience { int min_runs, max_runs; double budget_ms; } call_patience;

enum { CALL_MAX_RUNS = 1000 };

/* Runs the call as often as the patience says. Warming up is the caller's choice: one call_run before. On host memory by the clock; on
 * CUDA memory by events around replays of a CUDA graph, with nothing of the call in the L2 cache. Decode: each run from the initial states, put
 * back before its clock starts, and the time is that of one launch. */
fkda_status call_measure(const call *c, const call_patience *patience, call_times *times);

double call_clock_ms(void);

#endif

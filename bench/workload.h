/* What fkda_bench_cpu times: one sequence of T tokens, H heads, K = V = 128, bf16, bounded gate, random values. */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <stdint.h>
#include <time.h>

#include "flashkda.h"
#include "plain_loop.h"

enum { D = PLAIN_WIDTH, MAX_REPEATS = 1000, MAX_NEIGHBOURS = 256 };

typedef struct workload {
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    uint16_t *q, *k, *v, *g, *out, *plain_out;    /* [T,H,D] */
    uint16_t *beta;                               /* [T,H] */
    float *A_log, *dt_bias;                       /* [H], [H,D] */
    float *final_state, *plain_state;             /* [H,D,D] NHVK, [D,D] */
    void *workspace;
    size_t workspace_bytes;
} workload;

/* Owned by nobody: a benchmark ends soon. Every failure ends the program. */
workload make_workload(int64_t T, int64_t H);
void run_flashkda(workload *w, int threads);
double time_call(workload *w, int threads);    /* wall time, ns */

/* Times in any unit; summarise sorts them and finds the quantiles. */
typedef struct sample {
    double ns[MAX_REPEATS];
    double median, low, high, p90;    /* low, high: quartiles */
} sample;
void summarise(sample *s, int count);

float from_bf16(uint16_t bits);
double seconds(clockid_t clock);
_Noreturn void die(const char *what);    /* prints it, and fkda_last_error() */

/* bench_busy.c: short and long calls beside `neighbours` processes that do nothing but run. */
void measure_busy(const char *isa, int neighbours, int is_json);

#endif

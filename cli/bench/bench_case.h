/* One case of flashkda bench: what it is, how it is run, how it is shown. */
#ifndef CLI_BENCH_CASE_H
#define CLI_BENCH_CASE_H

#include "call.h"
#include "device.h"
#include "progress.h"

typedef struct bench_case {
    const char *suite;
    char name[96];
    operation_kind op;
    int64_t T, H, HV, K, V;       /* decode: T = N S */
    int64_t S, slots;             /* decode: tokens of each sequence; slots of the pool, 0: no pool */
    fkda_gate gate;
    fkda_dtype g;                 /* of g; FKDA_NONE: bf16 */
    problem_gates gates;          /* what the gate's inputs look like */
    const char *lens;             /* "300,1,17" or "64x128", 64 sequences of 128; NULL or "": dense */
    int64_t N;                    /* sequences: 1 if a dense prefill */
    int64_t *len_values;          /* [N]; NULL: dense */
} bench_case;

typedef struct bench_list { bench_case *cases; int count; } bench_list;

typedef struct bench_settings {
    fkda_backend backend;
    int32_t threads;
    call_patience patience;
} bench_settings;

typedef struct bench_result {
    fkda_backend backend;
    char plan[512];
    choice choice;
    call_times times;
    device_facts device;          /* cuda: read behind the last run */
} bench_result;

extern const char *const bench_suite_names[];    /* NULL ends the list */

/* The suite's cases, or the case of the options, behind those that are there. T 0: the sum of lens, or 1024. */
fkda_status bench_add_suite(bench_list *list, const char *suite);
fkda_status bench_add_own(bench_list *list, const bench_case *c);
fkda_status bench_spread_gates(bench_list *list);    /* every case once for each of problem_gates */
void bench_list_free(bench_list *list);

/* Would it run, and fit into memory? Nothing is generated yet. */
fkda_status bench_query(const bench_case *c, const bench_settings *s);

/* Generates, warms up, times. Decode: states of so many layers that they come from memory; the time is that of one. */
fkda_status bench_run(const bench_case *c, const bench_settings *s, progress *bar, bench_result *r);
int bench_steps(void);            /* steps on the progress bar a case */

void bench_print_heading(void);
void bench_print_row(const bench_case *c, const bench_result *r);
void bench_print_json(const bench_case *c, const bench_settings *s, const bench_result *r);

/* Memory per sequence of Kimi Linear's layers, for the suite kimi-linear. */
fkda_status bench_print_memory(int is_json);

#endif

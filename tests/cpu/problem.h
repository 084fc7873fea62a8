/* A random KDA problem for the CPU tests: a desc, owned tensors, and its answer by any backend. */
#ifndef TEST_PROBLEM_H
#define TEST_PROBLEM_H

#include <stdint.h>

#include "flashkda.h"

/* What a test says about its problem; zero means the usual. */
typedef struct problem_options {
    int64_t T, H, HV, K, V;              /* 0: 1 head, K = V = 128 */
    int64_t B;                           /* dense rows; 0: 1 */
    const int64_t *lengths;              /* packed: lengths of the sequences; T is their sum */
    int64_t N;
    fkda_dtype input, output;            /* q, k, v, g, beta; out. NONE: bf16; out f32 */
    fkda_dtype cu_seqlens;               /* packed: NONE is I64 */
    fkda_gate gate;
    fkda_beta beta_kind;
    int32_t beta_multiplier;
    fkda_qk_norm qk_norm;
    fkda_dtype A_log, dt_bias, initial_state, final_state;
    fkda_state_layout state_layout;
    float lower_bound;                   /* 0: -5 */
    float g_mean, g_spread, beta_mean;   /* logits; g_spread 0: 1 */
    int has_same_keys, has_padding;      /* all keys equal; strides with gaps, filled with NaN */
    uint64_t seed;
    int64_t first_token;                 /* where in the endless random stream of this seed the sequence starts (dense, one row) */
} problem_options;

typedef struct problem {
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    void *memory[16];                    /* owned */
    int memory_count;
    int64_t out_elems, state_elems;
} problem;

problem problem_make(const problem_options *options);
void problem_free(problem *p);

/* Runs it; every output and the workspace are poisoned first. */
fkda_status problem_run(problem *p, fkda_backend backend, int threads);

float problem_out(const problem *p, int64_t i);      /* element i of out, gaps counted */
float problem_state(const problem *p, int64_t i);

/* Relative RMS difference of out (of final_state) between two runs of one problem; gaps do not count. */
double problem_out_error(const problem *got, const problem *want);
double problem_state_error(const problem *got, const problem *want);

double random_normal(uint64_t seed, uint64_t index);
double random_unit(uint64_t seed, uint64_t index);    /* [0, 1) */
void *test_alloc(size_t bytes);

#endif

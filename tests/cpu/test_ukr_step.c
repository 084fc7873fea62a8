/* Every instruction set's decode micro-kernels against one token in double. Rows between those of a panel, and what lies behind, stay. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "each_ukr.h"
#include "problem.h"

enum { R = FKDAI_CPU_STEP_ROWS, W = FKDAI_CPU_MAX_WIDTH, STRIDE = W + 8, ROOM = W * STRIDE };

/* A token whose decays are of every size: near 1 as what is lost, elsewhere as what is kept. */
static fkdai_cpu_token make_token(uint64_t seed, double *alpha)
{
    fkdai_cpu_token t;
    for (int c = 0; c < W; ++c) {
        const double log2_a = c % 3 == 0 ? -1e-3 * random_unit(seed, (uint64_t)c) : c % 3 == 1 ? -random_unit(seed, (uint64_t)c) : -20 * random_unit(seed, (uint64_t)c);
        const int is_near_1 = log2_a > -0.5;
        const uint32_t all = is_near_1 ? 0xffffffffu : 0;
        t.gate_last[c] = (float)(is_near_1 ? exp2(log2_a) - 1 : exp2(log2_a));
        memcpy(&t.gate_keep[c], &all, sizeof all);
        alpha[c] = (double)t.gate_last[c] + is_near_1;
        t.k[c] = (float)(random_normal(seed + 1, (uint64_t)c) / sqrt(W));
        t.q[c] = (float)(random_normal(seed + 2, (uint64_t)c) / W);
    }
    t.beta = (float)random_unit(seed, 1000);
    return t;
}

/* Column of S with K channels, `step` elements apart: the token in double. */
static double step_in_double(const fkdai_cpu_token *t, const double *alpha, int K, const float *before, int step, float v, double *after)
{
    double predicted = 0, out = 0;
    for (int c = 0; c < K; ++c) {
        after[c] = (double)before[c * step] * alpha[c];
        predicted += after[c] * (double)t->k[c];
    }
    const double u = (double)t->beta * ((double)v - predicted);
    for (int c = 0; c < K; ++c) {
        after[c] += (double)t->k[c] * u;
        out += after[c] * (double)t->q[c];
    }
    return out;
}

/* columns: `count` of them, channels `stride` apart; else rows of K. */
static void check_part(const fkdai_cpu_ukr *u, int K, int count, int is_columns)
{
    static float state[ROOM], before[ROOM];
    double alpha[W], after[W], out_error = 0, out_norm = 0, state_error = 0, state_norm = 0;
    float v[W], out[W];
    const fkdai_cpu_token token = make_token((uint64_t)(K + count), alpha);
    for (int i = 0; i < ROOM; ++i) state[i] = before[i] = (float)random_normal(7, (uint64_t)i);
    for (int i = 0; i < count; ++i) v[i] = (float)random_normal(8, (uint64_t)i), out[i] = NAN;
    if (is_columns) u->step_columns(&token, K, STRIDE, count, v, state, out);
    else u->step_rows(&token, K, count, v, state, out);
    for (int i = 0; i < count; ++i) {
        const int first = is_columns ? i : i * K, step = is_columns ? STRIDE : 1;
        const double want = step_in_double(&token, alpha, K, before + first, step, v[i], after);
        out_error += pow((double)out[i] - want, 2), out_norm += want * want;
        for (int c = 0; c < K; ++c) {
            state_error += pow((double)state[first + c * step] - after[c], 2), state_norm += after[c] * after[c];
            before[first + c * step] = state[first + c * step];
        }
    }
    assert_memory_equal(state, before, sizeof state);
    print_message("%s %s of %d: out %.1e, S %.1e\n", u->name, is_columns ? "columns" : "rows", K, sqrt(out_error / out_norm), sqrt(state_error / state_norm));
    assert_true(sqrt(out_error / out_norm) < 1e-6 && sqrt(state_error / state_norm) < 2e-7);
}

static void one_token(void **state)
{
    (void)state;
    FOR_EACH_UKR(u)
        for (int K = 64; K <= W; K += 64) {
            for (int width = FKDAI_CPU_STEP_COLUMNS; width <= W; width += FKDAI_CPU_STEP_COLUMNS) check_part(u, K, width, 1);
            for (int rows = R; rows <= 3 * R; rows += 2 * R) check_part(u, K, rows, 0);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_token)};
    return cmocka_run_group_tests_name("ukr_step", tests, NULL, NULL);
}

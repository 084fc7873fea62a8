/* Every instruction set's elementwise micro-kernels against double: gates, sigmoid, decay of a chunk, rows in and out. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "dtype.h"
#include "each_ukr.h"
#include "problem.h"

enum { W = FKDAI_CPU_MAX_WIDTH };

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* Relative difference; results below the smallest normal number may be 0. */
static double relative(double got, double want)
{
    if (fabs(want) < 1.2e-38 && got >= 0 && got < 1.2e-38) return 0;
    return fabs(got - want) / fabs(want);
}

/* Runs the gate over `count` values of g from `from` to `to`; the worst relative errors of a and of log2 a. */
static void sweep_gate(const fkdai_cpu_ukr *u, const fkdai_cpu_gate *gate, double from, double to, int count, double *worst_alpha, double *worst_log)
{
    *worst_alpha = *worst_log = 0;
    for (int at = 0; at < count; at += W) {
        float g[W], alpha[W], sum[W] = {0};
        for (int c = 0; c < W; ++c) g[c] = (float)(from + (to - from) * (at + c) / count);
        u->gate(gate, g, FKDA_F32, W, alpha, sum);
        for (int c = 0; c < W; ++c) {
            const double x = (double)g[c] * (double)gate->rate_log2 / 1.4426950408889634, bound = (double)gate->lower_bound_log2;
            double want = gate->kind == FKDA_GATE_BOUNDED ? bound * sigmoid(x) : (double)g[c] * 1.4426950408889634;
            if (gate->kind == FKDA_GATE_SOFTPLUS) want = -(double)gate->rate_log2 * softplus((double)g[c]);
            if (want < (double)FKDAI_CPU_LOG2_DECAY_MIN) want = (double)FKDAI_CPU_LOG2_DECAY_MIN;
            *worst_log = fmax(*worst_log, relative((double)sum[c], want));
            *worst_alpha = fmax(*worst_alpha, relative((double)alpha[c], exp2((double)sum[c])));
        }
    }
}

static void exponential_is_accurate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) {
        const fkdai_cpu_gate gate = {.kind = FKDA_GATE_PRECOMPUTED};
        double alpha, log;
        sweep_gate(u, &gate, -87, 0, 1 << 18, &alpha, &log);
        print_message("%s: 2^x within %.2e, x = g log2(e) within %.2e\n", u->name, alpha, log);
        assert_true(alpha < 1.3e-7);
        assert_true(log < 1.2e-7);
        sweep_gate(u, &gate, -1e-3, 0, 1 << 16, &alpha, &log);
        assert_true(alpha < 1.3e-7);
        sweep_gate(u, &gate, -3e4, -80, 1 << 16, &alpha, &log);
        assert_true(alpha < 1.3e-7);
    }
}

static void bounded_gate_is_accurate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) {
        const fkdai_cpu_gate gate = {.kind = FKDA_GATE_BOUNDED, .rate_log2 = 1.442695041f, .lower_bound_log2 = -7.213475204f};
        double alpha, log;
        sweep_gate(u, &gate, -30, 87, 1 << 18, &alpha, &log);
        print_message("%s: bounded gate, log2 a within %.2e, a within %.2e\n", u->name, log, alpha);
        assert_true(log < 2.5e-6);       /* e^30 magnifies the rounding of its argument; at |x| < 8: */
        assert_true(alpha < 1.3e-7);
        sweep_gate(u, &gate, -8, 8, 1 << 18, &alpha, &log);
        assert_true(log < 8e-7);
    }
}

static void softplus_gate_is_accurate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) {
        const fkdai_cpu_gate gate = {.kind = FKDA_GATE_SOFTPLUS, .rate_log2 = 2.5f};
        double alpha, log;
        sweep_gate(u, &gate, -30, 87, 1 << 18, &alpha, &log);
        print_message("%s: softplus gate, log2 a within %.2e, a within %.2e\n", u->name, log, alpha);
        assert_true(log < 2.5e-6);
        assert_true(alpha < 1.3e-7);
        sweep_gate(u, &gate, -8, 8, 1 << 18, &alpha, &log);
        assert_true(log < 8e-7);
    }
}

/* Whatever is finite gives a in [0, 1] and a finite log; NaN stays NaN. */
static void gates_stay_in_range(void **state)
{
    (void)state;
    static const float rates[] = {3.402823466e38f, 1.175494351e-38f, 1};
    FOR_EACH_UKR(u)
        for (int kind = FKDA_GATE_BOUNDED; kind <= FKDA_GATE_PRECOMPUTED; ++kind)
            for (int r = 0; r < 3; ++r) {
                fkdai_cpu_gate gate = {.kind = (fkda_gate)kind, .rate_log2 = rates[r], .lower_bound_log2 = -7};
                uint16_t g[W];
                float alpha[W], sum[W] = {0};
                for (int c = 0; c < W; ++c) {
                    const uint64_t bits = (uint64_t)(random_unit(9, (uint64_t)(c + kind * W)) * 65536);
                    g[c] = (bits & 0x7f80u) == 0x7f80u ? 0xff7fu : (uint16_t)bits;
                    gate.bias[c] = c % 3 == 0 ? 3e38f : c % 3 == 1 ? -3e38f : 0;
                }
                g[5] = 0x7fc0;
                u->gate(&gate, g, FKDA_BF16, W, alpha, sum);
                for (int c = 0; c < W; ++c) {
                    if (c == 5) assert_true(alpha[c] != alpha[c] && sum[c] != sum[c]);
                    else assert_true(alpha[c] >= 0 && alpha[c] <= 1 && sum[c] <= 0 && isfinite(sum[c]));
                }
            }
}

/* gate_last S + (gate_keep & S) is 2^gate_cum S, and what is lost is right to a few ulp near 1. */
static void decay_of_a_chunk_is_accurate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) {
        fkdai_cpu_chunk *const chunk = test_alloc(sizeof *chunk);
        double worst = 0;
        for (int at = 0; at < 1 << 12; ++at) {
            for (int c = 0; c < W; ++c) chunk->gate_cum[c] = (float)-exp2(-30 + 37 * random_unit(3, (uint64_t)(at * W + c)));
            u->close(W, chunk);
            for (int c = 0; c < W; ++c) {
                uint32_t mask;
                memcpy(&mask, &chunk->gate_keep[c], sizeof mask);
                const double x = (double)chunk->gate_cum[c] * 0.6931471805599453;
                worst = fmax(worst, relative((double)chunk->gate_last[c], mask ? expm1(x) : exp(x)));
                assert_true(mask == 0 || mask == UINT32_MAX);
            }
        }
        print_message("%s: decay of a chunk within %.2e\n", u->name, worst);
        assert_true(worst < 2.5e-7);
        free(chunk);
    }
}

static void sigmoid_is_accurate(void **state)
{
    (void)state;
    FOR_EACH_UKR(u) {
        double worst = 0;
        for (int at = 0; at < 1 << 14; at += FKDAI_CPU_CHUNK) {
            float x[FKDAI_CPU_CHUNK], y[FKDAI_CPU_CHUNK];
            for (int i = 0; i < FKDAI_CPU_CHUNK; ++i) x[i] = y[i] = (float)(-10 + 100.0 * (at + i) / (1 << 14));
            u->sigmoid(2, y);
            for (int i = 0; i < FKDAI_CPU_CHUNK; ++i) worst = fmax(worst, relative((double)y[i], 2 * sigmoid((double)x[i])));
        }
        print_message("%s: sigmoid within %.2e\n", u->name, worst);
        assert_true(worst < 9e-7);
    }
}

static void rows_are_normalised(void **state)
{
    (void)state;
    static const double sizes[] = {1, 1e-6, 1e18, 3e35, 0};
    FOR_EACH_UKR(u)
        for (int s = 0; s < 5; ++s)
            for (int64_t width = 64; width <= W; width += 64) {
                float x[W], row[W];
                double squares = 1e-6, error = 0;
                for (int c = 0; c < width; ++c) {
                    x[c] = (float)(sizes[s] * random_normal(4, (uint64_t)c));
                    squares += (double)x[c] * (double)x[c];
                }
                u->load_row(x, FKDA_F32, width, 1, 0.25f, row);
                for (int c = 0; c < width; ++c) {    /* no fmax(): gcc 12 for aarch64 crashes when it vectorises this one */
                    const double difference = fabs((double)row[c] - 0.25 * (double)x[c] / sqrt(squares));
                    if (difference > error) error = difference;
                }
                assert_true(error < 1e-7);
            }
}

static void rows_are_rounded_once(void **state)
{
    (void)state;
    FOR_EACH_UKR(u)
        for (uint64_t at = 0; at < 1 << 12; ++at) {
            float row[W], copy[W];
            uint16_t out[W];
            for (uint64_t c = 0; c < W; ++c) {
                const uint32_t bits = (uint32_t)(random_unit(6, at * W + c) * 4294967296.0);
                memcpy(&row[c], &bits, sizeof bits);
            }
            row[0] = NAN;
            row[1] = INFINITY;
            u->store_row(row, W, FKDA_BF16, out);
            for (int c = 0; c < W; ++c) assert_int_equal(out[c], fkdai_f32_to_bf16(row[c]));
            u->store_row(row, W, FKDA_F32, copy);
            assert_memory_equal(row, copy, sizeof row);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exponential_is_accurate),      cmocka_unit_test(bounded_gate_is_accurate), cmocka_unit_test(softplus_gate_is_accurate),
        cmocka_unit_test(gates_stay_in_range),          cmocka_unit_test(decay_of_a_chunk_is_accurate), cmocka_unit_test(sigmoid_is_accurate),
        cmocka_unit_test(rows_are_normalised),          cmocka_unit_test(rows_are_rounded_once),
    };
    return cmocka_run_group_tests_name("ukr_math", tests, NULL, NULL);
}

/* The CPU backend against the reference: every kind of input it takes, all short lengths, extremes; and what it refuses. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bars.h"
#include "counter_rng.h"
#include "problem.h"

#define OUT_BAR BAR(f32, any).out
#define STATE_BAR BAR(f32, any).state

static void expect_within(const char *name, const problem_options *options, double out_bar, double state_bar)
{
    static int number;
    problem got = problem_make(options), want = problem_make(options);
    want.desc.out.dtype = got.desc.out.dtype;
    assert_int_equal(problem_run(&got, FKDA_BACKEND_CPU, 2), FKDA_OK);
    if (!draw_is_wanted(0, 4, number++)) {    /* the reference takes most of the time */
        problem_free(&got);
        problem_free(&want);
        return;
    }
    assert_int_equal(problem_run(&want, FKDA_BACKEND_REF, 1), FKDA_OK);
    const double out = problem_out_error(&got, &want), state = problem_state_error(&got, &want);
    if (name != NULL) print_message("%-28s out %.1e state %.1e\n", name, out, state);
    if (!(out <= out_bar && state <= state_bar))
        fail_msg("%s T=%lld: out %.2e (bar %.1e), state %.2e (bar %.1e)", name ? name : "", (long long)got.desc.T, out, out_bar, state,
                 state_bar);
    problem_free(&got);
    problem_free(&want);
}

static void all_short_lengths(void **state)
{
    (void)state;
    for (int64_t T = 1; T <= 80; ++T) {
        const problem_options options = {.T = T, .H = 1, .HV = 2, .initial_state = FKDA_F32, .seed = (uint64_t)T};
        expect_within(NULL, &options, OUT_BAR, STATE_BAR);
    }
    const problem_options empty = {.T = 0, .initial_state = FKDA_F32};
    expect_within("T = 0", &empty, OUT_BAR, 0);
}

static void every_kind_of_input(void **state)
{
    (void)state;
    static const int64_t lengths[] = {0, 17, 1, 0, 64, 33, 0};
    static const problem_options kinds[] = {
        {.T = 100, .K = 64, .V = 64}, {.T = 100, .K = 64, .V = 128}, {.T = 100, .K = 128, .V = 64},
        {.T = 90, .input = FKDA_F32, .qk_norm = FKDA_QK_NORM_L2, .state_layout = FKDA_STATE_NHKV, .initial_state = FKDA_F32},
        {.T = 90, .gate = FKDA_GATE_SOFTPLUS}, {.T = 90, .gate = FKDA_GATE_SOFTPLUS, .A_log = FKDA_BF16, .dt_bias = FKDA_BF16},
        {.T = 90, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .H = 3, .HV = 6}, {.T = 90, .A_log = FKDA_BF16}, {.T = 90, .dt_bias = FKDA_BF16},
        {.T = 90, .gate = FKDA_GATE_PRECOMPUTED, .g_mean = -1, .input = FKDA_F32},
        {.T = 90, .beta_multiplier = 2}, {.T = 40, .beta_kind = FKDA_BETA_ACTIVATED, .beta_mean = 0.5f},
        {.T = 90, .initial_state = FKDA_BF16, .state_layout = FKDA_STATE_NHKV},
        {.T = 90, .B = 3, .H = 5, .has_padding = 1, .initial_state = FKDA_F32},
        {.lengths = lengths, .N = 7, .H = 2, .initial_state = FKDA_F32},
        {.lengths = lengths, .N = 7, .H = 2, .cu_seqlens = FKDA_I32, .has_padding = 1},
        {.T = 90, .lower_bound = -0.001f}, {.T = 90, .H = 9},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; ++i) {
        char name[32];
        snprintf(name, sizeof name, "kind %zu", i);
        expect_within(name, &kinds[i], OUT_BAR, STATE_BAR);
    }
    expect_within("bf16 out and state", &(problem_options){.T = 200, .output = FKDA_BF16, .final_state = FKDA_BF16},
                  BAR(stored, bf16).out, BAR(stored, bf16).state);
}

static void extremes(void **state)
{
    (void)state;
    static const struct { const char *name; problem_options options; } cases[] = {
        {"all gates -5", {.T = 300, .g_mean = 60, .g_spread = 0.01f}},
        {"closed now and then", {.T = 300, .gate = FKDA_GATE_PRECOMPUTED, .g_spread = 200}},
        {"softplus, log a -1e4", {.T = 100, .gate = FKDA_GATE_SOFTPLUS, .g_mean = 1e4f, .initial_state = FKDA_F32}},
        {"softplus, N(0, 30)", {.T = 300, .gate = FKDA_GATE_SOFTPLUS, .g_spread = 30}},
        {"same keys, beta logit 8", {.T = 1024, .g_mean = -8, .has_same_keys = 1, .beta_mean = 8}},
        {"slow, logit -8", {.T = 4096, .g_mean = -8}},
        {"long memory, logit -16", {.T = 16384, .g_mean = -16, .g_spread = 0.01f}},
        {"long memory, beta -> 0", {.T = 4096, .g_mean = -7, .g_spread = 0.01f, .beta_mean = -30, .initial_state = FKDA_F32}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) expect_within(cases[i].name, &cases[i].options, OUT_BAR, STATE_BAR);

    /* Eigenvalues at -0.9994 keep every rounding of |k^|^2 for the whole sequence: T times one ulp. */
    const problem_options oscillating = {.T = 1024, .g_mean = -16, .has_same_keys = 1, .beta_mean = 8, .beta_multiplier = 2};
    expect_within("same keys, beta 2, no gate", &oscillating, BAR(f32, undamped).out, BAR(f32, undamped).state);
}

/* One-hot keys, no decay, b in {0, 1/2, 1} and small integers: every product is exact, so the answer is the reference's bit for bit. */
static void exact_arithmetic(void **state)
{
    (void)state;
    const problem_options options = {.T = 77, .input = FKDA_F32, .gate = FKDA_GATE_PRECOMPUTED, .beta_kind = FKDA_BETA_ACTIVATED,
                                     .qk_norm = FKDA_QK_NORM_NONE};
    problem got = problem_make(&options), want = problem_make(&options);
    for (int x = 0; x < 2; ++x) {
        problem *const p = x ? &want : &got;
        float *const q = p->memory[0], *const k = p->memory[1], *const v = p->memory[2], *const g = p->memory[3], *const beta = p->memory[4];
        p->desc.scale = 0.5f;
        for (int64_t t = 0; t < 77; ++t) {
            beta[t] = (float)(t % 3) * 0.5f;
            for (int64_t c = 0; c < 128; ++c) {
                k[t * 128 + c] = c == t * 7 % 12 ? 1 : 0;
                q[t * 128 + c] = c == t * 5 % 12 ? 1 : 0;
                v[t * 128 + c] = (float)((t * 31 + c * 17) % 9 - 4);
                g[t * 128 + c] = 0;
            }
        }
    }
    assert_int_equal(problem_run(&got, FKDA_BACKEND_CPU, 2), FKDA_OK);
    assert_int_equal(problem_run(&want, FKDA_BACKEND_REF, 1), FKDA_OK);
    for (int64_t i = 0; i < got.out_elems; ++i) assert_true(problem_out(&got, i) == problem_out(&want, i));
    for (int64_t i = 0; i < got.state_elems; ++i) assert_true(problem_state(&got, i) == problem_state(&want, i));
    problem_free(&got);
    problem_free(&want);
}

/* Any finite bf16 in q, k, g and beta, every gate: finite out. */
static void finite_in_finite_out(void **state)
{
    (void)state;
    for (int gate = FKDA_GATE_BOUNDED; gate <= FKDA_GATE_SOFTPLUS; ++gate) {
        problem p = problem_make(&(problem_options){.T = 333, .gate = (fkda_gate)gate, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .H = 2});
        for (int tensor = 0; tensor < 5; ++tensor) {
            if (tensor == 2) continue;    /* v of 1e38 makes sums that fp32 does not hold */
            uint16_t *const data = p.memory[tensor];
            const int64_t count = tensor == 4 ? 333 * 2 : 333 * 2 * 128;
            for (int64_t i = 0; i < count; ++i) {
                data[i] = (uint16_t)(random_unit(77 + (uint64_t)tensor, (uint64_t)i) * 65536);
                if ((data[i] & 0x7f80u) == 0x7f80u) data[i] = 0x7f7f;
            }
        }
        assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 2), FKDA_OK);
        for (int64_t i = 0; i < p.out_elems; ++i) assert_true(isfinite(problem_out(&p, i)));
        for (int64_t i = 0; i < p.state_elems; ++i) assert_true(isfinite(problem_state(&p, i)));
        problem_free(&p);
    }
}

static void refusals_name_the_value(void **state)
{
    (void)state;
    problem p = problem_make(&(problem_options){.T = 4, .K = 96});
    assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 1), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "K = 96"));
    problem_free(&p);
    p = problem_make(&(problem_options){.T = 4, .V = 32});
    assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 1), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "V = 32"));
    problem_free(&p);
    p = problem_make(&(problem_options){.T = 4});
    p.desc.memory = FKDA_MEMORY_CUDA;
    assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 1), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "CUDA memory"));
    problem_free(&p);
}

int main(void)
{
    char text[256];
    const fkda_status status = fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text);
    printf("%s\n", text);
    if (status != FKDA_OK) return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_short_lengths), cmocka_unit_test(every_kind_of_input),  cmocka_unit_test(extremes),
        cmocka_unit_test(exact_arithmetic),  cmocka_unit_test(finite_in_finite_out), cmocka_unit_test(refusals_name_the_value),
    };
    return cmocka_run_group_tests_name("cpu_accuracy", tests, NULL, NULL);
}

/* The tools of the suites: the metrics see what they must see, guards notice, the table of cases is sound. */
#include "harness.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>

#include "bars.h"
#include "case_states.h"
#include "case_run.h"
#include "counter_rng.h"
#include "dtype.h"
#include "error_metrics.h"

enum { ROWS = 2048, HEADS = 2, WIDTH = 4, COUNT = ROWS * HEADS * WIDTH };

static float x[COUNT], ref[COUNT];

static void draw(void)
{
    for (uint64_t i = 0; i < COUNT; ++i) x[i] = ref[i] = (float)rng_normal(1, i);
}

static const int64_t bounds[] = {0, 1, ROWS};    /* a sequence of one token, and the rest */
static double m2(int64_t head) { return metric_m2_head(x, ref, bounds, 2, head, HEADS, WIDTH); }

static void test_metrics(void **state)
{
    (void)state;
    draw();
    assert_true(metric_m1(x, ref, COUNT) == 0 && m2(0) == 0 && metric_m3(x, ref, ROWS * HEADS, WIDTH) == 0);
    for (int i = 0; i < COUNT; ++i) x[i] = ref[i] * 1.0625f;
    assert_true(fabs(metric_m1(x, ref, COUNT) - 0.0625) < 1e-6 && fabs(m2(1) - 0.0625) < 1e-6);
    assert_true(fabs(metric_m3(x, ref, ROWS * HEADS, WIDTH) - 16) < 1e-3);

    draw();    /* a zeroed tile of one head hides in M1, not in M2 */
    for (int t = 161; t < 177; ++t)
        for (int c = 0; c < WIDTH; ++c) x[(t * HEADS + 1) * WIDTH + c] = 0;
    assert_true(metric_m1(x, ref, COUNT) < 0.1 && m2(0) == 0 && fabs(m2(1) - 1) < 1e-6);

    draw();    /* a row alone in its sequence: held to its own size while that is usual, then to 0.05 of the head's */
    for (int c = 0; c < WIDTH; ++c) x[c] = 0;
    assert_true(fabs(m2(0) - 1) < 1e-6);
    for (int c = 0; c < WIDTH; ++c) ref[c] *= 1e-6f;
    assert_true(m2(0) > 1e-7 && m2(0) < 1e-4);

    draw();    /* NaN and infinity are never inside a bar */
    x[5] = NAN;
    assert_true(isinf(metric_m1(x, ref, COUNT)) && isinf(m2(1)) && isinf(metric_m3(x, ref, ROWS * HEADS, WIDTH)));
    x[5] = INFINITY;
    assert_true(isinf(metric_m1(x, ref, COUNT)) && isinf(m2(1)));
    memset(ref, 0, sizeof ref);    /* nor is anything but 0 where 0 is due */
    memset(x, 0, sizeof x);
    assert_true(metric_m1(x, ref, COUNT) == 0 && m2(0) == 0);
    x[0] = 1e-30f;
    assert_true(isinf(metric_m1(x, ref, COUNT)) && isinf(m2(0)));
}

static void test_undone_rounding(void **state)
{
    (void)state;
    draw();
    ref[0] = 0, ref[1] = -0x1p-140f, ref[2] = 1, ref[3] = 0x1.fffp-1f, ref[4] = -0x1.fep127f;
    for (int i = 0; i < COUNT; ++i) x[i] = fkdai_bf16_to_f32(fkdai_f32_to_bf16(ref[i]));
    assert_true(metric_m1(x + 5, ref + 5, COUNT - 5) > 1e-3);
    metric_undo_bf16(x, ref, COUNT);
    assert_true(memcmp(x, ref, sizeof x) == 0);

    for (int i = 0; i < COUNT; ++i) x[i] = fkdai_bf16_to_f32((uint16_t)(fkdai_f32_to_bf16(ref[i]) + 1));    /* a unit too large */
    metric_undo_bf16(x, ref, COUNT);
    for (int i = 5; i < COUNT; ++i) assert_true(fabsf(x[i]) >= fabsf(ref[i]));
    assert_true(metric_m1(x + 5, ref + 5, COUNT - 5) > 1e-3);
    x[7] = INFINITY, x[8] = NAN;
    metric_undo_bf16(x, ref, COUNT);
    assert_true(isinf(x[7]) && isnan(x[8]));
}

/* -------------------------------------------------------------- guards */

static sigjmp_buf trapped;
static void on_trap(int signal_number) { siglongjmp(trapped, signal_number); }

static int traps(volatile uint8_t *at, int is_write)
{
    struct sigaction ours = {.sa_handler = on_trap}, before;
    sigaction(SIGSEGV, &ours, &before);
    const int signal_number = sigsetjmp(trapped, 1);
    if (signal_number == 0) {
        const uint8_t value = *at;
        if (is_write) *at = value;
    }
    sigaction(SIGSEGV, &before, NULL);
    return signal_number != 0;
}

static void test_guards(void **state)
{
    (void)state;
    for (guard_side side = GUARD_AT_END; side <= GUARD_AT_START; ++side) {
        guarded g = guarded_alloc(1000, 4, side, 0xff);
        uint8_t *const beside = side == GUARD_AT_END ? g.data + 1000 : g.data - 1;
        uint8_t *const slack = side == GUARD_AT_END ? g.data - 1 : g.data + 1000;
        assert_true(traps(beside, 0));
        assert_false(traps(g.data, 1));
        assert_true(guarded_slack_is_intact(&g));
        *slack = 0;
        assert_false(guarded_slack_is_intact(&g));
        guarded_make_readonly(&g);
        assert_false(traps(g.data + 999, 0));
        assert_true(traps(g.data + 999, 1));
        guarded_free(&g);
    }
}

/* -------------------------------------------------------------- cases */

static void test_case_table(void **state)
{
    (void)state;
    const int count = case_count("fwd");
    assert_true(count >= 300);
    assert_int_equal(case_count("backward"), 0);
    for (int i = 0; i < count; ++i) {
        const case_spec a = case_at("fwd", i);
        assert_true(a.H >= 1 && a.HV % a.H == 0 && a.bounds[a.N] + a.tail == a.B * a.T);
        for (int j = 0; j < i; ++j) {
            const case_spec b = case_at("fwd", j);
            if (strcmp(a.name, b.name) == 0) fail_msg("two cases are called %s", a.name);
        }
    }
}

/* Kernel cases are what the kernels are built for, and every suite has some. */
/* Cases of decode: one state, from itself to itself, at most 8 tokens a sequence. */
static void test_decode_cases(void **state)
{
    (void)state;
    const int count = case_count("decode");
    assert_true(count >= 100);
    for (int i = 0; i < count; ++i) {
        const case_spec s = case_at("decode", i);
        assert_true(s.is_decode && s.in_place && s.initial == s.final && s.initial_layout == s.final_layout && s.initial_pool == s.final_pool);
        for (int64_t n = 0; n < s.N; ++n) {
            assert_true(s.bounds[n + 1] - s.bounds[n] <= FKDA_DECODE_MAX_TOKENS);
            assert_true(case_initial_slot(&s, n) == case_final_slot(&s, n));
            assert_true(case_mask(&s, n) != 0 || (s.is_masked && s.bounds[n] < s.bounds[n + 1]));
        }
        for (int j = 0; j < i; ++j) assert_string_not_equal(s.name, case_at("decode", j).name);
    }
}

static void test_kernel_case_table(void **state)
{
    (void)state;
    static const char *const suites[] = {"check", "mappings", "races", "beside", "streams", "hang", "states", "tiny", "time", "few"};
    for (size_t s = 0; s < sizeof suites / sizeof *suites; ++s) {
        if (kernel_case_count(suites[s]) == 0) fail_msg("no kernel cases for %s", suites[s]);
        for (int i = 0; i < kernel_case_count(suites[s]); ++i) {
            const case_spec c = kernel_case_at(suites[s], i);
            assert_true(c.K == 128 && c.V == 128 && c.out == FKDA_BF16 && c.is_unit && c.gate == FKDA_GATE_BOUNDED && c.H == c.HV);
        }
    }
    const case_spec last = kernel_case_at("check", 3 + 80 + 80 + 78 - 1);
    assert_string_equal(last.name, "before_nan_i32_80");
    assert_true(last.is_of_range && last.N == 2 && last.bounds[1] == 80 && last.bounds[2] == 120 && last.cu == FKDA_I32 && last.initial == FKDA_NONE);
}

static void expect_lens(const char *text, int64_t N, const int64_t *want)
{
    const case_spec s = case_parse("lens", text);
    assert_int_equal(s.N, N);
    assert_memory_equal(s.bounds, want, (size_t)(N + 1) * sizeof *want);
}

static void test_lens(void **state)
{
    (void)state;
    expect_lens("lens=none", 0, (const int64_t[]){0});
    expect_lens("lens=3", 1, (const int64_t[]){0, 3});
    expect_lens("lens=3,0,17*2", 4, (const int64_t[]){0, 3, 3, 20, 37});
    expect_lens("lens=(64,0)*2,5", 5, (const int64_t[]){0, 64, 64, 128, 128, 133});
    expect_lens("lens=1,(2*2,3)*2", 7, (const int64_t[]){0, 1, 3, 5, 8, 10, 12, 15});
    expect_lens("T=7 lens=T,40", 2, (const int64_t[]){0, 7, 47});
}

static void expect_class(const char *text, accuracy_bar want)
{
    const case_spec s = kernel_case_parse("class", text);
    const accuracy_bar got = bar_bf16_of(&s);
    if (got.out != want.out || got.state != want.state || got.m2 != want.m2) fail_msg("%s: bars of another class, out %.1e", text, got.out);
}

static void test_classes_of_bars(void **state)
{
    (void)state;
    expect_class("T=31 H=2", BAR(bf16, few));
    expect_class("T=32 H=2", BAR(bf16, any));
    expect_class("lens=1*512 H=1", BAR(bf16, any));
    expect_class("T=255", BAR(bf16, any));
    expect_class("lens=31,300 last=nan", BAR(bf16, few));
    expect_class("lens=300,3 last=nan", BAR(bf16, long));
    expect_class("lens=0,256 gates=slow", BAR(bf16, long));
    expect_class("lens=256,255", BAR(bf16, any));
    expect_class("T=1000 keys=shifted", BAR(bf16, any));
    expect_class("T=1000 gates=open", BAR(bf16, any));
    expect_class("T=1000 keys=same", BAR(bf16, parallel));
    expect_class("T=1 keys=cos99", BAR(bf16, parallel));
    expect_class("T=1000 keys=same gates=open", BAR(bf16, same_key));
    expect_class("T=1000 keys=same gates=weak", BAR(bf16, parallel));
    expect_class("T=65536 keys=rank8 gates=long", BAR(bf16, low_rank));
    expect_class("lens=65535,65536 keys=rank8", BAR(bf16, parallel));
}

/* bf16 inputs are drawn as bf16, whatever the case says about the rest; the same case draws the same values. */
static void test_values(void **state)
{
    (void)state;
    const case_spec s = case_parse("values", "T=20 q=f32 k=bf16");
    input_values a = values_draw(&s), b = values_draw(&s);
    assert_memory_equal(a.q, b.q, (size_t)(s.T * s.H * s.K) * sizeof(float));
    int is_q_wider = 0;
    for (int64_t i = 0; i < s.T * s.H * s.K; ++i) {
        uint32_t q, k;
        memcpy(&q, &a.q[i], sizeof q);
        memcpy(&k, &a.k[i], sizeof k);
        assert_int_equal(k & 0xffffu, 0);
        is_q_wider |= (q & 0xffffu) != 0;
    }
    assert_true(is_q_wider);
    values_free(&a);
    values_free(&b);
}

/* Few draws: one of n, in turn as the numbers of the cases go; else all. */
static void test_draws(void **state)
{
    (void)state;
    for (int64_t n = 1; n < 10; ++n)
        for (int64_t number = 0; number < 2 * n; ++number) {
            int64_t wanted = 0, wanted_twice = 0;
            for (int64_t i = 0; i < n; ++i) {
                wanted += draw_is_wanted(i, n, number);
                wanted_twice += draw_is_wanted(i, n, number) && draw_is_wanted(i, n, number + 1);
            }
            assert_int_equal(wanted, draws_are_few() ? 1 : n);
            assert_int_equal(wanted_twice, draws_are_few() && n > 1 ? 0 : n);
        }
    assert_true(draws_number() >= 0);
}

static void test_last_sequence_of_nan(void **state)
{
    (void)state;
    const case_spec s = case_parse("nan", "lens=3,2 last=nan H=1");
    input_values drawn = values_draw(&s);
    for (int64_t i = 0; i < 5 * s.K; ++i) {
        const int is_last = i >= 3 * s.K;
        assert_true(isnan(drawn.q[i]) == is_last && isnan(drawn.k[i]) == is_last && isnan(drawn.g[i]) == is_last);
    }
    for (int64_t i = 0; i < 5 * s.V; ++i) assert_true(isnan(drawn.v[i]) == (i >= 3 * s.V));
    for (int64_t i = 0; i < 5; ++i) assert_true(isnan(drawn.beta[i]) == (i >= 3));
    values_free(&drawn);
}

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_undone_rounding),
        cmocka_unit_test(test_guards),
        cmocka_unit_test(test_case_table), cmocka_unit_test(test_decode_cases),
        cmocka_unit_test(test_kernel_case_table),
        cmocka_unit_test(test_lens),
        cmocka_unit_test(test_classes_of_bars),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_last_sequence_of_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

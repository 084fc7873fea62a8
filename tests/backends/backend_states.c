/* Checkpoints have the bits of a run that ends there, and nothing else changes; pools and masks change where states lie, and no bit. */
#include "harness.h"

#include "backend_bars.h"
#include "backend_suite.h"
#include "case_states.h"
#include "counter_rng.h"

static case_result run_on(const backend_bars *bars, const case_spec *s, const input_values *x, int threads)
{
    const run_setup setup = {bars->id, threads, 0xa5, GUARD_AT_END};
    case_result r = case_run(s, x, &setup);
    if (r.status != FKDA_OK) fail_msg("%s: %s", fkda_backend_name(bars->id), fkda_last_error());
    return r;
}

static void expect_same_elems(const backend_bars *bars, const char *name, const float *a, const float *b, int64_t count, const char *what,
                              int64_t at)
{
    if (memcmp(a, b, (size_t)count * sizeof(float)) != 0)
        fail_msg("%s: %s: %s %lld has other bits", name, fkda_backend_name(bars->id), what, (long long)at);
}

/* -------------------------------------------------------------- prefixes */

/* Final states of every prefix of every sequence, the one of 1 token first: [sum of lengths, HV, K, V]. */
static case_result run_prefixes(const backend_bars *bars, const case_spec *s, const input_values *x)
{
    static piece pieces[CASE_MAX_SEQUENCES];
    int count = 0;
    for (int64_t n = 0; n < s->N; ++n)
        for (int64_t length = 1; length <= s->bounds[n + 1] - s->bounds[n]; ++length) pieces[count++] = (piece){.sequence = n, .count = length};
    case_spec prefixes = pieces_spec(s, pieces, count, FKDA_I64);
    prefixes.checkpoints = FKDA_NONE;
    prefixes.final = s->checkpoints;
    input_values y = pieces_values(s, x, pieces, &prefixes);
    const case_result r = run_on(bars, &prefixes, &y, 2);
    values_free(&y);
    return r;
}

/* Runs the case with its checkpoints and without, and compares each with the prefix that ends there. */
static void compare_with_prefixes(const backend_bars *bars, const case_spec *s, const input_values *x, const case_result *prefixes, int threads)
{
    const int64_t elems = case_state_elems(s);
    case_spec without = *s;
    without.checkpoints = FKDA_NONE;
    case_result a = run_on(bars, s, x, threads), b = run_on(bars, &without, x, 1);
    assert_true(a.checkpoint_elems == case_checkpoint_count(s) * elems && a.out_count == b.out_count && a.state_count == b.state_count);
    expect_same_elems(bars, s->name, a.out, b.out, a.out_count, "out with checkpoints: sequence", 0);
    expect_same_elems(bars, s->name, a.state, b.state, a.state_count, "final_state with checkpoints: sequence", 0);
    int seen = 0;
    for (int64_t row = 0; row < case_checkpoint_count(s); ++row) {
        int64_t n, position;
        if (!case_has_checkpoint(s, row, &n, &position)) continue;
        const float *const ended = prefixes->state + (s->bounds[n] + position - 1) * elems;
        expect_same_elems(bars, s->name, a.checkpoints + row * elems, ended, elems, "checkpoint", row);
        ++seen;
    }
    assert_true(seen > 0);
    result_free(&a);
    result_free(&b);
}

/* Intervals at, below and above chunks of 16 and 32 tokens, and between. */
static const int64_t borders[] = {2, 3, 7, 15, 16, 17, 31, 32, 33, 48, 64};

static void checkpoints_are_prefixes(const backend_bars *bars)
{
    static const char *const texts[] = {
        "lens=70,0,33,1,64,16 H=1 cp=f32", "lens=40,33,32 H=2 HV=4 cp=f32 gate=softplus cp_layout=nhkv gates=wide",
        "lens=50,17 H=1 cp=bf16 s1=bf16 s0=none",
        "lens=66 H=1 K=128 V=128 cp=f32 out=bf16 m=2", "lens=35,50 H=1 K=64 V=128 cp=f32 cp_pool=i32 s0_layout=nhkv cp_layout=nhkv rows=gaps",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        case_spec s = case_parse("prefixes", texts[i]);
        input_values x = values_draw(&s);
        case_result prefixes = run_prefixes(bars, &s, &x);
        s.checkpoint_every = 1;
        for (int threads = 1; threads <= 4; threads += 3) compare_with_prefixes(bars, &s, &x, &prefixes, threads);
        for (size_t k = 0; k < sizeof borders / sizeof *borders; ++k) {
            s.checkpoint_every = borders[k];
            if (!draw_is_wanted((int64_t)k, 4, (int64_t)i)) continue;
            if (s.checkpoint_every <= s.bounds[1]) compare_with_prefixes(bars, &s, &x, &prefixes, 2);
        }
        s.checkpoint_every = 0;
        for (s.checkpoints_per_sequence = 1; s.checkpoints_per_sequence <= 12; s.checkpoints_per_sequence *= 3)
            compare_with_prefixes(bars, &s, &x, &prefixes, 2);
        result_free(&prefixes);
        values_free(&x);
    }
}

void test_checkpoints_are_prefixes(void **state)
{
    (void)state;
    bars_for_each(checkpoints_are_prefixes);
}

/* Lengths at, below and above a multiple of the interval; dense batches. */
static void intervals(const backend_bars *bars)
{
    for (int64_t length = 31; length <= 34; ++length)
        for (size_t k = 0; k < sizeof borders / sizeof *borders && borders[k] <= length; ++k) {
            if (!draw_is_wanted((int64_t)k, 4, length)) continue;
            case_spec s = case_parse("intervals", "B=3 T=1 H=1 cp=f32");
            s.T = length, s.checkpoint_every = borders[k];
            for (int64_t n = 0; n <= s.N; ++n) s.bounds[n] = n * length;
            input_values x = values_draw(&s);
            case_result prefixes = run_prefixes(bars, &s, &x);
            compare_with_prefixes(bars, &s, &x, &prefixes, 2);
            result_free(&prefixes);
            values_free(&x);
        }
}

void test_checkpoint_intervals(void **state)
{
    (void)state;
    bars_for_each(intervals);
}

/* -------------------------------------------------------------- pools */

/* The same on plain memory, where sequences without a state start from stored zeros. */
static void places_do_not_matter(const backend_bars *bars)
{
    static const char *const texts[] = {
        "lens=20,0,14,33,1,16,7,8,40 s0_pool=i32 s1_pool=i64 rows=gaps mask=some", "lens=20,0,14,33,1,16 s0_pool=i32 s1_pool=i32 place=same H=1 HV=3",
        "lens=(33,1)*40 H=1 s0_pool=i64 s1_pool=i64 place=same mask=some null=not_positive cp=f32 cp_per=3 cp_pool=i32",
        "B=6 T=50 s0_pool=i32 s1_pool=i32 s0=bf16 s1=bf16 s0_layout=nhkv s1_layout=nhkv place=same rows=gaps cp=bf16 cp_every=20",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = case_parse("places", texts[i]);
        case_spec plain = s;
        plain.is_plain = 1;
        input_values x = values_draw(&s);
        case_result expected = run_on(bars, &plain, &x, 1);
        for (int threads = 1; threads <= 3; ++threads) {
            case_result r = run_on(bars, &s, &x, threads);
            if (!result_same_bits(&r, &expected)) fail_msg("%s: %s: other bits than on plain memory", fkda_backend_name(bars->id), texts[i]);
            result_free(&r);
        }
        result_free(&expected);
        values_free(&x);
    }
}

void test_places_do_not_matter(void **state)
{
    (void)state;
    bars_for_each(places_do_not_matter);
}

/* Every case of the table on every backend. Each runs twice, with other poison, other workspace contents, other placement between the
 * guard pages and another number of threads; the bits must not care. An element that is never written would keep its poison. */
#include "harness.h"

#include <math.h>

#include "backend_bars.h"
#include "backend_suite.h"
#include "counter_rng.h"
#include "error_metrics.h"
#include "float64_file.h"

static void check_all_finite(const char *name, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        if (!isfinite(x[i])) fail_msg("%s: element %lld is %g", name, (long long)i, (double)x[i]);
}

static double worst_tile(const case_spec *s, const float *out, const float *ref)
{
    double worst = 0;
    for (int64_t hv = 0; hv < s->HV; ++hv) worst = fmax(worst, metric_m2_head(out, ref, s->bounds, s->N, hv, s->HV, s->V));
    return worst;
}

/* How a backend did on the whole table. */
typedef struct tally {
    int ran, skipped, owed, failed;
    double worst;             /* the largest M1 of out in units of its bar, and the case that had it */
    char worst_name[CASE_NAME_BYTES];
} tally;

static void compare(const backend_bars *bars, const case_spec *s, case_result *r, const case_result *ref, tally *sum)
{
    check_all_finite(s->name, r->out, r->out_count);
    check_all_finite(s->name, r->state, r->state_count);
    check_all_finite(s->name, r->checkpoints, r->checkpoint_elems);
    const int is_exact = result_same_bits(r, ref);
    if (s->out == FKDA_BF16) metric_undo_bf16(r->out, ref->out, r->out_count);
    if (s->final == FKDA_BF16) metric_undo_bf16(r->state, ref->state, r->state_count);
    const double out = metric_m1(r->out, ref->out, r->out_count), tile = worst_tile(s, r->out, ref->out);
    if (s->checkpoints == FKDA_BF16) metric_undo_bf16(r->checkpoints, ref->checkpoints, r->checkpoint_elems);
    const double final = fmax(metric_m1(r->state, ref->state, r->state_count), metric_m1(r->checkpoints, ref->checkpoints, r->checkpoint_elems));
    if (out / bars->bar.out > sum->worst) {
        sum->worst = out / bars->bar.out;
        strcpy(sum->worst_name, s->name);
    }
    const int is_inside = s->exact ? is_exact : out <= bars->bar.out && tile <= bars->bar.m2 * bars->bar.out && final <= bars->bar.state;
    if (is_inside) return;
    sum->failed += 1;
    print_error("%s on %s: out M1 %.2e (bar %.1e), M2 %.2e (bar %.1e), states M1 %.2e (bar %.1e)%s\n", s->name, fkda_backend_name(bars->id),
                out, bars->bar.out, tile, bars->bar.m2 * bars->bar.out, final, bars->bar.state, s->exact ? ", and every bit was owed" : "");
}

static void run_case(const backend_bars *bars, const case_spec *s, int threads, tally *sum)
{
    input_values x = values_draw(s);
    const run_setup first = {bars->id, 1, 0xa5, GUARD_AT_END}, second = {bars->id, threads, 0xff, GUARD_AT_START};
    case_result a = case_run(s, &x, &first);
    sum->owed += bars_owe(bars, s);
    if (a.status == FKDA_OK) {
        case_result b = case_run(s, &x, &second);
        if (!result_same_bits(&a, &b)) fail_msg("%s on %s: other poison, place or threads, other bits", s->name, fkda_backend_name(bars->id));
        result_free(&b);
        if (draw_is_wanted(0, 4, sum->ran)) {    /* the reference takes most of the time */
            case_result ref = case_run_reference(s, &x);
            compare(bars, s, &a, &ref, sum);
            result_free(&ref);
        }
        sum->ran += 1;
    } else {
        sum->skipped += 1;
    }
    result_free(&a);
    values_free(&x);
}

static void every_case_of(const backend_bars *bars, const char *operation)
{
    tally sum = {0};
    for (int i = 0; i < case_count(operation); ++i) {
        if (!next_case_is_wanted()) continue;
        const case_spec s = case_at(operation, i);
        run_case(bars, &s, 2 + i % 2, &sum);
    }
    print_message("%s, %s: %d cases ran, %d skipped (no such width), %d failed; closest to the bar of out: %s, %.2f of it\n", operation,
                  fkda_backend_name(bars->id), sum.ran, sum.skipped, sum.failed, sum.worst_name, sum.worst);
    if (sum.failed > 0) fail_msg("%s: %d cases outside their bars", fkda_backend_name(bars->id), sum.failed);
    if (sum.ran < sum.owed) fail_msg("%s ran %d cases, but owes %d: %s", fkda_backend_name(bars->id), sum.ran, sum.owed, fkda_last_error());
}

static void every_case(const backend_bars *bars) { every_case_of(bars, "fwd"); }
static void every_decode_case(const backend_bars *bars) { every_case_of(bars, "decode"); }

void test_every_case(void **state)
{
    (void)state;
    bars_for_each(every_case);
}

void test_every_decode_case(void **state)
{
    (void)state;
    bars_for_each(every_decode_case);
}

/* KDA is linear in (v, S): scaled by a power of two they give exactly scaled results, unless something is flushed or compared. */
static void tiny_values(const backend_bars *bars)
{
    const case_spec s = case_parse("tiny", "T=50 in=f32");
    input_values x = values_draw(&s);
    const run_setup setup = {bars->id, 1, 0xa5, GUARD_AT_END};
    case_result large = case_run(&s, &x, &setup);
    for (int64_t i = 0; i < case_rows(&s) * s.HV * s.V; ++i) x.v[i] *= 0x1p-30f;
    for (int64_t i = 0; i < s.N * case_state_elems(&s); ++i) x.initial[i] *= 0x1p-30f;
    case_result tiny = case_run(&s, &x, &setup);
    for (int64_t i = 0; i < tiny.out_count; ++i) tiny.out[i] *= 0x1p30f;
    for (int64_t i = 0; i < tiny.state_count; ++i) tiny.state[i] *= 0x1p30f;
    if (!result_same_bits(&tiny, &large))
        fail_msg("%s: out off by %.2e, final_state by %.2e", fkda_backend_name(bars->id), metric_m1(tiny.out, large.out, large.out_count),
                 metric_m1(tiny.state, large.state, large.state_count));
    result_free(&large);
    result_free(&tiny);
    values_free(&x);
}

void test_tiny_values_scale_exactly(void **state)
{
    (void)state;
    bars_for_each(tiny_values);
}

/* q, k, g, beta of any finite bf16 bits: finite results, whatever they are. */
static void finite_bits(const backend_bars *bars)
{
    static const char *const texts[] = {
        "T=90 keys=bits gates=bits betas=bits", "T=90 keys=bits gates=bits betas=bits gate=softplus A_log=none",
        "T=90 keys=bits gates=bits betas=bits gate=softplus A_log=bf16 dt_bias=bf16 out=bf16",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = case_parse("finite_bits", texts[i]);
        input_values x = values_draw(&s);
        const run_setup setup = {bars->id, 1, 0xff, GUARD_AT_END};
        case_result r = case_run(&s, &x, &setup);
        check_all_finite(fkda_backend_name(bars->id), r.out, r.out_count);
        check_all_finite(fkda_backend_name(bars->id), r.state, r.state_count);
        result_free(&r);
        values_free(&x);
    }
}

void test_finite_bits_stay_finite(void **state)
{
    (void)state;
    bars_for_each(finite_bits);
}

/* Recorded activations of a real model against their float64 answers, results in fp32. */
static void recorded(const backend_bars *bars, const char *name, const char *gate)
{
    float64_file f = float64_file_read(name, gate);
    const run_setup setup = {bars->id, 0, 0xa5, GUARD_AT_END};
    case_result r = case_run(&f.spec, &f.values, &setup);
    const double out = metric_m1(r.out, f.out, r.out_count), tile = worst_tile(&f.spec, r.out, f.out), final = metric_m1(r.state, f.state, r.state_count);
    print_message("%s: %s: out M1 %.2e, M2 %.2e, final_state M1 %.2e\n", fkda_backend_name(bars->id), name, out, tile, final);
    if (!(out <= bars->bar.out) || !(tile <= bars->bar.m2 * bars->bar.out) || !(final <= bars->bar.state)) fail_msg("outside the bars");
    result_free(&r);
    float64_file_free(&f);
}

static void recorded_activations(const backend_bars *bars)
{
    recorded(bars, "kda_lb", "bounded");
    recorded(bars, "kda_softplus", "softplus");
}

void test_recorded_activations(void **state)
{
    (void)state;
    bars_for_each(recorded_activations);
}

/* Checks of decode, over any way to run a case. */
#include "harness.h"

#include "decode_checks.h"

#include <math.h>

#include "bars.h"
#include "error_metrics.h"

static case_result run(const decode_way *way, const case_spec *s, const input_values *x, uint8_t poison)
{
    case_result r = way->run(way->context, s, x, poison);
    if (r.status != FKDA_OK) fail_msg("%s on %s: %s", s->name, way->name, fkda_last_error());
    return r;
}

static int64_t length_of(const case_spec *s, int64_t n) { return s->bounds[n + 1] - s->bounds[n]; }

static int64_t longest_of(const case_spec *s)
{
    int64_t longest = 1;
    for (int64_t n = 0; n < s->N; ++n) longest = length_of(s, n) > longest ? length_of(s, n) : longest;
    return longest;
}

/* most_tokens: S of a packed call; 0: as many as the piece has. */
static case_result run_piece(const decode_way *way, const case_spec *s, const input_values *x, const piece *p, fkda_dtype form, int64_t most_tokens)
{
    case_spec part = pieces_spec(s, p, 1, form);
    part.most_tokens = most_tokens;
    input_values y = pieces_values(s, x, p, &part);
    case_result r = run(way, &part, &y, 0x5a);
    values_free(&y);
    return r;
}

static int same(const float *a, const float *b, int64_t count) { return memcmp(a, b, (size_t)count * sizeof *a) == 0; }

/* How far x may be from single calls: not at all, or where tokens are taken together as far as a bar says. */
typedef struct agreement {
    int is_together;
    double bar, largest;    /* of M1; so far */
} agreement;

static int agree(agreement *a, const float *x, const float *wanted, int64_t count)
{
    if (!a->is_together) return same(x, wanted, count);
    const double error = count == 0 ? 0 : metric_m1(x, wanted, count);
    a->largest = fmax(a->largest, error);
    return error <= a->bar;
}

void check_one_by_one(const decode_way *way, const char *text)
{
    const case_spec s = case_parse("one_by_one", text);
    const int64_t elems = case_state_elems(&s), row = s.HV * s.V;
    input_values x = values_draw(&s);
    case_result all = run(way, &s, &x, 0xa5);
    const int is_together = way->together_from > 0 && longest_of(&s) >= way->together_from;
    agreement of_out = {is_together, BAR(f32, any).out, 0}, of_state = {is_together, BAR(f32, any).state, 0};
    float *const state = must_alloc((size_t)elems, sizeof *state), *const out = must_alloc((size_t)(longest_of(&s) * row), sizeof *out);
    for (int64_t n = 0; n < s.N; ++n) {
        memcpy(state, x.initial + n * elems, (size_t)elems * sizeof *state);
        for (int64_t t = 0; t < length_of(&s, n); ++t) {
            const piece token = {.sequence = n, .first = t, .count = 1, .initial = state};
            case_result one = run_piece(way, &s, &x, &token, t % 2 ? FKDA_NONE : FKDA_I32, 0);
            memcpy(out + t * row, one.out, (size_t)row * sizeof *out);
            memcpy(state, one.state, (size_t)elems * sizeof *state);
            result_free(&one);
        }
        if (!agree(&of_out, all.out + s.bounds[n] * row, out, length_of(&s, n) * row)) fail_msg("%s on %s: out of sequence %d", text, way->name, (int)n);
        if (!agree(&of_state, all.state + n * elems, state, elems)) fail_msg("%s on %s: the state of sequence %d", text, way->name, (int)n);
    }
    if (is_together) print_message("%s: out at most %.1e, states %.1e from single calls\n", text, of_out.largest, of_state.largest);
    free(state);
    free(out);
    result_free(&all);
    values_free(&x);
}

/* Sequence n, cut behind each of its tokens, in calls of as many tokens at most. */
static void check_cuts(const decode_way *way, const char *text, const case_spec *s, const input_values *x, const case_result *all, int64_t n)
{
    const int64_t row = s->HV * s->V;
    for (int64_t t = 1; t <= length_of(s, n); ++t) {
        const piece cut = {.sequence = n, .count = t};
        case_result r = run_piece(way, s, x, &cut, t % 2 ? FKDA_I64 : FKDA_I32, longest_of(s));
        if (!same(r.out, all->out + s->bounds[n] * row, t * row)) fail_msg("%s on %s: sequence %d cut behind %d tokens: out", text, way->name, (int)n, (int)t);
        result_free(&r);
    }
}

/* v of token 2 of each sequence becomes NaN: no token before it changes. */
static void check_nan_behind(const decode_way *way, const char *text, const case_spec *s, input_values *x, const case_result *all)
{
    enum { BAD = 2 };
    const int64_t row = s->HV * s->V;
    for (int64_t n = 0; n < s->N; ++n)
        for (int64_t c = 0; length_of(s, n) > BAD && c < row; ++c) x->v[(s->bounds[n] + BAD) * row + c] = NAN;
    case_result r = run(way, s, x, 0xa5);
    for (int64_t n = 0; n < s->N; ++n) {
        const int64_t good = length_of(s, n) > BAD ? BAD : length_of(s, n);
        if (!same(r.out + s->bounds[n] * row, all->out + s->bounds[n] * row, good * row)) fail_msg("%s on %s: NaN before its token", text, way->name);
        for (int64_t i = (s->bounds[n] + good) * row; i < s->bounds[n + 1] * row; ++i)
            if (!isnan(r.out[i])) fail_msg("%s on %s: element %d behind NaN is %g", text, way->name, (int)i, (double)r.out[i]);
    }
    result_free(&r);
}

void check_together(const decode_way *way, const char *text)
{
    case_spec s = case_parse("together", text), steps = s;
    const int64_t elems = case_state_elems(&s), row = s.HV * s.V;
    s.is_verify = 1;
    input_values x = values_draw(&s);
    case_result all = run(way, &s, &x, 0xa5), last = run(way, &steps, &x, 0xff);
    float *const state = must_alloc((size_t)elems, sizeof *state), *const out = must_alloc((size_t)(longest_of(&s) * row), sizeof *out);
    if (!same(all.state, x.initial, s.N * elems)) fail_msg("%s on %s: a state was written", text, way->name);
    if (longest_of(&s) >= way->together_from && !same(all.out, last.out, all.out_count))
        fail_msg("%s on %s: out has other bits where a state is written", text, way->name);
    result_free(&last);
    for (int64_t n = 0; n < s.N; ++n) {
        check_cuts(way, text, &s, &x, &all, n);
        memcpy(state, x.initial + n * elems, (size_t)elems * sizeof *state);
        for (int64_t t = 0; t < length_of(&s, n); ++t) {
            const piece token = {.sequence = n, .first = t, .count = 1, .initial = state};
            case_result one = run_piece(way, &steps, &x, &token, FKDA_NONE, 0);
            memcpy(state, one.state, (size_t)elems * sizeof *state);
            memcpy(out + t * row, one.out, (size_t)row * sizeof *out);
            result_free(&one);
        }
        const double error = length_of(&s, n) == 0 ? 0 : metric_m1(all.out + s.bounds[n] * row, out, length_of(&s, n) * row);
        if (!(error <= BAR(f32, any).out)) fail_msg("%s on %s: out is %.1e from single calls", text, way->name, error);
    }
    check_nan_behind(way, text, &s, &x, &all);
    free(state);
    free(out);
    result_free(&all);
    values_free(&x);
}

void check_batch(const decode_way *way, const char *text)
{
    const case_spec s = case_parse("decode_batch", text);
    const int64_t elems = case_state_elems(&s), row = s.HV * s.V;
    input_values x = values_draw(&s);
    case_result all = run(way, &s, &x, 0xa5);
    for (int64_t n = 0; n < s.N; ++n) {
        const piece whole = {.sequence = n, .count = length_of(&s, n)};
        for (int form = whole.count == longest_of(&s) ? 0 : 1; form < 2 && whole.count > 0; ++form) {    /* S counts, not the sequence's length */
            case_result alone = run_piece(way, &s, &x, &whole, form == 0 ? FKDA_NONE : FKDA_I64, longest_of(&s));
            if (!same(alone.out, all.out + s.bounds[n] * row, whole.count * row) || !same(alone.state, all.state + n * elems, elems))
                fail_msg("%s on %s: sequence %d has other bits alone", text, way->name, (int)n);
            result_free(&alone);
        }
    }
    result_free(&all);
    values_free(&x);
}

/* case_image.c leaves poison where a mask starts from 0: the same bits as from zeros that are read. */
void check_poisoned_slots(const decode_way *way)
{
    static const uint8_t poisons[] = {0xff, 0x7f, 0xa5};
    case_spec s = case_parse("poisoned", "B=9 T=2 H=1 K=128 V=128 op=decode s0_pool=i32 mask=some"), zeros = s;
    zeros.is_masked = 0;
    input_values x = values_draw(&s);
    for (int64_t n = 1; n < s.N; n += 3) memset(x.initial + n * case_state_elems(&s), 0, (size_t)case_state_elems(&s) * sizeof(float));
    case_result clean = run(way, &zeros, &x, 0x00);
    for (size_t i = 0; i < sizeof poisons; ++i) {
        case_result r = run(way, &s, &x, poisons[i]);
        if (!result_same_bits(&r, &clean)) fail_msg("%s: a masked slot of bytes 0x%02x was read", way->name, poisons[i]);
        result_free(&r);
    }
    result_free(&clean);
    values_free(&x);
}

void check_nan_stays(const decode_way *way)
{
    case_spec s = case_parse("decode_nan", "B=7 T=3 H=2 K=128 V=128 op=decode last=nan s0_pool=i32 mask=some"), clean = s;
    clean.last_is_nan = 0;
    const int64_t rows = s.bounds[s.N - 1] * s.HV * s.V, states = (s.N - 1) * case_state_elems(&s);
    input_values x = values_draw(&s), y = values_draw(&clean);
    case_result a = run(way, &s, &x, 0xff), b = run(way, &clean, &y, 0x7f);
    if (!same(a.out, b.out, rows) || !same(a.state, b.state, states)) fail_msg("%s: NaN left its sequence", way->name);
    for (int64_t i = rows; i < a.out_count; ++i)
        if (!isnan(a.out[i])) fail_msg("%s: element %d of a sequence of NaN is %g", way->name, (int)i, (double)a.out[i]);
    result_free(&a);
    result_free(&b);
    values_free(&x);
    values_free(&y);
}

void check_slow_decay(const decode_way *way)
{
    enum { CALLS = 250, TOKENS = 8 };
    const case_spec s = case_parse("slow_decay", "T=8 H=1 K=128 V=128 op=decode gate=precomputed g=f32 keys=zero");
    const int64_t elems = case_state_elems(&s);
    input_values x = values_draw(&s);
    float *const wanted = must_alloc((size_t)elems, sizeof *wanted);
    for (int64_t i = 0; i < TOKENS * s.K; ++i) x.g[i] = -1e-5f * (float)(1 + i % s.K);
    for (int64_t i = 0; i < elems; ++i)    /* [K,V] */
        wanted[i] = (float)((double)x.initial[i] * exp((double)x.g[i / s.V] * CALLS * TOKENS));
    for (int i = 0; i < CALLS; ++i) {
        case_result r = run(way, &s, &x, 0xa5);
        memcpy(x.initial, r.state, (size_t)elems * sizeof *x.initial);
        result_free(&r);
    }
    const double error = metric_m1(x.initial, wanted, elems);
    if (!(error <= 4e-6)) fail_msg("%s: after %d tokens of a slow decay the state is off by %.1e", way->name, CALLS * TOKENS, error);
    free(wanted);
    values_free(&x);
}

void check_odd_rates(const decode_way *way)
{
    static const char *const texts[] = {"B=2 T=1 H=2 K=128 V=128 op=decode g=f32 dt_bias=none", "B=2 T=1 H=2 K=128 V=128 op=decode g=f32 dt_bias=none gate=softplus"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = case_parse("odd_rates", texts[i]);
        input_values x = values_draw(&s);
        x.A_log[0] = 200, x.A_log[1] = -200;
        for (int64_t c = 0; c < s.B * s.HV * s.K; ++c)
            x.g[c] = c / s.K % 2 == 0 ? (c % 3 == 0 ? 0 : c % 3 == 1 ? 1 : -1) : (c % 2 ? INFINITY : -INFINITY);
        case_result r = run(way, &s, &x, 0xff), ref = case_run_reference(&s, &x);
        const double out = metric_m1(r.out, ref.out, r.out_count), state = metric_m1(r.state, ref.state, r.state_count);
        if (!(out <= BAR(f32, any).out) || !(state <= BAR(f32, any).state)) fail_msg("%s on %s: out %.1e, state %.1e", texts[i], way->name, out, state);
        result_free(&r);
        result_free(&ref);
        values_free(&x);
    }
}

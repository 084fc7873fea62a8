/* What fkda_decode_fused owes, by numbers and by bits. */
#include "harness.h"

#include <math.h>

#include "bars.h"
#include "counter_rng.h"
#include "dtype.h"
#include "error_metrics.h"
#include "fused_case.h"

/* What a run gave, in one order whatever the layout. */
typedef struct fused_result {
    int64_t out_count, state_count, tap_bytes;
    float *out, *state;    /* [N,H,W], [N,H,V,K]; 0 for null slots */
    uint8_t *taps;         /* [N,3,C] elements */
} fused_result;

static void *copy_of_row(const fused_image *m, int buffer, fkda_dtype dtype, int64_t at) { return m->buffer[buffer].data + at * fkdai_dtype_bytes(dtype); }

static fused_result gather(const fused_image *m)
{
    const fused_spec *const s = &m->spec;
    const int64_t HW = s->H * s->W, C = 3 * HW, element = fkdai_dtype_bytes(s->x), states = HW * s->W;
    const fkda_tensor_desc t = m->desc.conv_state;
    fused_result r = {s->N * HW, s->N * states, s->N * 3 * C * element, must_alloc((size_t)(s->N * HW), 4), must_alloc((size_t)(s->N * states), 4),
                      must_alloc((size_t)(s->N * 3 * C), (size_t)element)};
    for (int64_t n = 0; n < s->N; ++n) {
        const int64_t row = fused_row(s, n);
        for (int64_t i = 0; i < HW; ++i) r.out[n * HW + i] = (float)fkdai_load(m->buffer[FUSED_OUT].data, m->desc.out.dtype, n * m->desc.out.batch_stride + i);
        for (int64_t i = 0; row >= 0 && i < states; ++i) {
            const int64_t v = i / s->W % s->W, c = i % s->W, at = s->layout == FKDA_STATE_NHVK ? i : i - v * s->W - c + c * s->W + v;
            r.state[n * states + i] = (float)fkdai_load(m->buffer[FUSED_STATE].data, m->desc.state.dtype, row * m->desc.state.row_stride + at);
        }
        for (int64_t i = 0; row >= 0 && m->buffer[FUSED_TAPS].data != NULL && i < 3 * C; ++i)
            memcpy(r.taps + (n * 3 * C + i) * element,
                   copy_of_row(m, FUSED_TAPS, s->x, row * t.batch_stride + i / C * t.token_stride + i % C * t.head_stride), (size_t)element);
    }
    return r;
}

static void drop(fused_result *r)
{
    free(r->out);
    free(r->state);
    free(r->taps);
}

static fused_result run(const fused_way *way, const fused_spec *s, uint8_t poison, guard_side side)
{
    fused_image m = fused_build(s, poison, side);
    const fkda_status status = way->run(way->context, &m);
    if (status != FKDA_OK) fail_msg("case %d on %s: %s", (int)s->number, way->name, fkda_last_error());
    fused_check_untouched(&m);
    const fused_result r = gather(&m);
    fused_free(&m);
    return r;
}

static int same(const void *a, const void *b, int64_t bytes) { return memcmp(a, b, (size_t)bytes) == 0; }

static int same_bits(const fused_result *a, const fused_result *b)
{
    return same(a->out, b->out, 4 * a->out_count) && same(a->state, b->state, 4 * a->state_count) && same(a->taps, b->taps, a->tap_bytes);
}

static const fkda_backend ref = FKDA_BACKEND_REF;
static const fused_way reference = {fused_run_backend, &ref, "ref"};

/* out of null slots is 0. */
static int null_rows_are_0(const fused_spec *s, const fused_result *r)
{
    const int64_t HW = s->H * s->W;
    for (int64_t i = 0; i < r->out_count; ++i)
        if (fused_row(s, i / HW) < 0 && r->out[i] != 0) return 0;
    return 1;
}

/*
 * One token on a state of 0: out is a multiple of u, and the factor is q^.k^ of a query and a key at random. If these nearly
 * cancel, their rounding in fp32 is a large part of it, which the bars do not speak of. So such rows are compared but for a
 * factor, and the factor by itself.
 */
static int undo_factor_of_first_token(const fused_spec *s, const fused_result *x, const fused_result *want)
{
    const double most = 1e-3;    /* of a product 10,000 times smaller than its terms */
    int is_good = 1;
    for (int64_t row = 0; row < s->N * s->H; ++row) {
        float *const a = x->out + row * s->W;
        const float *const b = want->out + row * s->W;
        double ab = 0, aa = 0;
        if (!fused_is_masked(s, row / s->H)) continue;
        for (int64_t i = 0; i < s->W; ++i) ab += (double)a[i] * (double)b[i], aa += (double)a[i] * (double)a[i];
        if (aa == 0) continue;
        is_good &= fabs(ab / aa - 1) <= most;
        for (int64_t i = 0; i < s->W; ++i) a[i] = (float)(a[i] * (ab / aa));
    }
    return is_good;
}

/*
 * The norm makes rows of out equally long whose o are not, and what rounding in fp32 did to a short o, whose terms nearly cancel, grows with it. So
 * each row counts by the length of its o, up to the one that all rows have on average.
 */
static void undo_lengthening(const fused_spec *s, fused_result *x, fused_result *want)
{
    if (s->norm_weight == FKDA_NONE) return;
    fused_spec plain = *s;
    plain.is_exact = 1, plain.norm_weight = FKDA_NONE;
    fused_result o = run(&reference, &plain, 0xa5, GUARD_AT_END);
    double all = 0;
    for (int64_t i = 0; i < o.out_count; ++i) all += (double)o.out[i] * (double)o.out[i];
    for (int64_t row = 0; row < s->N * s->H; ++row) {
        double own = 0;
        for (int64_t i = row * s->W; i < (row + 1) * s->W; ++i) own += (double)o.out[i] * (double)o.out[i];
        const double share = own * (double)(s->N * s->H) / all, factor = share < 1 ? sqrt(share) : 1;
        for (int64_t i = row * s->W; i < (row + 1) * s->W && all > 0; ++i)
            x->out[i] = (float)(x->out[i] * factor), want->out[i] = (float)(want->out[i] * factor);
    }
    drop(&o);
}

int fused_check_case(const fused_way *way, const fused_spec *s)
{
    fused_spec exact = *s;
    fused_result a = run(way, s, 0xff, GUARD_AT_END), b = run(way, s, 0x7f, GUARD_AT_START), want;
    exact.is_exact = 1;
    want = run(&reference, &exact, 0xa5, GUARD_AT_END);
    const int has_bits = same_bits(&a, &b), has_taps = same(a.taps, want.taps, a.tap_bytes), has_zeros = null_rows_are_0(s, &a);
    if (s->out == FKDA_BF16) metric_undo_bf16(a.out, want.out, a.out_count);
    if (s->state == FKDA_BF16) metric_undo_bf16(a.state, want.state, a.state_count);
    const int has_factors = undo_factor_of_first_token(s, &a, &want);
    undo_lengthening(s, &a, &want);
    const double out = metric_m1(a.out, want.out, a.out_count), state = metric_m1(a.state, want.state, a.state_count);
    const int is_good = has_bits && has_taps && has_zeros && has_factors && out <= BAR(f32, any).out && state <= BAR(f32, any).state;
    if (!is_good)
        print_error("case %d on %s: out M1 %.2e, state M1 %.2e%s%s%s%s\n", (int)s->number, way->name, out, state,
                    has_bits ? "" : ", other bits in another place", has_taps ? "" : ", taps differ", has_zeros ? "" : ", a null slot's out is not 0",
                    has_factors ? "" : ", a first token's out has another factor");
    drop(&a);
    drop(&b);
    drop(&want);
    return is_good;
}

static fused_spec full(uint64_t number)
{
    return (fused_spec){
        .number = number, .N = 7, .H = 2, .W = 128, .x = FKDA_BF16, .g = FKDA_BF16, .beta = FKDA_BF16, .out = FKDA_BF16, .output_gate = FKDA_BF16,
        .conv_weight = FKDA_F32, .conv_bias = FKDA_F32, .norm_weight = FKDA_F32, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .beta_multiplier = 1,
        .state = FKDA_F32, .slots = FKDA_I32, .is_masked = 1, .nan_sequence = -1,
    };
}

void fused_check_batch(const fused_way *way)
{
    for (int taps = 0; taps < FUSED_TAPS_COUNT; ++taps) {
        fused_spec s = full(1000 + (uint64_t)taps), one;
        s.taps = (fused_taps)taps, s.layout = taps == TAPS_ODD ? FKDA_STATE_NHKV : FKDA_STATE_NHVK;
        fused_result all = run(way, &s, 0xa5, GUARD_AT_END);
        for (int64_t n = 0; n < s.N; ++n) {
            one = s, one.first = n, one.N = 1, one.slots = fused_row(&s, n) < 0 ? s.slots : n % 2 ? FKDA_NONE : FKDA_I64;
            fused_result alone = run(way, &one, 0x5a, GUARD_AT_START);
            if (!same(alone.out, all.out + n * alone.out_count, 4 * alone.out_count) || !same(alone.state, all.state + n * alone.state_count, 4 * alone.state_count) ||
                !same(alone.taps, all.taps + n * alone.tap_bytes, alone.tap_bytes))
                fail_msg("taps %d on %s: sequence %d has other bits alone", taps, way->name, (int)n);
            drop(&alone);
        }
        drop(&all);
    }
}

/* Poison stays in the rows of masked sequences until they are read: never. */
void fused_check_poisoned_rows(const fused_way *way)
{
    static const uint8_t poisons[] = {0xff, 0x7f, 0xa5, 0x00};
    fused_spec s = full(2000);
    s.state = FKDA_BF16, s.x = FKDA_F32;
    fused_result zeros = run(way, &s, 0x00, GUARD_AT_END);
    for (size_t i = 0; i < sizeof poisons; ++i) {
        fused_result r = run(way, &s, poisons[i], GUARD_AT_END);
        if (!same_bits(&r, &zeros)) fail_msg("%s: a masked row of bytes 0x%02x was read", way->name, poisons[i]);
        drop(&r);
    }
    drop(&zeros);
}

void fused_check_nan_stays(const fused_way *way)
{
    fused_spec clean = full(3000), s = clean;
    s.nan_sequence = 2;
    fused_result a = run(way, &s, 0xff, GUARD_AT_END), b = run(way, &clean, 0xff, GUARD_AT_END);
    const int64_t out = a.out_count / s.N, state = a.state_count / s.N;
    for (int64_t n = 0; n < s.N; ++n) {
        if (n == s.nan_sequence) {
            for (int64_t i = 0; i < out; ++i)
                if (!isnan(a.out[n * out + i])) fail_msg("%s: element %d of a sequence of NaN is %g", way->name, (int)i, (double)a.out[n * out + i]);
        } else if (!same(a.out + n * out, b.out + n * out, 4 * out) || !same(a.state + n * state, b.state + n * state, 4 * state)) {
            fail_msg("%s: NaN left its sequence", way->name);
        }
    }
    drop(&a);
    drop(&b);
}

/* ---------------------------------------------------------------- token after token */

enum { TOKENS = 6 };

/* The image of token t, with the states and taps of the token before. */
static void next_token(fused_image *m, const fused_image *before, const fused_image *inputs)
{
    guarded_make_writable(&m->buffer[FUSED_X]);
    memcpy(m->buffer[FUSED_X].data, inputs->buffer[FUSED_X].data, m->buffer[FUSED_X].bytes);
    guarded_make_readonly(&m->buffer[FUSED_X]);
    for (int b = FUSED_TAPS; b < FUSED_BUFFERS; ++b) {
        memcpy(m->buffer[b].data, before->buffer[b].data, m->buffer[b].bytes);
        memcpy(m->before[b], m->buffer[b].data, m->buffer[b].bytes);
    }
}

/* After every token the taps of sequence n are the last three inputs, those before the first being 0. */
static void check_taps(const fused_image *m, fused_image *const *inputs, int t)
{
    const fused_spec *const s = &m->spec;
    const int64_t C = 3 * s->H * s->W;
    const fkda_tensor_desc d = m->desc.conv_state;
    for (int64_t n = 0; n < s->N; ++n)
        for (int i = 0; i < 3; ++i)
            for (int64_t c = 0; fused_row(s, n) >= 0 && c < C; ++c) {
                const double got = fkdai_load(m->buffer[FUSED_TAPS].data, s->x, fused_row(s, n) * d.batch_stride + i * d.token_stride + c * d.head_stride);
                const int from = t - 2 + i;
                const double want = from < 0 ? 0 : fkdai_load(inputs[from]->buffer[FUSED_X].data, s->x, n * m->desc.q.batch_stride + c);
                if (got != want) fail_msg("after token %d: tap %d of channel %d is %g, not %g", t, i, (int)c, got, want);
            }
}

void fused_check_tokens(const fused_way *way)
{
    for (int taps = 0; taps < FUSED_TAPS_COUNT; ++taps) {
        fused_image inputs[TOKENS], *pointers[TOKENS], m[TOKENS];
        for (int t = 0; t < TOKENS; ++t) {
            fused_spec s = full(4000), drawn;
            s.N = 3, s.slots = FKDA_NONE, s.is_masked = 0, s.taps = (fused_taps)taps;
            drawn = s, drawn.number += (uint64_t)t + 1;
            inputs[t] = fused_build(&drawn, 0xff, GUARD_AT_END), pointers[t] = &inputs[t];
            m[t] = fused_build(&s, 0xff, GUARD_AT_END);
            if (t == 0) memset(m[0].buffer[FUSED_TAPS].data, 0, m[0].buffer[FUSED_TAPS].bytes), memset(m[0].before[FUSED_TAPS], 0, m[0].buffer[FUSED_TAPS].bytes);
            next_token(&m[t], t > 0 ? &m[t - 1] : &m[0], &inputs[t]);
            if (way->run(way->context, &m[t]) != FKDA_OK) fail_msg("%s: %s", way->name, fkda_last_error());
            fused_check_untouched(&m[t]);
            check_taps(&m[t], pointers, t);
        }
        for (int t = 0; t < TOKENS; ++t) fused_free(&m[t]), fused_free(&inputs[t]);
    }
}

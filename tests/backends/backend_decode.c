/* Promises of decode that hold bit for bit: one call or many, alone or in a batch, whatever lies in slots that nobody reads. */
#include "harness.h"

#include <math.h>

#include "backend_bars.h"
#include "backend_suite.h"
#include "error_metrics.h"

#define POOL "lens=1,8,0,3,2,5,1,7,4,6 H=2 HV=4 K=128 V=128 op=decode "

static case_result run_on(const backend_bars *bars, const case_spec *s, const input_values *x, uint8_t poison)
{
    const run_setup setup = {bars->id, 2, poison, GUARD_AT_END};
    case_result r = case_run(s, x, &setup);
    if (r.status != FKDA_OK) fail_msg("%s on %s: %s", s->name, fkda_backend_name(bars->id), fkda_last_error());
    return r;
}

static case_result run_pieces(const backend_bars *bars, const case_spec *s, const input_values *x, const piece *pieces, int count, fkda_dtype form)
{
    case_spec part = pieces_spec(s, pieces, count, form);
    input_values y = pieces_values(s, x, pieces, &part);
    case_result r = run_on(bars, &part, &y, 0x5a);
    values_free(&y);
    return r;
}

static int same(const float *a, const float *b, int64_t count) { return memcmp(a, b, (size_t)count * sizeof *a) == 0; }

/* -------------------------------------------------------------- S tokens, or one after the other */

static void one_by_one(const backend_bars *bars, const char *text)
{
    const case_spec s = case_parse("one_by_one", text);
    const int64_t state_elems = case_state_elems(&s), out_elems = s.HV * s.V;
    input_values x = values_draw(&s);
    case_result all = run_on(bars, &s, &x, 0xa5);
    for (int64_t n = 0; n < s.N; ++n) {
        float *const state = must_alloc((size_t)state_elems, sizeof *state);
        memcpy(state, x.initial + n * state_elems, (size_t)state_elems * sizeof *state);
        for (int64_t t = 0; t < s.bounds[n + 1] - s.bounds[n]; ++t) {
            const piece token = {.sequence = n, .first = t, .count = 1, .initial = state};
            case_result one = run_pieces(bars, &s, &x, &token, 1, t % 2 ? FKDA_NONE : FKDA_I32);
            if (!same(one.out, all.out + (s.bounds[n] + t) * out_elems, out_elems)) fail_msg("%s: out of token %lld of sequence %lld", text, (long long)t, (long long)n);
            memcpy(state, one.state, (size_t)state_elems * sizeof *state);
            result_free(&one);
        }
        if (!same(state, all.state + n * state_elems, state_elems)) fail_msg("%s: the state of sequence %lld", text, (long long)n);
        free(state);
    }
    result_free(&all);
    values_free(&x);
}

static void tokens_one_by_one(const backend_bars *bars)
{
    if (!bars->splits_bitwise) return;    /* the state is wider inside than in memory */
    one_by_one(bars, POOL);
    one_by_one(bars, POOL "s0_layout=nhkv out=bf16");
    one_by_one(bars, POOL "gate=softplus gates=slow m=2");
    one_by_one(bars, "B=2 T=8 K=64 V=64 op=decode gate=precomputed in=f32 norm=none");
}

void test_decode_tokens_one_by_one(void **state)
{
    (void)state;
    bars_for_each(tokens_one_by_one);
}

/* -------------------------------------------------------------- alone, or with others */

static void batch_invariance(const backend_bars *bars)
{
    const case_spec s = case_parse("decode_pool", POOL "s0=bf16 s0_layout=nhkv");
    const int64_t state_elems = case_state_elems(&s), out_elems = s.HV * s.V;
    input_values x = values_draw(&s);
    case_result all = run_on(bars, &s, &x, 0xa5);
    for (int64_t n = 0; n < s.N; ++n) {
        const int64_t length = s.bounds[n + 1] - s.bounds[n];
        if (length == 0) continue;
        const piece whole = {.sequence = n, .count = length};
        for (int form = 0; form < 2; ++form) {
            case_result alone = run_pieces(bars, &s, &x, &whole, 1, form == 0 ? FKDA_NONE : FKDA_I64);
            if (!same(alone.out, all.out + s.bounds[n] * out_elems, length * out_elems) || !same(alone.state, all.state + n * state_elems, state_elems))
                fail_msg("%s: sequence %lld has other bits alone", fkda_backend_name(bars->id), (long long)n);
            result_free(&alone);
        }
    }
    result_free(&all);
    values_free(&x);
}

void test_decode_batch_invariance(void **state)
{
    (void)state;
    bars_for_each(batch_invariance);
}

/* -------------------------------------------------------------- slots that hold anything */

/* case_image.c leaves poison where a mask starts from 0: the same bits as from zeros that are read. */
static void poisoned_slot(const backend_bars *bars)
{
    case_spec s = case_parse("poisoned", "B=9 T=2 K=128 V=128 op=decode s0_pool=i32 mask=some"), zeros = s;
    zeros.is_masked = 0;
    input_values x = values_draw(&s);
    for (int64_t n = 1; n < s.N; n += 3) memset(x.initial + n * case_state_elems(&s), 0, (size_t)case_state_elems(&s) * sizeof(float));
    case_result clean = run_on(bars, &zeros, &x, 0x00);
    static const uint8_t poisons[] = {0xff, 0x7f, 0xa5};
    for (size_t i = 0; i < sizeof poisons; ++i) {
        case_result r = run_on(bars, &s, &x, poisons[i]);
        if (!result_same_bits(&r, &clean)) fail_msg("%s: a masked slot of bytes 0x%02x was read", fkda_backend_name(bars->id), poisons[i]);
        result_free(&r);
    }
    result_free(&clean);
    values_free(&x);
}

void test_decode_poisoned_slot_starts_from_0(void **state)
{
    (void)state;
    bars_for_each(poisoned_slot);
}

static void nan_stays(const backend_bars *bars)
{
    case_spec s = case_parse("decode_nan", "B=7 T=3 K=128 V=128 op=decode last=nan s0_pool=i32"), clean = s;
    clean.last_is_nan = 0;
    const int64_t rows = s.bounds[s.N - 1] * s.HV * s.V, states = (s.N - 1) * case_state_elems(&s);
    input_values x = values_draw(&s), y = values_draw(&clean);
    case_result a = run_on(bars, &s, &x, 0xa5), b = run_on(bars, &clean, &y, 0xa5);
    if (!same(a.out, b.out, rows) || !same(a.state, b.state, states)) fail_msg("%s: NaN left its sequence", fkda_backend_name(bars->id));
    for (int64_t i = rows; i < a.out_count; ++i)
        if (!isnan(a.out[i])) fail_msg("%s: element %lld of a sequence of NaN is %g", fkda_backend_name(bars->id), (long long)i, (double)a.out[i]);
    result_free(&a);
    result_free(&b);
    values_free(&x);
    values_free(&y);
}

void test_decode_nan_stays_in_its_sequence(void **state)
{
    (void)state;
    bars_for_each(nan_stays);
}

/* A mask does not clear what has no token. */
static void empty_sequences(const backend_bars *bars)
{
    enum { ELEMS = 64 * 64 };
    static float states[2 * ELEMS], before[2 * ELEMS], row[64], out[64];
    static const int64_t bounds[] = {0, 0, 1};
    static const uint8_t mask[] = {0, 1};
    static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char workspace[1 << 20];
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    const fkda_decode_desc d = {.struct_size = sizeof d, .backend = bars->id, .flags = FKDA_FLAG_INITIAL_MASK, .N = 2, .S = 1, .T = 1, .H = 1, .K = 64,
                                .V = 64, .q = f32, .k = f32, .v = f32, .g = f32, .beta = f32, .out = f32, .cu_seqlens = FKDA_I64, .lower_bound = -5,
                                .scale = 1, .state = {.dtype = FKDA_F32}};
    for (int i = 0; i < 2 * ELEMS; ++i) states[i] = before[i] = (float)i;
    for (int i = 0; i < 64; ++i) row[i] = 0.25f * (float)(i % 5), out[i] = NAN;
    const fkda_decode_args a = {.struct_size = sizeof a, .q = row, .k = row, .v = row, .g = row, .beta = row, .out = out, .cu_seqlens = bounds,
                                .state = states, .initial_mask = mask};
    if (fkda_decode(&d, &a, workspace, sizeof workspace, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
    if (!same(states, before, ELEMS)) fail_msg("%s: a sequence without tokens was touched", fkda_backend_name(bars->id));
    if (same(states + ELEMS, before + ELEMS, ELEMS) || isnan(out[0])) fail_msg("%s: the other one was not", fkda_backend_name(bars->id));
}

void test_decode_leaves_empty_sequences_alone(void **state)
{
    (void)state;
    bars_for_each(empty_sequences);
}

/* -------------------------------------------------------------- prefill, then decode, against prefill alone */

static void goes_on(const backend_bars *bars)
{
    const case_spec s = case_parse("goes_on", "lens=41 H=2 K=128 V=128");
    input_values x = values_draw(&s);
    case_result whole = case_run_reference(&s, &x);
    const piece prompt = {.count = 36}, rest = {.first = 36, .count = 5};
    case_result first = run_pieces(bars, &s, &x, &prompt, 1, FKDA_I64);
    piece after = rest;
    after.initial = first.state;
    case_spec decode = s;
    decode.is_decode = decode.in_place = 1;
    case_result second = run_pieces(bars, &decode, &x, &after, 1, FKDA_NONE);
    const double out = metric_m1(second.out, whole.out + first.out_count, second.out_count), final = metric_m1(second.state, whole.state, whole.state_count);
    if (!(out <= bars->bar.out) || !(final <= bars->bar.state))
        fail_msg("%s: out off by %.2e, the state by %.2e", fkda_backend_name(bars->id), out, final);
    result_free(&whole);
    result_free(&first);
    result_free(&second);
    values_free(&x);
}

void test_decode_goes_on_from_a_prefill(void **state)
{
    (void)state;
    bars_for_each(goes_on);
}

/* Promises of decode that hold bit for bit: one call or many, alone or in a batch, whatever lies in slots that nobody reads. */
#include "harness.h"

#include <math.h>

#include "backend_bars.h"
#include "backend_suite.h"
#include "decode_checks.h"
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

/* -------------------------------------------------------------- decode_checks.c on a backend */

static case_result run_any(const void *context, const case_spec *s, const input_values *x, uint8_t poison) { return run_on(context, s, x, poison); }

static decode_way way_of(const backend_bars *bars) { return (decode_way){.run = run_any, .context = bars, .name = fkda_backend_name(bars->id)}; }

static void tokens_one_by_one(const backend_bars *bars)
{
    const decode_way way = way_of(bars);
    if (!bars->splits_bitwise) return;    /* the state is wider inside than in memory */
    check_one_by_one(&way, POOL);
    check_one_by_one(&way, POOL "s0_layout=nhkv out=bf16");
    check_one_by_one(&way, POOL "gate=softplus gates=slow m=2");
    check_one_by_one(&way, "B=2 T=8 K=64 V=64 op=decode gate=precomputed in=f32 norm=none");
}

static void batch_invariance(const backend_bars *bars)
{
    const decode_way way = way_of(bars);
    check_batch(&way, POOL);
    check_batch(&way, POOL "s0=bf16 s0_layout=nhkv");
}

static void poisoned_slots(const backend_bars *bars)
{
    const decode_way way = way_of(bars);
    check_poisoned_slots(&way);
}

static void nan_stays(const backend_bars *bars)
{
    const decode_way way = way_of(bars);
    check_nan_stays(&way);
}

static void hard_numbers(const backend_bars *bars)
{
    const decode_way way = way_of(bars);
    check_slow_decay(&way);
    check_odd_rates(&way);
}

void test_decode_tokens_one_by_one(void **state)
{
    (void)state;
    bars_for_each(tokens_one_by_one);
}

void test_decode_batch_invariance(void **state)
{
    (void)state;
    bars_for_each(batch_invariance);
}

void test_decode_poisoned_slot_starts_from_0(void **state)
{
    (void)state;
    bars_for_each(poisoned_slots);
}

void test_decode_nan_stays_in_its_sequence(void **state)
{
    (void)state;
    bars_for_each(nan_stays);
}

void test_decode_hard_numbers(void **state)
{
    (void)state;
    bars_for_each(hard_numbers);
}

/* -------------------------------------------------------------- sequences without tokens */

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

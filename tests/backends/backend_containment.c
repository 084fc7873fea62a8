/* NaN or infinity in one (sequence, head) of any input reaches no other: all other outputs and states keep their bits. */
#include "harness.h"

#include <math.h>

#include "backend_bars.h"
#include "backend_suite.h"
#include "counter_rng.h"

#define LENS "20,0,37,1,70"
enum { SEQUENCE = 2, HEAD = 1, TOKEN = 20 };    /* where the poison goes: query/key head 1, or value head 2 of 4 */

/* A tensor of the inputs and where head `head` of row `row` of it begins. */
typedef struct victim {
    const char *name;
    float *data;
    int64_t heads, width, row;
    int by_query_head;    /* shared by a group of value heads */
    int in_all_sequences;
} victim;

/* May (n, hv) show the poison? */
static int is_touched(const case_spec *s, const victim *x, int64_t n, int64_t hv)
{
    const int64_t group = s->HV / s->H;
    const int same_head = x->by_query_head ? hv / group == HEAD : hv == HEAD * group;
    return same_head && (x->in_all_sequences || n == SEQUENCE);
}

static void expect_contained(const backend_bars *bars, const case_spec *s, const victim *x, const case_result *clean, const case_result *r)
{
    const size_t row = (size_t)s->V * sizeof(float), matrix = (size_t)(s->K * s->V) * sizeof(float);
    for (int64_t n = 0; n < s->N; ++n)
        for (int64_t hv = 0; hv < s->HV; ++hv) {
            if (is_touched(s, x, n, hv)) continue;
            for (int64_t t = s->bounds[n]; t < s->bounds[n + 1]; ++t)
                if (memcmp(clean->out + (t * s->HV + hv) * s->V, r->out + (t * s->HV + hv) * s->V, row) != 0)
                    fail_msg("%s: poison in %s reached out of sequence %lld, head %lld", fkda_backend_name(bars->id), x->name, (long long)n, (long long)hv);
            const int64_t at = (n * s->HV + hv) * s->K * s->V;
            if (memcmp(clean->state + at, r->state + at, matrix) != 0)
                fail_msg("%s: poison in %s reached final_state of sequence %lld, head %lld", fkda_backend_name(bars->id), x->name, (long long)n, (long long)hv);
        }
}

/* Something of the poisoned head must have changed, or nothing was tested. */
static void expect_some_effect(const backend_bars *bars, const victim *x, const case_result *clean, const case_result *r)
{
    if (result_same_bits(clean, r)) fail_msg("%s: poison in %s had no effect", fkda_backend_name(bars->id), x->name);
}

static void poison_and_run(const backend_bars *bars, const case_spec *s, const input_values *values, const victim *x, const case_result *clean, float poison)
{
    const int64_t head = x->by_query_head ? HEAD : HEAD * (s->HV / s->H);
    float *const at = x->data + (x->row * x->heads + head) * x->width + x->width / 2;
    const float kept = *at;
    *at = poison;
    const run_setup setup = {bars->id, 2, 0xa5, GUARD_AT_END};
    case_result r = case_run(s, values, &setup);
    *at = kept;
    expect_contained(bars, s, x, clean, &r);
    if (isnan(poison)) expect_some_effect(bars, x, clean, &r);
    result_free(&r);
}

static void containment_of(const backend_bars *bars, const case_spec *s)
{
    input_values x = values_draw(s);
    const run_setup setup = {bars->id, 1, 0xa5, GUARD_AT_END};
    case_result clean = case_run(s, &x, &setup);
    const int64_t row = s->bounds[SEQUENCE] + TOKEN, last = s->bounds[SEQUENCE + 1] - 1, first = s->bounds[SEQUENCE];
    const victim victims[] = {
        {"q", x.q, s->H, s->K, row, 1, 0},          {"k", x.k, s->H, s->K, row, 1, 0},
        {"v", x.v, s->HV, s->V, row, 0, 0},         {"g", x.g, s->HV, s->K, row, 0, 0},
        {"beta", x.beta, s->HV, 1, row, 0, 0},      {"k (first row)", x.k, s->H, s->K, first, 1, 0},
        {"k (last row)", x.k, s->H, s->K, last, 1, 0}, {"v (last row)", x.v, s->HV, s->V, last, 0, 0},
        {"initial_state", x.initial, s->HV, s->K * s->V, SEQUENCE, 0, 0},
        {"A_log", x.A_log, s->HV, 1, 0, 0, 1},      {"dt_bias", x.dt_bias, s->HV, s->K, 0, 0, 1},
    };
    const int count = s->gate == FKDA_GATE_PRECOMPUTED ? 9 : 11;
    for (int i = 0; i < count; ++i) {
        poison_and_run(bars, s, &x, &victims[i], &clean, NAN);
        poison_and_run(bars, s, &x, &victims[i], &clean, INFINITY);
        poison_and_run(bars, s, &x, &victims[i], &clean, -INFINITY);
    }
    result_free(&clean);
    values_free(&x);
}

static void nan_stays(const backend_bars *bars)
{
    const case_spec bounded = case_parse("nan_bounded", "H=2 HV=4 lens=" LENS);
    const case_spec softplus = case_parse("nan_softplus", "H=2 HV=4 gate=softplus in=f32 out=bf16 s0_layout=nhkv lens=" LENS);
    const case_spec given = case_parse("nan_precomputed", "H=2 HV=4 gate=precomputed beta=activated norm=none lens=" LENS);
    containment_of(bars, &bounded);
    containment_of(bars, &softplus);
    containment_of(bars, &given);
}

void test_nan_stays_in_its_head(void **state)
{
    (void)state;
    bars_for_each(nan_stays);
}

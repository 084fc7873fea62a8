/*
 * Long sequences in spans, without a GPU: from the public desc through cuda_spans.c to the device code of the set-up, the carry and the portable kernel
 * in the emulator, on memory between guard pages, all of it poisoned. First span 64 tokens, the others 32.
 *
 *     test_spans_emulated [cases | bits | broken | carry | counts]
 */
#include "harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "bars.h"
#include "case_run.h"
#include "case_states.h"
#include "counter_rng.h"
#include "cuda_spans.h"
#include "dtype.h"
#include "error_metrics.h"
#include "prefill_mma/prefill_mma_launch.h"
#include "span_call.h"
#include "status.h"

extern unsigned mma_emulated_seed;

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", NULL}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};

fkda_status fkdai_cuda_fail(const char *call, int error) { return fkdai_fail(FKDA_ERR_CUDA, "%s: %d", call, error); }

static const char rule[] = "64,32";

typedef struct emulated_run {
    int in_spans;
    uint8_t poison;
    uint32_t status;          /* afterwards: bits of device_status */
    const int64_t *bounds;    /* in place of the case's cu_seqlens */
} emulated_run;

/* On "CUDA" memory that the host can read; the workspace is as large as the plan says. */
static fkda_status call_kernel(const fkda_fwd_desc *d, const fkda_fwd_args *a, const emulated_run *how)
{
    static const fkdai_cuda_device device = {.major = 8, .multiprocessors = 132, .shared_bytes = FKDAI_MMA_SHARED_BYTES};
    const fkdai_cuda_kernel *const kernel = &fkdai_prefill_mma;
    fkdai_plan plan = {.operation = &fkdai_op_fwd};
    fkdai_cuda_kernel_plan own;
    fkdai_cuda_spans spans;
    TRY(fkdai_resolve(&fkdai_op_fwd, d, &plan.desc));
    TRY(kernel->plan(&device, &plan, &own));
    TRY(kernel->check_args(&plan.desc, a));
    if (!how->in_spans) return kernel->run(&plan.desc, &own, a, NULL, NULL) == 0 ? FKDA_OK : FKDA_ERR_INTERNAL;
    if (!fkdai_cuda_cuts(kernel, &device, &plan.desc, &spans)) fail_msg("a call that is not cut");
    TRY(fkdai_cuda_plan_spans(kernel, &device, &plan, &spans));
    guarded workspace = guarded_alloc(plan.workspace_bytes, FKDA_WORKSPACE_ALIGN, GUARD_AT_END, how->poison);
    const int error = fkdai_cuda_run_spans(kernel, &spans, &own, &plan.desc, a, workspace.data, NULL);
    guarded_free(&workspace);
    return error == 0 ? FKDA_OK : FKDA_ERR_INTERNAL;
}

static case_result run_emulated(const case_spec *s, const input_values *x, emulated_run *how)
{
    const run_setup setup = {FKDA_BACKEND_REF, 1, how->poison, how->poison == 0xff ? GUARD_AT_START : GUARD_AT_END};
    case_image m = image_build(s, x, &setup);
    fkda_fwd_desc d = m.desc;
    fkda_fwd_args a = m.args;
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_CUDA;
    a.device_status = &how->status;
    how->status = 0;
    if (how->bounds != NULL) a.cu_seqlens = how->bounds;
    mma_emulated_seed = how->poison;
    const fkda_status status = call_kernel(&d, &a, how);
    if (status != FKDA_OK) print_error("%s: %s\n", s->name, fkda_last_error());
    image_check_untouched(&m);
    const case_result r = image_gather(&m, status);
    image_free(&m);
    return r;
}

static case_result run_in_spans(const case_spec *s, const input_values *x)
{
    emulated_run how = {.in_spans = 1, .poison = 0xff};
    case_result r = run_emulated(s, x, &how);
    assert_int_equal(r.status, FKDA_OK);
    assert_int_equal(how.status, 0);
    return r;
}

/* ---------------------------------------------------------------- cases */

/* Inside the bars of every call; whatever lay in the workspace. */
static int check(const char *text)
{
    const case_spec s = kernel_case_parse(text, text);
    input_values x = values_draw(&s);
    emulated_run other = {.in_spans = 1, .poison = 0xa5};
    case_result r = run_in_spans(&s, &x), again = run_emulated(&s, &x, &other), ref = case_run_reference(&s, &x);
    const double out = metric_m1(r.out, ref.out, r.out_count);
    const double state = fmax(metric_m1(r.state, ref.state, r.state_count), metric_m1(r.checkpoints, ref.checkpoints, r.checkpoint_elems));
    const accuracy_bar bar = bar_bf16_of(&s);
    const int is_good = out <= bar.out && state <= bar.state && metric_is_finite(r.out, r.out_count) && metric_is_finite(r.state, r.state_count) &&
                        metric_is_finite(r.checkpoints, r.checkpoint_elems) && result_same_bits(&r, &again);
    print_message("%s %-60s out %.2e (%.1e) states %.2e (%.1e)\n", is_good ? "ok  " : "FAIL", text, out, bar.out, state, bar.state);
    result_free(&r);
    result_free(&again);
    result_free(&ref);
    values_free(&x);
    return is_good;
}

static void test_cases(void **unused)
{
    (void)unused;
    static const char *const texts[] = {
        "T=65 H=1", "T=96 H=1 HV=2", "T=97 H=1 gates=slow", "T=200 H=1 gates=slow s0=bf16 s1=bf16", "T=200 H=1 gates=open", "T=330 H=1 gates=floor keys=shifted",
        "B=3 T=130 H=2 gates=slow view=heads_first", "lens=200,0,64,65,1,97 H=1 gates=slow tail=9", "lens=97,130 H=2 gates=slow s0_layout=nhkv s1_layout=nhkv",
        "lens=130,33,0,100 H=1 s0_pool=i32 s1_pool=i32 place=same mask=some gates=slow", "lens=100,70,0 H=1 s0_pool=i64 s1_pool=i64 null=not_positive gates=slow",
        "T=160 H=1 gate=softplus gates=steep", "T=160 H=1 gate=precomputed gates=slow g=f32", "T=200 H=1 s0=none s1=none gates=slow", "T=130 H=1 m=2 keys=same gates=slow",
        "T=200 H=1 gates=slow cp=f32 cp_every=7", "T=200 H=1 gates=slow cp=bf16 cp_every=32 cp_layout=nhkv", "lens=200,0,64,99 H=1 gates=slow cp=f32 cp_every=50 cp_pool=i32",
        "lens=200,0,64,99 H=1 gates=slow cp=f32 cp_per=4 cp_pool=i64 null=not_positive", "T=130 H=1 gates=slow keys=rank8",
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) failed += !check(texts[i]);
    assert_int_equal(failed, 0);
}

/* ---------------------------------------------------------------- bits */

/* The values of the first T tokens of a call with one head, as a call of their own. */
static input_values first_tokens(const case_spec *of, const input_values *x, const case_spec *s)
{
    input_values y = values_draw(s);
    const size_t row = 128 * sizeof(float), T = (size_t)s->T;
    assert_true(of->H == 1 && of->HV == 1 && s->T <= of->T);
    memcpy(y.q, x->q, T * row), memcpy(y.k, x->k, T * row), memcpy(y.v, x->v, T * row), memcpy(y.g, x->g, T * row);
    memcpy(y.beta, x->beta, T * sizeof(float)), memcpy(y.A_log, x->A_log, sizeof(float)), memcpy(y.dt_bias, x->dt_bias, row);
    memcpy(y.initial, x->initial, 128 * row);
    return y;
}

/* out of a run on the first tokens: the bits of the whole run up to its last whole chunk. In the chunk that it cuts, later tokens may change how an
 * element of an operand is rounded (docs/numerics.md, causality), one of some 20,000 in a chunk of 250 by what was seen. A bf16 element moves by 2^-8 of
 * itself, hence an output by 2^-8 of one of its terms, which is not above the largest output, and by a last place when it is rounded; all outputs
 * together by less than rounding them costs. */
static void assert_is_prefix(const case_result *r, const case_result *all, int64_t tokens)
{
    const size_t whole = (size_t)(tokens / FKDAI_MMA_CHUNK * FKDAI_MMA_CHUNK) * 128, count = (size_t)tokens * 128;
    assert_memory_equal(r->out, all->out, whole * sizeof(float));
    float largest = 0;
    double moved = 0, size = 0;
    for (size_t i = whole; i < count; ++i) largest = fmaxf(largest, fabsf(all->out[i]));
    for (size_t i = whole; i < count; ++i) {
        const float by = fabsf(r->out[i] - all->out[i]);
        assert_true(by <= 0x1p-7f * fabsf(all->out[i]) + 0x1p-8f * largest);
        moved += (double)by * by, size += (double)all->out[i] * all->out[i];
    }
    assert_true(moved <= 0x1p-18 * size);
}

/* A sequence has the bits that it has alone, and each of its checkpoints those of a run that ends there. */
static void test_batches_and_prefixes(void **unused)
{
    (void)unused;
    static const struct { const char *batch; int64_t every; } calls[] = {{"lens=230,70,33 H=1 gates=slow cp=f32 cp_every=", 50}, {"lens=230,99 H=1 gates=slow cp=f32 cp_every=", 32}};
    for (size_t c = 0; c < sizeof calls / sizeof *calls; ++c) {
        char text[96];
        snprintf(text, sizeof text, "%s%d", calls[c].batch, (int)calls[c].every);
        const case_spec batch = kernel_case_parse("batch", text);
        input_values x = values_draw(&batch);
        case_result all = run_in_spans(&batch, &x);
        for (int64_t T = calls[c].every; T < 230 + calls[c].every; T += calls[c].every) {
            const int64_t tokens = T < 230 ? T : 230;
            snprintf(text, sizeof text, "T=%d H=1 gates=slow", (int)tokens);
            const case_spec alone = kernel_case_parse("alone", text);
            input_values y = first_tokens(&batch, &x, &alone);
            emulated_run how = {.in_spans = tokens > 64, .poison = 0xa5};
            case_result r = run_emulated(&alone, &y, &how);
            const float *const there = T < 230 ? all.checkpoints + (T / calls[c].every - 1) * 128 * 128 : all.state;
            assert_memory_equal(r.state, there, 128 * 128 * sizeof(float));
            assert_is_prefix(&r, &all, tokens);
            result_free(&r);
            values_free(&y);
        }
        result_free(&all);
        values_free(&x);
    }
}

/* Where no sequence is long, the kernel does the call as it is. */
static void test_nothing_is_cut(void **unused)
{
    (void)unused;
    const case_spec s = kernel_case_parse("short", "lens=40,64,0,1 H=2 gates=slow cp=f32 cp_per=3");
    input_values x = values_draw(&s);
    emulated_run plain = {.poison = 0xff};
    case_result a = run_in_spans(&s, &x), b = run_emulated(&s, &x, &plain);
    assert_true(result_same_bits(&a, &b));
    result_free(&a);
    result_free(&b);
    values_free(&x);
}

/* ---------------------------------------------------------------- broken */

static void test_broken_bounds(void **unused)
{
    (void)unused;
    static const int64_t broken[][3] = {{0, 100, 99}, {1, 130, 200}, {0, 130, 201}, {0, -5, 200}, {0, INT64_MAX, 200}};
    const case_spec s = kernel_case_parse("broken", "lens=130,70 H=1 cp=f32 cp_per=1 s0=none");
    const case_spec one = kernel_case_parse("broken", "lens=200 H=1 cp=f32 cp_per=1 s0=none");
    for (size_t i = 0; i <= sizeof broken / sizeof *broken; ++i) {
        static const int64_t too_long[] = {0, 201};
        const int is_one = i == sizeof broken / sizeof *broken;
        const case_spec *const of = is_one ? &one : &s;
        input_values x = values_draw(of);
        emulated_run how = {.in_spans = 1, .poison = 0xa5, .bounds = is_one ? too_long : broken[i]};
        case_result r = run_emulated(of, &x, &how);
        assert_int_equal(how.status, FKDA_DEVICE_SEQLENS_BROKEN);
        assert_true(metric_is_nan(r.out, r.out_count) && metric_is_nan(r.state, r.state_count));
        result_free(&r);
        values_free(&x);
    }
}

/* NaN of one sequence stay there, and what comes before them in it is as it was. */
static void test_nan_stays(void **unused)
{
    (void)unused;
    const case_spec s = kernel_case_parse("nan", "lens=130,200 H=1 gates=slow");
    input_values x = values_draw(&s);
    case_result want = run_in_spans(&s, &x);
    x.k[(130 + 100) * 128] = NAN;    /* in the third span of the second sequence */
    case_result got = run_in_spans(&s, &x);
    assert_memory_equal(got.out, want.out, (130 + 96) * 128 * sizeof(float));
    assert_memory_equal(got.state, want.state, 128 * 128 * sizeof(float));
    assert_true(metric_is_nan(got.out + (130 + 128) * 128, 72 * 128) && metric_is_nan(got.state + 128 * 128, 128 * 128));
    result_free(&want);
    result_free(&got);
    values_free(&x);
}

/* ---------------------------------------------------------------- carry */

enum { WIDTH = 128, ROWS = 5, MATRIX = WIDTH * WIDTH };

/* S [V,K] of each row but the first becomes own + (S of the row before) P, in float64: 2^-16 of a term is left out. Another sequence of one span before. */
static void test_carry(void **unused)
{
    (void)unused;
    static float starts[ROWS][MATRIX], want[ROWS][MATRIX], P[MATRIX];
    static uint16_t transitions[ROWS - 1][2][MATRIX];
    static const int32_t before[] = {0, 0, ROWS}, cut_before[] = {0, 0, 1}, cut[] = {1};
    const uint64_t states = rng_stream("span starts", 0), factors = rng_stream("span transitions", 0);
    for (int row = 0; row < ROWS; ++row) {
        for (int i = 0; i < MATRIX; ++i) {
            starts[row][i] = want[row][i] = (float)rng_normal(states, (uint64_t)(row * MATRIX + i));
            P[i] = (float)rng_normal(factors, (uint64_t)(row * MATRIX + i)) / 16;
        }
        if (row == 0) continue;
        for (int i = 0; i < MATRIX; ++i) {
            transitions[row - 1][0][i] = fkdai_f32_to_bf16(P[i]);
            transitions[row - 1][1][i] = fkdai_f32_to_bf16(P[i] - fkdai_bf16_to_f32(transitions[row - 1][0][i]));
        }
        for (int v = 0; v < WIDTH; ++v)
            for (int k = 0; k < WIDTH; ++k) {
                double sum = want[row][v * WIDTH + k];
                for (int j = 0; j < WIDTH; ++j) sum += (double)want[row - 1][v * WIDTH + j] * (double)P[j * WIDTH + k];
                want[row][v * WIDTH + k] = (float)sum;
            }
    }
    const fkdai_span_carry carry = {.N = 2, .HV = 1, .most_cut = 1, .before = before, .cut_before = cut_before, .cut = cut, .starts = starts[0],
                                    .transitions = transitions[0][0]};
    assert_int_equal(fkdai_span_carry_states(&carry, NULL), 0);
    for (int row = 0; row < ROWS; ++row) assert_true(metric_m1(starts[row], want[row], MATRIX) <= (row == 0 ? 0 : 1e-5));
}

/* ---------------------------------------------------------------- counts */

/* No packed call has more entries than it has room for. */
static void test_counts(void **unused)
{
    (void)unused;
    const uint64_t lengths = rng_stream("span lengths", 0);
    for (int turn = 0; turn < 20000; ++turn) {
        const fkdai_span_rule of = {32 * (1 + turn % 7), 32 * (1 + turn % 7 * (turn / 7 % 2))};
        int64_t N = 1 + turn % 9, T = turn % 5, own = 0, late = 0, cut = 0;
        for (int64_t n = 0; n < N; ++n) {
            const int64_t length = rng_below(lengths, (uint64_t)(turn * 9 + n), turn % 3 == 0 ? 700 : 90);
            const int64_t behind = length <= of.first ? 0 : (length - of.first + of.next - 1) / of.next;
            T += length, own += behind, cut += behind > 0, late += behind > 0 ? behind : 1;
        }
        const fkdai_span_counts most = fkdai_span_count(N, T, 1, of);
        if (own > most.own || own - cut > most.transitions || late > most.late || cut > most.cut) fail_msg("turn %d: too little room", turn);
    }
    const fkdai_span_counts dense = fkdai_span_count(3, 200, 0, (fkdai_span_rule){64, 32});
    assert_true(dense.own == 15 && dense.transitions == 12 && dense.late == 15 && dense.cut == 3);
}

int main(int argc, char **argv)
{
    rng_seed();
    if (setenv("FKDA_CUDA_SPANS", rule, 1) != 0) return 1;
    const struct CMUnitTest cases[] = {cmocka_unit_test(test_cases)};
    const struct CMUnitTest bits[] = {cmocka_unit_test(test_batches_and_prefixes), cmocka_unit_test(test_nothing_is_cut)};
    const struct CMUnitTest broken[] = {cmocka_unit_test(test_broken_bounds), cmocka_unit_test(test_nan_stays)}, carry[] = {cmocka_unit_test(test_carry)};
    const struct CMUnitTest counts[] = {cmocka_unit_test(test_counts)};
    const char *const part = argc > 1 ? argv[1] : "";
    int failed = 0;
    if (*part == 0 || strcmp(part, "cases") == 0) failed += cmocka_run_group_tests(cases, NULL, NULL);
    if (*part == 0 || strcmp(part, "bits") == 0) failed += cmocka_run_group_tests(bits, NULL, NULL);
    if (*part == 0 || strcmp(part, "broken") == 0) failed += cmocka_run_group_tests(broken, NULL, NULL);
    if (*part == 0 || strcmp(part, "carry") == 0) failed += cmocka_run_group_tests(carry, NULL, NULL);
    if (*part == 0 || strcmp(part, "counts") == 0) failed += cmocka_run_group_tests(counts, NULL, NULL);
    return failed;
}

/*
 * The portable prefill kernel without a GPU: cases from the public desc through the kernel's host side (prefill_mma.c) to its device code in the
 * emulator, on memory between guard pages, outputs and states poisoned; against the reference, and bit for bit however V is sliced.
 *
 *     test_mma_emulated [cases | sizes | table | broken]
 */
#include "harness.h"

#include <math.h>
#include <stdio.h>

#include "bars.h"
#include "case_run.h"
#include "case_states.h"
#include "counter_rng.h"
#include "cuda_kernel.h"
#include "error_metrics.h"
#include "prefill_mma/prefill_mma_launch.h"

extern unsigned mma_emulated_seed;

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", NULL}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};

typedef struct emulated_run {
    uint8_t poison;
    guard_side side;
    unsigned seed;
    int slices;         /* 0: as planned */
    uint32_t status;    /* afterwards: bits of device_status */
    const int64_t *bounds, *slots;    /* in place of the case's cu_seqlens and final_slots, which are int64 then */
} emulated_run;

/* The kernel's answer to a call on "CUDA" memory that the host can read. */
static fkda_status call_kernel(const fkda_fwd_desc *d, const fkda_fwd_args *a, int slices)
{
    static const fkdai_cuda_device device = {.major = 8, .multiprocessors = 1, .shared_bytes = FKDAI_MMA_SHARED_BYTES};
    fkdai_plan plan = {.operation = &fkdai_op_fwd};
    fkdai_cuda_kernel_plan own;
    fkda_status status = fkdai_resolve(&fkdai_op_fwd, d, &plan.desc);
    if (status == FKDA_OK) status = fkdai_prefill_mma.plan(&device, &plan, &own);
    if (status == FKDA_OK) status = fkdai_prefill_mma.check_args(&plan.desc, a);
    if (status != FKDA_OK) return status;
    const fkdai_mma_grid grid = fkdai_mma_make_grid(plan.desc.fwd.N, plan.desc.fwd.HV, plan.desc.fwd.V, 1, slices);
    memcpy(&own, &grid, sizeof grid);
    if (fkdai_prefill_mma.run(&plan.desc, &own, a, NULL, NULL) != 0) fail_msg("the kernel did not end");
    return FKDA_OK;
}

static case_result run_emulated(const case_spec *s, const input_values *x, emulated_run *how)
{
    const run_setup setup = {FKDA_BACKEND_REF, 1, how->poison, how->side};
    case_image m = image_build(s, x, &setup);
    fkda_fwd_desc d = m.desc;
    fkda_fwd_args a = m.args;
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_CUDA;
    a.device_status = &how->status;
    how->status = 0;
    if (how->bounds != NULL) a.cu_seqlens = how->bounds;
    if (how->slots != NULL) a.final_slots = how->slots;
    mma_emulated_seed = how->seed;
    const fkda_status status = call_kernel(&d, &a, how->slices);
    image_check_untouched(&m);
    const case_result r = image_gather(&m, status);
    image_free(&m);
    return r;
}

static int is_inside(const case_spec *s, const case_result *r, const case_result *ref)
{
    const double out = metric_m1(r->out, ref->out, r->out_count);
    const double state = fmax(metric_m1(r->state, ref->state, r->state_count), metric_m1(r->checkpoints, ref->checkpoints, r->checkpoint_elems));
    const accuracy_bar bar = bar_bf16_of(s);
    const int is_good = out <= bar.out && state <= bar.state && metric_is_finite(r->out, r->out_count) && metric_is_finite(r->state, r->state_count) &&
                        metric_is_finite(r->checkpoints, r->checkpoint_elems);
    print_message("%s %-28s out %.2e (%.1e) states %.2e (%.1e)\n", is_good ? "ok  " : "FAIL", s->name, out, bar.out, state, bar.state);
    return is_good;
}

/* 1: good, 0: not, -1: refused. */
static int check_values(const case_spec *s, input_values x, unsigned number)
{
    emulated_run first = {.poison = 0xa5, .side = GUARD_AT_END, .slices = 1};
    emulated_run second = {.poison = 0xff, .side = GUARD_AT_START, .seed = number + 1, .slices = 2 << number % 3};
    case_result a = run_emulated(s, &x, &first);
    int good = -1;
    if (a.status == FKDA_OK) {
        case_result b = run_emulated(s, &x, &second), ref = case_run_reference(s, &x);
        good = is_inside(s, &a, &ref) && first.status == 0;
        if (!result_same_bits(&a, &b)) good = 0, print_error("%s: other poison, place, slices or order of threads, other bits\n", s->name);
        result_free(&b);
        result_free(&ref);
    }
    result_free(&a);
    return good;
}

static int check(const case_spec *s, unsigned number)
{
    input_values x = values_draw(s);
    const int good = check_values(s, x, number);
    values_free(&x);
    return good;
}

static void test_cases(void **unused)
{
    (void)unused;
    static const char *const texts[] = {
        "T=1 H=1", "T=32 H=1", "T=70 H=1 HV=2", "T=200 H=1 gates=slow", "lens=0,33,1,64 H=1", "T=130 H=1 gates=floor keys=shifted s0=bf16 s1=bf16",
        "T=64 H=1 s0_layout=nhkv s1_layout=nhkv", "T=100 H=1 gate=softplus gates=steep g=bf16", "T=70 H=1 gate=precomputed gates=steep beta=activated",
        "T=70 H=1 gate=precomputed g=f32 b=f32", "T=70 H=1 norm=none beta=activated betas=eight keys=uniform", "T=70 H=1 K=64 V=128 cp=f32 cp_every=7",
        "lens=70,0,33 H=1 K=128 V=64 cp=bf16 cp_per=3 cp_layout=nhkv cp_pool=i32", "T=50 H=1 K=64 V=64 m=2 keys=same",
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = kernel_case_parse(texts[i], texts[i]);
        failed += check(&s, (unsigned)i) != 1;
    }
    assert_int_equal(failed, 0);
}

/* ---------------------------------------------------------------- sizes */

static void scale_all(float *x, int64_t count, float by)
{
    for (int64_t i = 0; i < count; ++i) x[i] *= by;
}

/* Values, keys and queries times powers of two, small and large b, channels that decay at once now and then: what neither fp16 nor an anchor holds. */
static void test_sizes(void **unused)
{
    (void)unused;
    static const struct { const char *text; float values, keys, queries, beta; int64_t every; } sizes[] = {
        {"T=40 H=1", 0x1p13f, 1, 1, 1, 1}, {"T=40 H=1", 0x1p100f, 1, 1, 1, 1}, {"T=40 H=1 cp=f32 cp_every=9", 0x1p-30f, 1, 1, 1, 1},
        {"T=40 H=1 cp=f32 cp_every=9", 0x1p20f, 1, 1, 1, 1},
        {"T=40 H=1", 1, 0x1p70f, 1, 1, 1}, {"T=40 H=1", 1, 1, 0x1p70f, 1, 1},
        {"T=40 H=1 norm=none beta=activated", 1, 0x1p10f, 0x1p12f, 0x1p-20f, 1}, {"T=40 H=1 norm=none beta=activated", 1, 0x1p-66f, 0x1p-70f, 1, 1},
        {"T=40 H=1 beta=activated", 1, 1, 1, 0x1p-20f, 1}, {"T=40 H=1 beta=activated", 1, 1, 1, 0x1p-60f, 1},
        {"T=40 H=1 beta=activated b=f32 gates=closed", 1, 1, 1, 0x1p100f, 40}, {"T=40 H=1 beta=activated gates=closed", 1, 1, 1, -37, 40},
    };
    int failed = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; ++i) {
        const case_spec s = kernel_case_parse(sizes[i].text, sizes[i].text);
        input_values x = values_draw(&s);
        scale_all(x.v, s.T * 128, sizes[i].values), scale_all(x.k, s.T * 128, sizes[i].keys), scale_all(x.q, s.T * 128, sizes[i].queries);
        scale_all(x.initial, 128 * 128, sizes[i].values);
        for (int64_t t = 0; t < s.T; t += sizes[i].every) x.beta[t] *= sizes[i].beta;
        failed += check_values(&s, x, (unsigned)i) != 1;
        values_free(&x);
    }
    const case_spec s = kernel_case_parse("steep", "T=40 H=1 gate=precomputed cp=f32 cp_every=20");
    input_values x = values_draw(&s);
    for (int64_t i = 0; i < s.T * 128; ++i) x.g[i] = i / 128 % 16 == 7 && i % 3 > 0 ? -90 : x.g[i] / 8;
    failed += check_values(&s, x, 1) != 1;
    values_free(&x);
    assert_int_equal(failed, 0);
}

/* To the dtypes that the kernel is built for, and to its widths; beta and log a as they are. 0: only one dtype can be exact. */
static int widen(case_spec *s)
{
    const int64_t K = s->K <= 64 ? 64 : 128;
    if (s->exact || s->K > 128 || s->V > 128) return 0;
    if (fabs(s->scale * sqrt((double)s->K) - 1) < 1e-6) s->scale = 1 / sqrt((double)K);
    s->K = K, s->V = s->V <= 64 ? 64 : 128;
    s->q = s->k = s->v = s->out = FKDA_BF16;
    if (s->gate != FKDA_GATE_PRECOMPUTED) s->g = FKDA_BF16;
    return 1;
}

enum { PARTS = 6 };    /* of the table: where draws are few, one of them in turn */

static void test_table(void **unused)
{
    (void)unused;
    int ran = 0, refused = 0, failed = 0;
    for (int i = 0; i < case_count("fwd"); ++i) {
        case_spec s = case_at("fwd", i);
        if (!widen(&s) || !draw_is_wanted(i % PARTS, PARTS, i / PARTS)) continue;
        const int good = check(&s, (unsigned)i);
        ran += good >= 0, failed += good == 0, refused += good < 0;
    }
    print_message("emulated mma: %d cases ran, %d failed, %d refused\n", ran, failed, refused);
    assert_int_equal(failed, 0);
}

/* ---------------------------------------------------------------- what the host cannot check */

/* Whatever is wrong with cu_seqlens: all that is written is NaN, and the status word says so. */
static void test_broken_bounds(void **unused)
{
    (void)unused;
    static const int64_t broken[][4] = {{0, 40, 20, 70}, {1, 30, 40, 70}, {0, 30, 40, 71}, {0, -5, 40, 70}, {0, 30, INT64_MAX, 70}, {INT64_MIN, 0, 0, 70}};
    const case_spec s = kernel_case_parse("broken", "lens=30,10,30 H=1 HV=2 s0=none cp=f32 cp_per=1 s1_layout=nhkv");
    input_values x = values_draw(&s);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; ++i) {
        emulated_run how = {.poison = 0xa5, .side = GUARD_AT_END, .seed = (unsigned)i, .slices = 1 << i % 4, .bounds = broken[i]};
        case_result r = run_emulated(&s, &x, &how);
        assert_int_equal(r.status, FKDA_OK);
        assert_int_equal(how.status, FKDA_DEVICE_SEQLENS_BROKEN);
        assert_true(metric_is_nan(r.out, r.out_count) && metric_is_nan(r.state, r.state_count));
        result_free(&r);
    }
    values_free(&x);
}

/* A slot that is not below slot_count counts as null: nothing is written there, and the others are what they are. */
static void test_broken_slots(void **unused)
{
    (void)unused;
    const case_spec s = kernel_case_parse("slots", "lens=3,40,33 H=1 s1_pool=i64");
    input_values x = values_draw(&s);
    emulated_run usual = {.poison = 0xa5, .side = GUARD_AT_END, .slices = 4};
    case_result want = run_emulated(&s, &x, &usual);
    static const int64_t beyond[] = {100, INT64_C(1) << 32, INT64_MAX};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; ++i) {
        int64_t slots[3];
        for (int64_t n = 0; n < 3; ++n) slots[n] = case_final_slot(&s, n);
        slots[1] = beyond[i];
        emulated_run how = {.poison = 0xa5, .side = GUARD_AT_END, .slices = 4, .slots = slots};
        case_result r = run_emulated(&s, &x, &how);
        assert_int_equal(how.status, FKDA_DEVICE_SLOT_BROKEN);
        assert_memory_equal(r.out, want.out, (size_t)r.out_count * sizeof(float));
        assert_memory_equal(r.state, want.state, 128 * 128 * sizeof(float));
        assert_memory_not_equal(r.state + 128 * 128, want.state + 128 * 128, 128 * 128 * sizeof(float));
        assert_memory_equal(r.state + 2 * 128 * 128, want.state + 2 * 128 * 128, 128 * 128 * sizeof(float));
        result_free(&r);
    }
    assert_int_equal(usual.status, 0);
    result_free(&want);
    values_free(&x);
}

/* A sequence of NaN leaves the bits of the one before it alone, whose last chunk ends inside its rows. */
static void test_nan_stays(void **unused)
{
    (void)unused;
    static const char *const gates[] = {"", " gate=softplus", " gate=precomputed g=f32", " norm=none beta=activated"};
    for (size_t i = 0; i < sizeof gates / sizeof *gates; ++i) {
        char with[96], without[96];
        snprintf(with, sizeof with, "lens=37,40 H=1 last=nan%s", gates[i]);
        snprintf(without, sizeof without, "lens=37,40 H=1%s", gates[i]);
        const case_spec nan = kernel_case_parse("nan", with), none = kernel_case_parse("nan", without);
        input_values x = values_draw(&nan), y = values_draw(&none);
        emulated_run first = {.poison = 0xa5, .side = GUARD_AT_END, .slices = 2}, second = first;
        case_result a = run_emulated(&nan, &x, &first), b = run_emulated(&none, &y, &second);
        assert_true(a.status == FKDA_OK && metric_is_nan(a.out + 37 * 128, 40 * 128));
        assert_memory_equal(a.out, b.out, 37 * 128 * sizeof(float));
        assert_memory_equal(a.state, b.state, 128 * 128 * sizeof(float));
        result_free(&a);
        result_free(&b);
        values_free(&x);
        values_free(&y);
    }
}

int main(int argc, char **argv)
{
    rng_seed();
    const struct CMUnitTest cases[] = {cmocka_unit_test(test_cases)}, sizes[] = {cmocka_unit_test(test_sizes)}, table[] = {cmocka_unit_test(test_table)};
    const struct CMUnitTest broken[] = {cmocka_unit_test(test_broken_bounds), cmocka_unit_test(test_broken_slots), cmocka_unit_test(test_nan_stays)};
    const char *const part = argc > 1 ? argv[1] : "";
    int failed = 0;
    if (*part == 0 || strcmp(part, "cases") == 0) failed += cmocka_run_group_tests(cases, NULL, NULL);
    if (*part == 0 || strcmp(part, "sizes") == 0) failed += cmocka_run_group_tests(sizes, NULL, NULL);
    if (*part == 0 || strcmp(part, "table") == 0) failed += cmocka_run_group_tests(table, NULL, NULL);
    if (*part == 0 || strcmp(part, "broken") == 0) failed += cmocka_run_group_tests(broken, NULL, NULL);
    return failed;
}

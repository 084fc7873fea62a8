/*
 * fkda_decode on a GPU, through the public API: the cases of decode in cases.def against the reference, and what must hold bit for bit. Prints
 * ran / skipped / failed. Skips as a whole without a GPU. One file, though long: its tests share one run on the device.
 *
 *     decode_cases [tiny]      tiny: small cases and broken arrays alone, for compute-sanitizer
 */
#include "harness.h"

#include <math.h>

#include "bars.h"
#include "case_states.h"
#include "commit_checks.h"
#include "counter_rng.h"
#include "decode/decode_plan.h"
#include "decode_checks.h"
#include "device_case.h"
#include "dtype.h"
#include "error_metrics.h"

#define TEN "8,0,3,1,5,7,2,8,6,4"
#define SHORT "lens=1,5,0,3,2,5,1,2,4,3 H=2 HV=4 K=128 V=128 op=decode "    /* token by token */
#define POOL "lens=1,8,0,3,2,5,1,7,4,6 H=2 HV=4 K=128 V=128 op=decode "

static int64_t most_states = INT64_MAX;      /* of a case */
static double largest_out, largest_state;    /* M1 over its bar that was seen */

static int same(const float *a, const float *b, int64_t count) { return memcmp(a, b, (size_t)count * sizeof *a) == 0; }

/* To the widths that the kernel is built for. */
static case_spec widened(case_spec s)
{
    if (fabs(s.scale * sqrt((double)s.K) - 1) < 1e-6) s.scale = 1 / sqrt(128.0);
    s.K = s.V = 128;
    return s;
}

static int is_inside(const case_spec *s, case_result *r, const case_result *ref)
{
    for (int64_t i = 0; i < r->out_count; ++i)
        if (!isfinite(r->out[i])) return 0;
    for (int64_t i = 0; i < r->state_count; ++i)
        if (!isfinite(r->state[i])) return 0;
    if (s->exact) return result_same_bits(r, ref);
    if (s->out == FKDA_BF16) metric_undo_bf16(r->out, ref->out, r->out_count);
    if (s->final == FKDA_BF16) metric_undo_bf16(r->state, ref->state, r->state_count);
    const double out = metric_m1(r->out, ref->out, r->out_count) / BAR(f32, any).out, state = metric_m1(r->state, ref->state, r->state_count) / BAR(f32, any).state;
    largest_out = fmax(largest_out, out), largest_state = fmax(largest_state, state);
    if (out <= 1 && state <= 1) return 1;
    print_error("%s: out M1 %.2e, state M1 %.2e\n", s->name, out * BAR(f32, any).out, state * BAR(f32, any).state);
    return 0;
}

/* The same with commit NONE: out, for which tokens may be taken together. */
static int verifies(const case_spec *s, const input_values *x, const case_result *ref)
{
    case_spec verify = *s;
    device_run how = {.poison = 0xa5};
    verify.is_verify = 1;
    case_result r = run_case_on_device(&verify, x, &how);
    if (r.status != FKDA_OK) fail_msg("%s with commit NONE: %s", s->name, fkda_last_error());
    memcpy(r.state, ref->state, (size_t)r.state_count * sizeof *r.state);
    const int good = is_inside(s, &r, ref) && how.status == 0;
    result_free(&r);
    return good;
}

typedef struct tally {
    int ran, skipped, failed;
} tally;

/* Twice, against the reference. */
static void check_case(const case_spec *s, tally *t)
{
    input_values x = values_draw(s);
    device_run first = {.poison = 0xa5}, second = {.poison = 0xff};
    case_result a = run_case_on_device(s, &x, &first);
    if (a.status == FKDA_OK) {
        case_result b = run_case_on_device(s, &x, &second), ref = case_run_reference(s, &x);
        const int same_bits = result_same_bits(&a, &b), good = is_inside(s, &a, &ref) && same_bits && first.status == 0 && verifies(s, &x, &ref);
        if (!same_bits) print_error("%s: other poison, other bits\n", s->name);
        ++t->ran, t->failed += !good;
        result_free(&b);
        result_free(&ref);
    } else {
        ++t->skipped;
    }
    result_free(&a);
    values_free(&x);
}

/* More than five states for each multiprocessor: blocks that go from state to state. */
static void test_large_cases(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"B=70 T=8 H=5 HV=10 K=128 V=128 op=decode s0_pool=i32 mask=some out=bf16",
                                        "B=150 T=6 H=5 K=128 V=128 op=decode s0=bf16 s0_pool=i64 null=none gate=softplus out=bf16",
                                        "lens=" TEN "," TEN "," TEN "," TEN "," TEN "," TEN "," TEN " H=5 HV=10 K=128 V=128 op=decode s0_pool=i64 gate=softplus gates=slow m=2 out=bf16"};
    tally t = {0};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) {
        const case_spec s = case_parse("large", texts[i]);
        check_case(&s, &t);
    }
    print_message("decode_cases: ran %d, failed %d large cases\n", t.ran, t.failed);
    assert_true(t.failed == 0 && t.skipped == 0);
}

static void test_every_case(void **unused)
{
    (void)unused;
    tally t = {0};
    for (int i = 0; i < case_count("decode"); ++i) {
        const case_spec s = widened(case_at("decode", i));
        if (s.N * s.HV <= most_states) check_case(&s, &t);
    }
    print_message("decode_cases: ran %d, failed %d, skipped %d (strides); the largest error was %.2f of its bar in out, %.2f in states\n", t.ran, t.failed,
                  t.skipped, largest_out, largest_state);
    assert_int_equal(t.failed, 0);
    assert_true(t.ran >= (most_states < INT64_MAX ? 80 : 90));
}

/* -------------------------------------------------------------- decode_checks.c on the device */

static case_result run_any(const void *context, const case_spec *s, const input_values *x, uint8_t poison)
{
    (void)context;
    return run_on_device(s, x, poison);
}
static const decode_way way = {run_any, NULL, "the GPU", FKDAI_DECODE_TOGETHER_LAST};

static void test_tokens_one_by_one(void **unused)
{
    (void)unused;
    static const char *const texts[] = {SHORT, SHORT "s0_layout=nhkv out=bf16", SHORT "gate=softplus gates=slow m=2", SHORT "gate=precomputed in=f32 norm=none",
                                        SHORT "gates=wide gate=softplus keys=shifted"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) check_one_by_one(&way, texts[i]);
    print_message("decode_cases: ran %d, failed 0 token by token\n", (int)(sizeof texts / sizeof *texts));
}

static void test_tokens_together(void **unused)
{
    (void)unused;
    static const char *const texts[] = {POOL, POOL "s0_layout=nhkv", POOL "gate=softplus gates=slow m=2", POOL "gate=precomputed in=f32",
                                        POOL "gates=wide gate=softplus keys=shifted", POOL "gates=steep gate=softplus in=f32"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) check_together(&way, texts[i]), check_one_by_one(&way, texts[i]);
    check_together(&way, SHORT "gate=softplus gates=slow m=2");    /* of these calls those that write no state */
    check_together(&way, "lens=4,1,0,3 H=2 HV=4 K=128 V=128 op=decode s0_layout=nhkv in=f32");
    print_message("decode_cases: ran %d, failed 0 of tokens taken together\n", 2 + (int)(sizeof texts / sizeof *texts));
}

static void test_batch_invariance(void **unused)
{
    (void)unused;
    check_batch(&way, POOL);
    check_batch(&way, POOL "s0=bf16");
    static const char *const texts[] = {"B=70 T=8 H=5 HV=10 K=128 V=128 op=decode out=bf16", "B=110 T=6 H=3 HV=6 K=128 V=128 op=decode s0=bf16 gate=softplus out=bf16",
                                        "lens=" TEN "," TEN "," TEN "," TEN "," TEN "," TEN "," TEN " H=5 HV=10 K=128 V=128 op=decode out=bf16"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i) check_batch(&way, texts[i]);    /* all of them by blocks that stay, each alone by others */
    print_message("decode_cases: ran %d, failed 0 of batches\n", 2 + (int)(sizeof texts / sizeof *texts));
}

static void test_containment(void **unused)
{
    (void)unused;
    check_poisoned_slots(&way);
    check_nan_stays(&way);
}

static void test_hard_numbers(void **unused)
{
    (void)unused;
    check_slow_decay(&way);
    check_odd_rates(&way);
}

/* -------------------------------------------------------------- commit_checks.c on the device */

static fkda_status run_commit(const void *context, const fkda_decode_desc *desc, const commit_buffer *buffers, uint32_t *device_status)
{
    (void)context;
    void *at[COMMIT_ARGUMENTS] = {NULL};
    fkda_decode_desc d = *desc;
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_CUDA;
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i)
        if (buffers[i].data != NULL) at[i] = on_device(buffers[i].data, buffers[i].bytes);
    fkda_decode_args a = commit_args(at);
    a.device_status = on_device(device_status, sizeof *device_status);
    const fkda_status status = fkda_decode(&d, &a, NULL, 0, NULL);
    MUST(cudaDeviceSynchronize());
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) {
        if (at[i] != NULL && commit_is_written(i)) MUST(cudaMemcpy(buffers[i].data, at[i], buffers[i].bytes, cudaMemcpyDeviceToHost));
        MUST(cudaFree(at[i]));
    }
    MUST(cudaMemcpy(device_status, a.device_status, sizeof *device_status, cudaMemcpyDeviceToHost));
    MUST(cudaFree(a.device_status));
    return status;
}
static const commit_way commit_on_device = {.run = run_commit, .name = "the GPU", .widest_only = 1, .finds_on_device = 1,
                                            .none_together_from = FKDAI_DECODE_TOGETHER_NONE, .last_together_from = FKDAI_DECODE_TOGETHER_LAST};

static void test_commits(void **unused)
{
    (void)unused;
    check_commits(&commit_on_device);
}

static void test_step_states(void **unused)
{
    (void)unused;
    check_step_states(&commit_on_device);
}

static void test_trees(void **unused)
{
    (void)unused;
    check_trees(&commit_on_device);
    check_commit_nan(&commit_on_device);
}

static void test_broken_commits(void **unused)
{
    (void)unused;
    check_broken_commits(&commit_on_device);
}

/* -------------------------------------------------------------- broken arrays */

static void test_broken_bounds(void **unused)
{
    (void)unused;
    static const int64_t all[][5] = {{0, 9, 9, 10, 12}, {0, 2, 1, 3, 5}, {1, 2, 3, 4, 5}, {0, 1, 2, 3, 13}, {0, INT64_MIN, 2, 3, 4}, {0, 3, INT64_MAX, 5, 6}};
    const case_spec s = case_parse("bounds", "lens=3,3,3,3 H=1 K=128 V=128 op=decode");
    input_values x = values_draw(&s);
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        device_run how = {.poison = 0xa5, .bounds = all[i]};
        case_result r = run_case_on_device(&s, &x, &how);
        assert_int_equal(how.status, FKDA_DEVICE_SEQLENS_BROKEN);
        for (int64_t n = 0; n < 4; ++n) {
            const int64_t begin = all[i][n], end = all[i][n + 1];
            const int is_good = begin >= 0 && end > begin && end <= 12 && end - begin <= 3 && (n > 0 || begin == 0);
            if (same(r.state + n * 16384, x.initial + n * 16384, 16384) == is_good) fail_msg("bounds %d: sequence %d", (int)i, (int)n);
        }
        result_free(&r);
    }
    values_free(&x);
}

static void test_broken_slots(void **unused)
{
    (void)unused;
    static const int64_t beyond[] = {10, INT64_C(1) << 32, INT64_MAX, -1, INT64_MIN};
    const case_spec s = case_parse("slots", "B=4 T=1 H=1 K=128 V=128 op=decode s0_pool=i64 null=none");
    input_values x = values_draw(&s);
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; ++i) {
        int64_t slots[4];
        for (int64_t n = 0; n < 4; ++n) slots[n] = case_initial_slot(&s, n);
        slots[1] = beyond[i];
        device_run how = {.poison = 0xa5, .slots = slots}, whole = {.poison = 0xa5};
        case_result r = run_case_on_device(&s, &x, &how), good = run_case_on_device(&s, &x, &whole);
        assert_int_equal(how.status, FKDA_DEVICE_SLOT_BROKEN);
        assert_true(same(r.state + 16384, x.initial + 16384, 16384));
        assert_true(same(r.out, good.out, 128) && same(r.out + 256, good.out + 256, 256) && same(r.state, good.state, 16384));
        result_free(&r);
        result_free(&good);
    }
    values_free(&x);
}

/* -------------------------------------------------------------- more sequences than a grid has in y; a captured call */

typedef struct big_call {
    fkda_decode_desc desc;
    fkda_decode_args host, device;
    void *out, *pool;    /* on the host */
    size_t out_bytes, pool_bytes;
} big_call;

static void *random_bf16(size_t count, uint32_t seed)
{
    uint16_t *const x = must_alloc(count, sizeof *x);
    uint32_t r = seed * 2654435761u + 12345u;
    for (size_t i = 0; i < count; ++i) {
        r ^= r << 13, r ^= r >> 17, r ^= r << 5;
        x[i] = (uint16_t)((r & 0x8000u) | (0x3e00u + (r >> 16) % 0x1c0u));
    }
    return x;
}

static big_call make_big_call(int64_t N, int64_t slot_count)
{
    const size_t rows = (size_t)N, wide = rows * 128 * 2;
    big_call c = {.desc = {.struct_size = sizeof c.desc, .backend = FKDA_BACKEND_CPU, .N = N, .S = 1, .H = 1, .K = 128, .V = 128, .lower_bound = -5, .scale = 0.1f,
                           .state = {.dtype = FKDA_F32, .slot_count = slot_count, .slot_dtype = FKDA_I32}},
                  .out_bytes = wide, .pool_bytes = (size_t)slot_count * 65536};
    int32_t *const slots = must_alloc(rows, sizeof *slots);
    float *const pool = must_alloc((size_t)slot_count * 16384, sizeof *pool);
    const int64_t step = N / slot_count;    /* every so many sequences one has a state, the others are null */
    for (int64_t n = 0; n < N; ++n) slots[n] = n % step == step / 2 && n / step < slot_count ? (int32_t)(n / step) : -1;
    for (int64_t i = 0; i < slot_count * 16384; ++i) pool[i] = (float)(i % 97) * 0.01f - 0.5f;
    c.out = must_alloc(wide, 1), c.pool = pool;
    c.host = (fkda_decode_args){.struct_size = sizeof c.host, .q = random_bf16(wide / 2, 1), .k = random_bf16(wide / 2, 2), .v = random_bf16(wide / 2, 3),
                                .g = random_bf16(wide / 2, 4), .beta = random_bf16(rows, 5), .out = c.out, .state = pool, .slots = slots};
    c.device = c.host;
    c.device.q = on_device(c.host.q, wide), c.device.k = on_device(c.host.k, wide), c.device.v = on_device(c.host.v, wide);
    c.device.g = on_device(c.host.g, wide), c.device.beta = on_device(c.host.beta, rows * 2), c.device.out = on_device(c.out, wide);
    c.device.state = on_device(pool, c.pool_bytes), c.device.slots = on_device(slots, rows * sizeof *slots);
    return c;
}

static void free_big_call(big_call *c)
{
    const void *const both[][2] = {{c->host.q, c->device.q}, {c->host.k, c->device.k}, {c->host.v, c->device.v}, {c->host.g, c->device.g},
                                   {c->host.beta, c->device.beta}, {c->out, c->device.out}, {c->pool, c->device.state}, {c->host.slots, c->device.slots}};
    for (size_t i = 0; i < sizeof both / sizeof *both; ++i) {
        free((void *)(uintptr_t)both[i][0]);
        MUST(cudaFree((void *)(uintptr_t)both[i][1]));
    }
}

static fkda_decode_desc for_device(fkda_decode_desc d)
{
    d.backend = FKDA_BACKEND_CUDA, d.memory = FKDA_MEMORY_CUDA;
    return d;
}

static void test_many_sequences(void **unused)
{
    (void)unused;
    enum { N = 70001, SLOTS = 60 };
    big_call c = make_big_call(N, SLOTS);
    const fkda_decode_desc d = for_device(c.desc);
    size_t bytes = 0;
    assert_int_equal(fkda_decode_workspace_size(&c.desc, &bytes), FKDA_OK);
    void *const workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes);
    if (fkda_decode(&c.desc, &c.host, workspace, bytes, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
    if (fkda_decode(&d, &c.device, NULL, 0, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
    uint16_t *const out = must_alloc(c.out_bytes, 1), *const wanted = c.out;
    float *const pool = must_alloc(c.pool_bytes, 1);
    MUST(cudaMemcpy(out, c.device.out, c.out_bytes, cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(pool, c.device.state, c.pool_bytes, cudaMemcpyDeviceToHost));
    assert_true(metric_m1(pool, c.pool, SLOTS * 16384) <= BAR(f32, any).state);
    int64_t differ = 0;    /* both were rounded to bf16: a few results lie so that the last bit is another one */
    for (size_t i = 0; i < c.out_bytes / 2; ++i) {
        const float got = fkdai_bf16_to_f32(out[i]), want = fkdai_bf16_to_f32(wanted[i]);
        differ += out[i] != wanted[i];
        if (!(fabsf(got - want) <= 0x1p-7f * fabsf(want) + 1e-6f)) fail_msg("element %zu is %g, not %g", i, (double)got, (double)want);
    }
    if (differ > (int64_t)(c.out_bytes / 2 / 500)) fail_msg("%lld elements of out differ", (long long)differ);
    print_message("decode_cases: ran %d, failed 0 of %d sequences at once, %lld of %zu elements rounded the other way\n", 1, N, (long long)differ, c.out_bytes / 2);
    free(out);
    free(pool);
    free(workspace);
    free_big_call(&c);
}

/* Two replays of a captured call are two calls. */
static void test_captured(void **unused)
{
    (void)unused;
    big_call a = make_big_call(64, 64), b = make_big_call(64, 64);
    const fkda_decode_desc d = for_device(a.desc);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    MUST(cudaStreamCreate(&stream));
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    if (fkda_decode(&d, &a.device, NULL, 0, stream) != FKDA_OK) fail_msg("%s", fkda_last_error());
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&replay, graph, 0));
    for (int i = 0; i < 2; ++i) MUST(cudaGraphLaunch(replay, stream));
    for (int i = 0; i < 2; ++i) assert_int_equal(fkda_decode(&d, &b.device, NULL, 0, NULL), FKDA_OK);
    MUST(cudaDeviceSynchronize());
    MUST(cudaMemcpy(a.pool, a.device.state, a.pool_bytes, cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(b.pool, b.device.state, b.pool_bytes, cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(a.out, a.device.out, a.out_bytes, cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(b.out, b.device.out, b.out_bytes, cudaMemcpyDeviceToHost));
    assert_memory_equal(a.pool, b.pool, a.pool_bytes);
    assert_memory_equal(a.out, b.out, a.out_bytes);
    MUST(cudaGraphExecDestroy(replay));
    MUST(cudaGraphDestroy(graph));
    MUST(cudaStreamDestroy(stream));
    free_big_call(&a);
    free_big_call(&b);
}

int main(int argc, char **argv)
{
    const int is_tiny = argc > 1 && strcmp(argv[1], "tiny") == 0;
    rng_seed();
    char why[256] = "";
    if (fkda_backend_status(FKDA_BACKEND_CUDA, why, sizeof why) != FKDA_OK) {
        printf("decode_cases: no GPU, skipped (%s)\n", why);
        return 77;
    }
    if (is_tiny) most_states = 20;
    const struct CMUnitTest tiny[] = {cmocka_unit_test(test_every_case),  cmocka_unit_test(test_broken_bounds), cmocka_unit_test(test_broken_slots), cmocka_unit_test(test_commits),
                                      cmocka_unit_test(test_step_states), cmocka_unit_test(test_trees),         cmocka_unit_test(test_broken_commits)};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_case), cmocka_unit_test(test_large_cases), cmocka_unit_test(test_tokens_one_by_one), cmocka_unit_test(test_tokens_together), cmocka_unit_test(test_batch_invariance), cmocka_unit_test(test_containment), cmocka_unit_test(test_hard_numbers),
        cmocka_unit_test(test_broken_bounds), cmocka_unit_test(test_broken_slots), cmocka_unit_test(test_many_sequences), cmocka_unit_test(test_captured),
        cmocka_unit_test(test_commits), cmocka_unit_test(test_step_states), cmocka_unit_test(test_trees), cmocka_unit_test(test_broken_commits),
    };
    return is_tiny ? cmocka_run_group_tests(tiny, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}

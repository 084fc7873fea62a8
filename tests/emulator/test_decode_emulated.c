/*
 * The decode kernel without a GPU: cases.def from the public desc through the kernel's host side (decode.c) to its device code in the emulator, on
 * memory between guard pages, outputs and states poisoned; against the reference, and bit for bit where a promise says so.
 *
 *     test_decode_emulated [cases | bits | commits | broken]
 *
 * One file, though long: its parts share the emulated call and the problems that they lay out.
 */
#include "harness.h"

#include <math.h>

#include "bars.h"
#include "case_run.h"
#include "case_states.h"
#include "commit_checks.h"
#include "counter_rng.h"
#include "cuda_kernel.h"
#include "decode/decode_launch.h"
#include "decode_checks.h"
#include "error_metrics.h"

extern unsigned decode_emulated_seed;

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", NULL}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};

typedef struct emulated_run {
    uint8_t poison;
    guard_side side;
    unsigned seed;
    int shape;                                   /* -1: as planned */
    void (*tamper)(fkda_decode_args *args);
    uint32_t status;                             /* afterwards: bits of device_status */
} emulated_run;

static int is_compiled(const fkdai_decode_grid *g)
{
    return fkdai_decode_is_built(g->shape, g->is_bf16_state, g->is_k_first, g->has_plain_input, g->is_early, 8) ||
           fkdai_decode_is_built(g->shape, g->is_bf16_state, g->is_k_first, g->has_plain_input, g->is_early, 9);
}

/* One of the grid's shape for its call: early or not, as wished where both are compiled. No bit depends on it. */
static int find_kernel(fkdai_decode_grid *g, int is_early)
{
    for (; g->has_plain_input >= 0; --g->has_plain_input)
        for (int other = 0; other < 2; ++other) {
            g->is_early = is_early ^ other;
            if (is_compiled(g)) return 1;
        }
    return 0;
}

/* The kernel's answer to a call on "CUDA" memory that the host can read. */
static fkda_status call_kernel(const fkda_decode_desc *d, const fkda_decode_args *a, int shape)
{
    static int turn;
    const fkdai_cuda_device device = {.major = 9, .multiprocessors = 1 + turn % 3};    /* so that blocks that stay have several states */
    fkdai_plan plan = {.operation = &fkdai_op_decode};
    fkdai_cuda_kernel_plan own;
    fkdai_decode_grid grid;
    fkda_status status = fkdai_resolve(&fkdai_op_decode, d, &plan.desc);
    if (status == FKDA_OK) status = fkdai_decode.plan(&device, &plan, &own);
    if (status == FKDA_OK) status = fkdai_decode.check_args(&plan.desc, a);
    if (status != FKDA_OK) return status;
    memcpy(&grid, &own, sizeof grid);
    if (shape >= 0) {
        grid.shape = (fkdai_decode_shape)shape;
        grid.blocks = grid.states * (uint32_t)fkdai_decode_blocks_per_state(grid.shape, grid.is_bf16_state);
        if (grid.shape == FKDAI_DECODE_PERSISTENT) grid.blocks = grid.states < 3 ? grid.states : 3;
    }
    if (!find_kernel(&grid, turn++ % 2)) return FKDA_ERR_UNSUPPORTED;
    memcpy(&own, &grid, sizeof grid);
    if (fkdai_decode.run(&plan.desc, &own, a, NULL, NULL) != 0) fail_msg("the kernel did not end");
    return FKDA_OK;
}

static case_result run_emulated(const case_spec *s, const input_values *x, emulated_run *how)
{
    const run_setup setup = {FKDA_BACKEND_REF, 1, how->poison, how->side};
    case_image m = image_build(s, x, &setup);
    fkda_decode_desc d = case_decode_desc(s, &m.desc);
    fkda_decode_args a = case_decode_args(&m.args);
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_CUDA;
    a.device_status = &how->status;
    how->status = 0;
    if (how->tamper != NULL) how->tamper(&a);
    decode_emulated_seed = how->seed;
    const fkda_status status = call_kernel(&d, &a, how->shape);
    image_check_untouched(&m);
    const case_result r = image_gather(&m, status);
    image_free(&m);
    return r;
}

/* To the widths that the kernel is built for. */
static case_spec widened(case_spec s)
{
    if (fabs(s.scale * sqrt((double)s.K) - 1) < 1e-6) s.scale = 1 / sqrt(128.0);
    s.K = s.V = 128;
    return s;
}

/* -------------------------------------------------------------- cases */

static int is_inside(const case_spec *s, case_result *r, const case_result *ref)
{
    for (int64_t i = 0; i < r->out_count; ++i)
        if (!isfinite(r->out[i])) return 0;
    for (int64_t i = 0; i < r->state_count; ++i)
        if (!isfinite(r->state[i])) return 0;
    if (s->exact) return result_same_bits(r, ref);
    if (s->out == FKDA_BF16) metric_undo_bf16(r->out, ref->out, r->out_count);
    if (s->final == FKDA_BF16) metric_undo_bf16(r->state, ref->state, r->state_count);
    const double out = metric_m1(r->out, ref->out, r->out_count), state = metric_m1(r->state, ref->state, r->state_count);
    if (out <= BAR(f32, any).out && state <= BAR(f32, any).state) return 1;
    print_error("%s: out M1 %.2e, state M1 %.2e\n", s->name, out, state);
    return 0;
}

/* The same with commit NONE: out, for which tokens may be taken together. */
static int verifies(const case_spec *s, const input_values *x, const case_result *ref)
{
    case_spec verify = *s;
    emulated_run how = {0xa5, GUARD_AT_END, 0, -1, NULL, 0};
    verify.is_verify = 1;
    case_result r = run_emulated(&verify, x, &how);
    if (r.status != FKDA_OK) fail_msg("%s with commit NONE: %s", s->name, fkda_last_error());
    memcpy(r.state, ref->state, (size_t)r.state_count * sizeof *r.state);
    const int good = is_inside(s, &r, ref) && how.status == 0;
    result_free(&r);
    return good;
}

static void test_cases(void **unused)
{
    (void)unused;
    int ran = 0, refused = 0, failed = 0, left_out = 0;
    for (int i = 0; i < case_count("decode"); ++i) {
        if (!next_case_is_wanted()) {
            ++left_out;
            continue;
        }
        const case_spec s = widened(case_at("decode", i));
        input_values x = values_draw(&s);
        emulated_run first = {0xa5, GUARD_AT_END, 0, -1, NULL, 0}, second = {0xff, GUARD_AT_START, (unsigned)i + 1, -1, NULL, 0};
        case_result a = run_emulated(&s, &x, &first);
        if (a.status == FKDA_OK) {
            case_result b = run_emulated(&s, &x, &second), ref = case_run_reference(&s, &x);
            if (!result_same_bits(&a, &b)) fail_msg("%s: other poison, place or order of threads, other bits", s.name);
            const int good = is_inside(&s, &a, &ref) && first.status == 0 && verifies(&s, &x, &ref);
            if (!good) print_error("%s failed, status %u\n", s.name, (unsigned)first.status);
            ++ran, failed += !good;
            result_free(&b);
            result_free(&ref);
        } else {
            ++refused;
        }
        result_free(&a);
        values_free(&x);
    }
    print_message("emulated decode: %d cases ran, %d failed, %d refused (strides)\n", ran, failed, refused);
    assert_int_equal(failed, 0);
    assert_true(ran + left_out >= 90 && ran > 15 && refused <= 12);
}

/* -------------------------------------------------------------- bits */

/* As planned, or where a shape is given in that one. */
static case_result run_any(const void *shape, const case_spec *s, const input_values *x, uint8_t poison)
{
    emulated_run how = {poison, GUARD_AT_END, 0, *(const int *)shape, NULL, 0};
    return run_emulated(s, x, &how);
}
static const int planned = -1, shapes[] = {FKDAI_DECODE_ONE, FKDAI_DECODE_ONE_SMALL, FKDAI_DECODE_ONE_SOME, FKDAI_DECODE_FEW,    /* token by token */
                                           FKDAI_DECODE_MANY, FKDAI_DECODE_STEPS};
static const decode_way way = {run_any, &planned, "the emulator", FKDAI_DECODE_TOGETHER_LAST};

/* The shape does not matter: one token in each of them. */
static void check_shapes(const char *text)
{
    const case_spec s = case_parse("shapes", text);
    input_values x = values_draw(&s);
    case_result one = run_any(&planned, &s, &x, 0xa5);
    int built = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; ++i) {
        case_result other = run_any(&shapes[i], &s, &x, 0xff);
        built += other.status == FKDA_OK;
        if (other.status == FKDA_OK && !result_same_bits(&one, &other)) fail_msg("%s: shape %d has other bits", text, shapes[i]);
        result_free(&other);
    }
    assert_true(built >= 2);
    result_free(&one);
    values_free(&x);
}

static void test_tokens_one_by_one(void **unused)
{
    (void)unused;
    check_one_by_one(&way, "lens=4,0,3,1,2 H=1 HV=2 K=128 V=128 op=decode");
    check_one_by_one(&way, "lens=1,4,1 H=1 HV=2 K=128 V=128 op=decode");
    check_one_by_one(&way, "B=2 T=4 H=1 K=128 V=128 op=decode s0_layout=nhkv gate=softplus out=bf16");
    check_one_by_one(&way, "B=2 T=3 H=1 K=128 V=128 op=decode gates=slow keys=shifted in=f32 m=2");
    check_batch(&way, "lens=1,3,0,8,1 H=1 K=128 V=128 op=decode s0=bf16");
    check_batch(&way, "lens=8,0,3,1,5,7 H=2 HV=4 K=128 V=128 op=decode out=bf16");
}

static void test_tokens_together(void **unused)
{
    (void)unused;
    check_together(&way, "lens=8,0,3,1,5 H=1 HV=2 K=128 V=128 op=decode");
    check_together(&way, "lens=5,1 H=1 K=128 V=128 op=decode s0_layout=nhkv gate=softplus");
    check_together(&way, "lens=4,1,3,5 H=1 HV=2 K=128 V=128 op=decode gate=softplus");
    check_together(&way, "lens=4,2 H=1 K=128 V=128 op=decode s0_layout=nhkv in=f32");
    check_together(&way, "lens=7 H=1 K=128 V=128 op=decode gates=slow keys=shifted in=f32 m=2");
    check_together(&way, "lens=8,6 H=1 K=128 V=128 op=decode gates=steep gate=softplus in=f32");
    check_one_by_one(&way, "lens=8,0,3,1,5 H=1 HV=2 K=128 V=128 op=decode");
    check_one_by_one(&way, "B=2 T=8 H=1 K=128 V=128 op=decode s0_layout=nhkv gate=softplus");
    check_one_by_one(&way, "B=2 T=7 H=1 K=128 V=128 op=decode gates=slow keys=shifted in=f32 m=2");
    check_one_by_one(&way, "B=3 T=6 H=1 K=128 V=128 op=decode gates=wide gate=softplus");
}

/* Blocks that stay give the bits of those that have one state, with one each or several, and so do blocks of half a state. */
static void check_persistent(const char *text, int is_verify)
{
    static const int of_half = FKDAI_DECODE_CHUNK_HALF, of_one = FKDAI_DECODE_CHUNK, of_many = FKDAI_DECODE_PERSISTENT;
    case_spec s = case_parse("persistent", text);
    s.is_verify = is_verify;
    input_values x = values_draw(&s);
    case_result half = run_any(&of_half, &s, &x, 0xa5), one = run_any(&of_one, &s, &x, 0xa5), many = run_any(&of_many, &s, &x, 0xa5);
    if (one.status != FKDA_OK || many.status != FKDA_OK || half.status != FKDA_OK) fail_msg("%s: %s", text, fkda_last_error());
    if (!result_same_bits(&one, &many)) fail_msg("%s: blocks that stay have other bits", text);
    if (!result_same_bits(&one, &half)) fail_msg("%s: blocks of half a state have other bits", text);
    result_free(&one);
    result_free(&half);
    result_free(&many);
    values_free(&x);
}

static void test_persistent(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"lens=8,0,3,1,5,0,7 H=1 HV=2 K=128 V=128 op=decode s0_pool=i64 out=bf16", "B=5 T=8 H=2 HV=4 K=128 V=128 op=decode s0_pool=i32 mask=some out=bf16",
                                        "B=7 T=5 H=1 K=128 V=128 op=decode s0=bf16 gate=softplus out=bf16", "B=1 T=6 H=1 K=128 V=128 op=decode out=bf16",
                                        "lens=8,0,3,1,5 H=2 HV=4 K=128 V=128 op=decode s0_pool=i64 null=none gate=softplus gates=slow m=2 out=bf16"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; ++i)
        for (int is_verify = 0; is_verify < 2; ++is_verify) check_persistent(texts[i], is_verify);
}

static void test_shapes(void **unused)
{
    (void)unused;
    check_shapes("B=3 T=1 H=1 HV=2 K=128 V=128 op=decode s0_pool=i32 mask=some");
    check_shapes("B=3 T=1 H=1 HV=2 K=128 V=128 op=decode s0_pool=i64 mask=some out=bf16");
    check_shapes("lens=1,0,1 H=2 K=128 V=128 op=decode s0_pool=i32 gate=softplus out=bf16");
    check_shapes("B=2 T=1 H=1 K=128 V=128 op=decode s0_layout=nhkv out=bf16");
    check_shapes("B=2 T=1 H=1 K=128 V=128 op=decode s0=bf16 in=f32");
    check_shapes("B=2 T=1 H=1 K=128 V=128 op=decode s0=bf16 s0_layout=nhkv out=bf16");
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

/* -------------------------------------------------------------- commit_checks.c in the emulator */

static fkda_status run_commit(const void *context, const fkda_decode_desc *desc, const commit_buffer *buffers, uint32_t *device_status)
{
    (void)context;
    void *at[COMMIT_ARGUMENTS];
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) at[i] = buffers[i].data;
    fkda_decode_desc d = *desc;
    fkda_decode_args a = commit_args(at);
    d.memory = FKDA_MEMORY_CUDA, d.backend = FKDA_BACKEND_CUDA, a.device_status = device_status;
    return call_kernel(&d, &a, -1);
}
static const commit_way commits = {.run = run_commit, .name = "the emulator", .widest_only = 1, .finds_on_device = 1,
                                   .none_together_from = FKDAI_DECODE_TOGETHER_NONE, .last_together_from = FKDAI_DECODE_TOGETHER_LAST};

static void test_commits(void **unused)
{
    (void)unused;
    check_commits(&commits);
}

static void test_step_states(void **unused)
{
    (void)unused;
    check_step_states(&commits);
}

static void test_trees(void **unused)
{
    (void)unused;
    check_trees(&commits);
    check_commit_nan(&commits);
}

static void test_broken_commits(void **unused)
{
    (void)unused;
    check_broken_commits(&commits);
}

/* -------------------------------------------------------------- what the host cannot check */

static int64_t broken_bounds[5], broken_slots[4];
static void give_bounds(fkda_decode_args *a) { a->cu_seqlens = broken_bounds; }
static void give_slots(fkda_decode_args *a) { a->slots = broken_slots; }

/* A sequence whose bounds are broken is not touched; the others are what they are without it. */
static void test_broken_bounds(void **unused)
{
    (void)unused;
    static const int64_t all[][5] = {{0, 9, 9, 10, 12}, {0, 2, 1, 3, 5}, {1, 2, 3, 4, 5}, {0, 1, 2, 3, 13}, {-1, 1, 2, 3, 4}, {0, INT64_MIN, 2, 3, 4},
                                     {0, 3, INT64_MAX, 5, 6}};
    const case_spec s = case_parse("bounds", "lens=3,3,3,3 H=1 K=128 V=128 op=decode");
    input_values x = values_draw(&s);
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        emulated_run how = {0xa5, GUARD_AT_END, 0, -1, give_bounds, 0};
        memcpy(broken_bounds, all[i], sizeof broken_bounds);
        case_result r = run_emulated(&s, &x, &how);
        assert_int_equal(how.status, FKDA_DEVICE_SEQLENS_BROKEN);
        int touched = 0;
        for (int64_t n = 0; n < 4; ++n) {
            const int64_t begin = all[i][n], end = all[i][n + 1];
            const int is_good = begin >= 0 && end >= begin && end <= 12 && end - begin <= 3 && (n > 0 || begin == 0);
            const int is_same = memcmp(r.state + n * 128 * 128, x.initial + n * 128 * 128, 128 * 128 * sizeof(float)) == 0;
            if (is_good && is_same && end > begin) fail_msg("bounds %zu: sequence %d was left out", i, (int)n);
            if (!is_good && !is_same) fail_msg("bounds %zu: sequence %d was touched", i, (int)n);
            touched += !is_same;
        }
        assert_true(touched < 4);
        result_free(&r);
    }
    values_free(&x);
}

/* A slot that the pool does not have counts as null: one beyond it, or below 0 where no index is null. */
static void test_broken_slots(void **unused)
{
    (void)unused;
    const case_spec s = case_parse("slots", "B=4 T=1 H=1 K=128 V=128 op=decode s0_pool=i64 null=none"), plain = case_parse("slots", "B=4 T=1 H=1 K=128 V=128 op=decode");
    static const int64_t beyond[] = {10, INT64_C(1) << 32, INT64_MAX, -1, INT64_MIN};
    for (size_t i = 0; i < sizeof beyond / sizeof *beyond; ++i) {
        input_values x = values_draw(&plain);
        emulated_run how = {0xa5, GUARD_AT_END, 0, -1, give_slots, 0}, without = {0xa5, GUARD_AT_END, 0, -1, NULL, 0};
        for (int64_t n = 0; n < 4; ++n) broken_slots[n] = case_initial_slot(&s, n);
        broken_slots[1] = beyond[i];
        case_result r = run_emulated(&s, &x, &how);    /* the image is not told: slot of sequence 1 keeps its initial state */
        assert_int_equal(how.status, FKDA_DEVICE_SLOT_BROKEN);
        assert_memory_equal(r.state + 128 * 128, x.initial + 128 * 128, 128 * 128 * sizeof(float));
        memset(x.initial + 128 * 128, 0, 128 * 128 * sizeof(float));
        case_result zero = run_emulated(&plain, &x, &without);
        assert_memory_equal(r.out + 128, zero.out + 128, 128 * sizeof(float));
        assert_memory_equal(r.out, zero.out, 128 * sizeof(float));
        assert_memory_equal(r.state, zero.state, 128 * 128 * sizeof(float));
        result_free(&r);
        result_free(&zero);
        values_free(&x);
    }
}

static void test_divisor(void **unused)
{
    (void)unused;
    const uint64_t stream = rng_stream("divisor", 0);
    for (uint64_t i = 0; i < 2000000; ++i) {
        const uint32_t y = i % 4 ? (uint32_t)(1 + rng_below(stream, 2 * i, 200)) : (uint32_t)(1 + rng_below(stream, 2 * i, INT64_C(1) << 31));
        const uint32_t x = i % 3 ? (uint32_t)rng_below(stream, 2 * i + 1, INT64_C(1) << 31) : y * (uint32_t)(i % 1000) - (uint32_t)(i % 2);
        if (x >= UINT32_C(1) << 31) continue;
        const fkdai_decode_divisor by = fkdai_decode_make_divisor(y);
        const uint32_t high = (uint32_t)((uint64_t)x * by.factor >> 32), quotient = (x + high) >> by.shift;
        if (quotient != x / y) fail_msg("%u / %u = %u, not %u", (unsigned)x, (unsigned)y, (unsigned)(x / y), (unsigned)quotient);
    }
}

int main(int argc, char **argv)
{
    rng_seed();
    const struct CMUnitTest cases[] = {cmocka_unit_test(test_cases)};
    const struct CMUnitTest bits[] = {cmocka_unit_test(test_tokens_one_by_one), cmocka_unit_test(test_tokens_together), cmocka_unit_test(test_persistent), cmocka_unit_test(test_shapes), cmocka_unit_test(test_containment),
                                      cmocka_unit_test(test_hard_numbers), cmocka_unit_test(test_divisor)};
    const struct CMUnitTest kept[] = {cmocka_unit_test(test_commits), cmocka_unit_test(test_step_states), cmocka_unit_test(test_trees)};
    const struct CMUnitTest broken[] = {cmocka_unit_test(test_broken_bounds), cmocka_unit_test(test_broken_slots), cmocka_unit_test(test_broken_commits)};
    const char *const part = argc > 1 ? argv[1] : "";
    int failed = 0;
    if (*part == 0 || strcmp(part, "cases") == 0) failed += cmocka_run_group_tests(cases, NULL, NULL);
    if (*part == 0 || strcmp(part, "bits") == 0) failed += cmocka_run_group_tests(bits, NULL, NULL);
    if (*part == 0 || strcmp(part, "commits") == 0) failed += cmocka_run_group_tests(kept, NULL, NULL);
    if (*part == 0 || strcmp(part, "broken") == 0) failed += cmocka_run_group_tests(broken, NULL, NULL);
    return failed;
}

/*
 * The decode launcher's object file against a fake runtime: which of its kernels is launched, with which geometry and parameter, and that every call
 * that fails is handed on.
 */
#include "harness.h"

#include <string.h>

#include "decode/decode_launch.h"
#include "fake_launches.h"

enum { VARIANTS = 16 * FKDAI_DECODE_SHAPES };    /* shape, early, [K,V], bf16, plain inputs: from the highest bit on */

static void reset(void) { fake_reset(sizeof(fkdai_decode_call)); }

static fkdai_decode_call make_call(int shape, int is_bf16, int is_k_first, int has_plain_input, int major)
{
    const fkdai_decode_request request = {.N = 3, .HV = 5, .S = 1, .is_bf16_state = is_bf16, .is_k_first = is_k_first, .has_plain_input = has_plain_input};
    fkdai_decode_call call = {.S = 1, .HV = 5, .scale = 0.25f, .T = 1, .grid = fkdai_decode_make_grid(&request, major, 132)};
    call.grid.shape = (fkdai_decode_shape)shape;
    call.grid.blocks = (uint32_t)(15 * fkdai_decode_blocks_per_state(call.grid.shape, is_bf16));
    return call;
}

static int is_built_for(int variant, int major)
{
    return fkdai_decode_is_built((fkdai_decode_shape)(variant >> 4), variant >> 1 & 1, variant >> 2 & 1, variant & 1, variant >> 3 & 1, major);
}
static int is_built(int variant) { return is_built_for(variant, 8) || is_built_for(variant, 9); }
static int count_built(void)
{
    int built = 0;
    for (int i = 0; i < VARIANTS; ++i) built += is_built(i);
    return built;
}

static void check_variant(int variant, int major)
{
    static const int threads[FKDAI_DECODE_SHAPES] = {[FKDAI_DECODE_ONE] = 128, [FKDAI_DECODE_ONE_SMALL] = 64, [FKDAI_DECODE_ONE_SOME] = 128,
                                                     [FKDAI_DECODE_FEW] = 256, [FKDAI_DECODE_MANY] = 128, [FKDAI_DECODE_CHUNK] = 256,
                                                     [FKDAI_DECODE_CHUNK_HALF] = 256, [FKDAI_DECODE_PERSISTENT] = 512, [FKDAI_DECODE_STEPS] = 256};
    const int is_plain = variant & 1, is_bf16 = variant >> 1 & 1, is_k_first = variant >> 2 & 1, is_early = variant >> 3 & 1, shape = variant >> 4;
    fkdai_decode_call call = make_call(shape, is_bf16, is_k_first, is_plain, major);
    call.grid.is_early = is_early, call.grid.has_plain_input = is_plain;
    reset();
    if (!is_built(variant)) {
        assert_int_equal(fkdai_decode_launch(&call, NULL), cudaErrorInvalidValue);
        assert_int_equal(fake.calls, 0);
        return;
    }
    const fake_launch *const seen = &fake.launches[0];
    assert_int_equal(fkdai_decode_launch(&call, NULL), 0);
    assert_int_equal(fake.launched, 1);
    assert_int_equal(fake_template_argument(seen->kernel, "fkdai_decode_shape"), shape);
    assert_int_equal(fake_template_argument(seen->kernel, "6StoredE"), is_bf16);
    assert_int_equal(fake_template_argument(seen->kernel, "4AxesE"), is_k_first);
    assert_int_equal(fake_template_argument(seen->kernel, "6InputsE"), !is_plain);
    assert_int_equal(fake_template_argument(seen->kernel, "5StartE"), is_early);
    const size_t most = shape == FKDAI_DECODE_PERSISTENT ? 227 * 1024 : 0;    /* that a block of sm_90 may have */
    assert_true(seen->may_overlap == (major == 9) && seen->shared_bytes <= most && (seen->shared_bytes > 0) == (most > 0) && seen->ranks == 1);
    assert_int_equal(seen->grid, 15 * fkdai_decode_blocks_per_state(call.grid.shape, is_bf16));
    assert_int_equal(seen->block, threads[shape]);
    assert_memory_equal(seen->parameter, &call, sizeof call);
}

static void test_each_variant(void **unused)
{
    (void)unused;
    assert_int_equal(fake_kernel_count, count_built());
    for (int i = 0; i < 2 * VARIANTS; ++i) check_variant(i % VARIANTS, i < VARIANTS ? 8 : 9);
}

/* Of a device of this generation, and the code that it runs: what is planned is compiled for it, and what is compiled for it is planned by some call. */
static void check_plans(int major, int compiled)
{
    int planned[VARIANTS] = {0};
    for (int S = 1; S <= FKDAI_DECODE_MAX_TOKENS; ++S)
        for (int64_t N = 1; N <= 8192; N *= 2)
            for (int i = 0; i < 64; ++i) {
                const fkdai_decode_request request = {.N = N, .HV = 5, .S = S, .has_plain_input = i & 1, .is_bf16_state = i >> 1 & 1, .is_k_first = i >> 2 & 1,
                                                      .writes_steps = i >> 3 & 1, .is_read_only = i >> 4 & 1, .writes_last = !(i >> 3 & 3) && i >> 5 & 1};
                const fkdai_decode_grid grid = fkdai_decode_make_grid(&request, major, 132);
                const int variant = (int)grid.shape << 4 | grid.is_early << 3 | grid.is_k_first << 2 | grid.is_bf16_state << 1 | grid.has_plain_input;
                if (!is_built_for(variant, compiled)) fail_msg("sm_%d0, S = %d, N = %d, options %d: there is no kernel", major, S, (int)N, i);
                assert_int_equal(grid.is_programmatic, compiled > 8);    /* machine code of sm_90 and later waits, and no other */
                assert_int_equal(grid.shape == FKDAI_DECODE_CHUNK || grid.shape == FKDAI_DECODE_CHUNK_HALF || grid.shape == FKDAI_DECODE_PERSISTENT,
                                 !request.writes_steps && (request.is_read_only ? S >= 4 : request.writes_last && S >= 6));    /* whatever N is: bits depend on it */
                if (grid.shape == FKDAI_DECODE_PERSISTENT) assert_true(grid.blocks == 132 && grid.states == 5 * N && grid.states >= 5 * grid.blocks);
                else assert_int_equal(grid.blocks, 5 * N * fkdai_decode_blocks_per_state(grid.shape, grid.is_bf16_state));
                planned[variant] = 1;
            }
    for (int i = 0; i < VARIANTS; ++i)
        if (planned[i] != is_built_for(i, compiled)) fail_msg("sm_%d0: nobody plans variant %d", major, i);
}

static void test_plans(void **unused)
{
    (void)unused;
    check_plans(8, 8), check_plans(9, 9), check_plans(10, 10), check_plans(12, 12);
    check_plans(11, 8), check_plans(13, 8);    /* by PTX of compute_80 */
}

static void test_nothing_to_do(void **unused)
{
    (void)unused;
    fkdai_decode_call call = make_call(FKDAI_DECODE_ONE, 0, 0, 1, 9);
    call.grid.blocks = 0;
    reset();
    assert_int_equal(fkdai_decode_launch(&call, NULL), 0);
    assert_int_equal(fake.calls, 0);
}

static void test_failures_are_handed_on(void **unused)
{
    (void)unused;
    const fkdai_decode_call call = make_call(FKDAI_DECODE_ONE, 0, 0, 1, 9);
    reset();
    assert_int_equal(fkdai_decode_load(), 0);
    assert_int_equal(fake.got, count_built());
    for (int n = 1; n <= count_built(); ++n) {
        reset();
        fake.fail_at = n;
        assert_int_equal(fkdai_decode_load(), cudaErrorUnknown);
        assert_int_equal(fake.got, n);
    }
    reset();
    fake.fail_at = 1;
    assert_int_equal(fkdai_decode_launch(&call, NULL), cudaErrorUnknown);
    assert_int_equal(fake.launched, 0);
}

static void test_machine_code_is_wanted(void **unused)
{
    (void)unused;
    fake_expect_machine_code(fkdai_decode_load, sizeof(fkdai_decode_call));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_variant), cmocka_unit_test(test_plans), cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_failures_are_handed_on),
                                       cmocka_unit_test(test_machine_code_is_wanted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

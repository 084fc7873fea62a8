/*
 * The portable prefill launcher's object file against a fake runtime: which of its kernels is launched, with which geometry and shared memory, and that
 * every call that fails is handed on.
 */
#include "harness.h"

#include <string.h>

#include "backend/forward_scale.h"
#include "fake_launches.h"
#include "prefill_mma/prefill_mma_launch.h"

static void reset(void) { fake_reset(sizeof(fkdai_tensor)); }

static fkdai_mma_call make_call(int64_t HV, int64_t V, int slices)
{
    return (fkdai_mma_call){.B = 1, .T = 64, .N = 1, .H = 1, .HV = HV, .K = 128, .V = V, .scale = 1, .lower_bound = -5,
                            .grid = fkdai_mma_make_grid(1, HV, V, 132, slices)};
}

static void test_geometry(void **unused)
{
    (void)unused;
    static const struct { int64_t HV, V; int slices; unsigned grid, block; } calls[] = {
        {200, 128, 0, 200, 512}, {66, 128, 0, 132, 14 * 32}, {33, 128, 0, 132, 12 * 32}, {1, 128, 0, 8, 11 * 32}, {200, 64, 0, 200, 14 * 32},
        {1, 64, 0, 4, 11 * 32}, {3, 128, 1, 3, 512}, {3, 64, 8, 12, 11 * 32},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; ++i)
        for (int gate = 0; gate < FKDAI_GATES; ++gate) {
            fkdai_mma_call call = make_call(calls[i].HV, calls[i].V, calls[i].slices);
            call.gate = (fkdai_gate)gate;
            const fake_launch *const seen = &fake.launches[0];
            reset();
            assert_int_equal(fkdai_mma_launch(&call, NULL), cudaSuccess);
            assert_true(fake.launched == 1 && seen->grid == calls[i].grid && seen->block == calls[i].block && seen->ranks == 1 && !seen->may_overlap);
            assert_true(seen->shared_bytes == (size_t)fkdai_mma_shared_bytes() && seen->shared_bytes <= 99 * 1024);
            assert_non_null(strstr(seen->kernel, gate == FKDAI_GATE_BOUNDED ? "mma_prefill_kernelILb1ELb0E" : "mma_prefill_kernelILb0ELb1E"));
            call.checkpoint_rows.element = FKDAI_F32;
            reset();
            assert_int_equal(fkdai_mma_launch(&call, NULL), cudaSuccess);
            assert_non_null(strstr(seen->kernel, gate == FKDAI_GATE_BOUNDED ? "mma_prefill_kernelILb1ELb1E" : "mma_prefill_kernelILb0ELb1E"));
        }
}

static void test_nothing_to_do_and_failures(void **unused)
{
    (void)unused;
    fkdai_mma_call call = make_call(2, 128, 0);
    for (int fail_at = 1; fail_at <= 4; ++fail_at) {
        reset();
        fake.fail_at = fail_at;
        assert_int_equal(fkdai_mma_load(), fail_at <= 3 ? cudaErrorUnknown : cudaSuccess);
    }
    assert_int_equal(fake.largest_shared, fkdai_mma_shared_bytes());
    reset();
    fake.fail_at = 1;
    assert_int_equal(fkdai_mma_launch(&call, NULL), cudaErrorUnknown);
    assert_int_equal(fake.launched, 0);
    reset();
    call.grid = fkdai_mma_make_grid(0, 2, 128, 132, 0);
    assert_int_equal(fkdai_mma_launch(&call, NULL), cudaSuccess);
    assert_int_equal(fake.calls, 0);
}

static void test_scale(void **unused)
{
    (void)unused;
    static const float scales[] = {0.08838835f, 0.125f, 1, -3.5f, 0x1p-8f, -255, 256, 0x1p-9f, 0, 1e-20f, 1e30f, 0x1p-140f};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; ++i) {
        const fkdai_scale s = fkdai_split_scale(scales[i]);
        const float size = fabsf(scales[i]);
        assert_true(s.q * s.out == scales[i]);
        if (size >= 0x1p-8f && size < 0x1p8f) assert_true(s.out == 1);
        else if (size >= 0x1p-97f && size < 0x1p97f) assert_true(fabsf(s.q) >= 0.0625f && fabsf(s.q) < 0.125f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_geometry), cmocka_unit_test(test_nothing_to_do_and_failures), cmocka_unit_test(test_scale)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * The decode_fused launcher's object file against a fake runtime: which of its kernels is launched, with which geometry and parameter, and that every
 * call that fails is handed on.
 */
#include "harness.h"

#include <string.h>

#include "decode_fused/decode_fused_launch.h"
#include "fake_launches.h"

enum { VARIANTS = 4, N = 3, H = 5 };

static void reset(void) { fake_reset(sizeof(fkdai_fused_call)); }

static fkdai_fused_call make_call(int64_t n, int is_bf16, int is_k_first, int major)
{
    return (fkdai_fused_call){.scale = 0.25f, .norm_eps = 1e-5f, .grid = fkdai_fused_make_grid(n, H, is_bf16, is_k_first, major)};
}

static void check_variant(int is_bf16, int is_k_first, int major)
{
    const fkdai_fused_call call = make_call(N, is_bf16, is_k_first, major);
    const fake_launch *const seen = &fake.launches[0];
    reset();
    assert_int_equal(fkdai_decode_fused_launch(&call, NULL), 0);
    assert_int_equal(fake.launched, 1);
    assert_int_equal(fake_template_argument(seen->kernel, "6StoredE"), is_bf16);
    assert_int_equal(fake_template_argument(seen->kernel, "4AxesE"), is_k_first);
    assert_true(seen->may_overlap == (major == 9) && seen->ranks == 1);
    assert_int_equal(seen->grid, N * H);
    assert_int_equal(seen->block, 256);
    assert_in_range(seen->shared_bytes, 1024, 99 * 1024);    /* what every GPU from sm_80 on gives a block */
    assert_memory_equal(seen->parameter, &call, sizeof call);
}

static void test_each_variant(void **unused)
{
    (void)unused;
    assert_int_equal(fake_kernel_count, VARIANTS);
    for (int i = 0; i < 2 * VARIANTS; ++i) check_variant(i & 1, i >> 1 & 1, i < VARIANTS ? 8 : 9);
}

static void test_nothing_to_do(void **unused)
{
    (void)unused;
    const fkdai_fused_call none = make_call(0, 0, 0, 9), too_many = make_call(FKDAI_FUSED_MAX_STATES, 0, 0, 9);
    reset();
    assert_int_equal(fkdai_decode_fused_launch(&none, NULL), 0);
    assert_int_equal(fkdai_decode_fused_launch(&too_many, NULL), 0);
    assert_int_equal(fake.calls, 0);
}

static void test_failures_are_handed_on(void **unused)
{
    (void)unused;
    const fkdai_fused_call call = make_call(N, 0, 0, 9);
    reset();
    assert_int_equal(fkdai_decode_fused_load(), 0);
    assert_true(fake.got == VARIANTS && fake.set == 2 * VARIANTS);    /* room, and how the cache is divided */
    for (int n = 1; n <= 3 * VARIANTS; ++n) {
        reset();
        fake.fail_at = n;
        assert_int_equal(fkdai_decode_fused_load(), cudaErrorUnknown);
        assert_int_equal(fake.got + fake.set, n);
    }
    reset();
    fake.fail_at = 1;
    assert_int_equal(fkdai_decode_fused_launch(&call, NULL), cudaErrorUnknown);
    assert_int_equal(fake.launched, 0);
}

static void test_machine_code_is_wanted(void **unused)
{
    (void)unused;
    fake_expect_machine_code(fkdai_decode_fused_load, sizeof(fkdai_fused_call));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_variant), cmocka_unit_test(test_nothing_to_do), cmocka_unit_test(test_failures_are_handed_on),
                                       cmocka_unit_test(test_machine_code_is_wanted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

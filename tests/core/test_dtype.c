/* src/core/dtype.h: conversions round once, to nearest even, against an oracle that compares with exact midpoints. */
#include "harness.h"

#include <math.h>

#include "counter_rng.h"
#include "dtype.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static int is_nan_bits(uint16_t bits) { return (bits & 0x7fffu) > 0x7f80u; }

/* Magnitude of bf16 `bits` (0 ... 0x7f80) as double; behind the largest finite one comes 2^128. */
static double magnitude(uint16_t bits) { return bits == 0x7f80 ? 0x1p128 : (double)fkdai_bf16_to_f32(bits); }

/* Nearest bf16, ties to even: the midpoint of two neighbours has 9 significant bits, so the comparison is exact. */
static uint16_t nearest(double x)
{
    const uint16_t sign = signbit(x) ? 0x8000u : 0;
    const double size = fabs(x);
    if (size >= 0x1p128) return (uint16_t)(sign | 0x7f80u);
    uint16_t low = 0, high = 0x7f80;    /* magnitude(low) <= size < magnitude(high) */
    while (high - low > 1) {
        const uint16_t middle = (uint16_t)((low + high) / 2);
        if (magnitude(middle) <= size) low = middle;
        else high = middle;
    }
    const double midpoint = 0.5 * (magnitude(low) + magnitude(high));
    const int up = size > midpoint || (size == midpoint && low % 2 == 1);
    return (uint16_t)(sign | (up ? high : low));
}

static void check_double(double x)
{
    if (fkdai_f64_to_bf16(x) != nearest(x)) fail_msg("%a gives 0x%04x, nearest is 0x%04x", x, fkdai_f64_to_bf16(x), nearest(x));
    if (fkdai_f64_to_bf16(-x) != nearest(-x)) fail_msg("%a gives 0x%04x, nearest is 0x%04x", -x, fkdai_f64_to_bf16(-x), nearest(-x));
    const float single = (float)x;
    if (fkdai_f32_to_bf16(single) != nearest((double)single))
        fail_msg("%a (fp32) gives 0x%04x, nearest is 0x%04x", (double)single, fkdai_f32_to_bf16(single), nearest((double)single));
}

static void test_all_bf16_survive(void **state)
{
    (void)state;
    for (uint32_t i = 0; i <= 0xffff; ++i) {
        const uint16_t bits = (uint16_t)i;
        const float wide = fkdai_bf16_to_f32(bits);
        assert_true(bits_of(wide) == i << 16);
        if (is_nan_bits(bits)) {
            assert_true(isnan(wide));
            assert_true(is_nan_bits(fkdai_f32_to_bf16(wide)) && is_nan_bits(fkdai_f64_to_bf16((double)wide)));
        } else {
            assert_int_equal(fkdai_f32_to_bf16(wide), bits);
            assert_int_equal(fkdai_f64_to_bf16((double)wide), bits);
        }
    }
}

static void test_nan_never_becomes_infinity(void **state)
{
    (void)state;
    static const uint32_t patterns[] = {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu, 0x7f80ffffu, 0x7fc00000u};
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; ++i) {
        float x;
        memcpy(&x, &patterns[i], sizeof x);
        assert_true(is_nan_bits(fkdai_f32_to_bf16(x)));
    }
    assert_true(is_nan_bits(fkdai_f64_to_bf16((double)NAN)));
}

/* Every midpoint between two neighbours, and the doubles right beside it: rounding twice would fail here. */
static void test_midpoints(void **state)
{
    (void)state;
    for (uint16_t low = 0; low < 0x7f80; ++low) {
        const double midpoint = 0.5 * (magnitude(low) + magnitude((uint16_t)(low + 1)));
        check_double(midpoint);
        check_double(nextafter(midpoint, 0));
        check_double(nextafter(midpoint, HUGE_VAL));
        check_double(midpoint * (1 + 0x1p-26));    /* lost in fp32 */
        check_double(midpoint * (1 - 0x1p-26));
    }
}

static void test_random_and_extreme_doubles(void **state)
{
    (void)state;
    static const double extremes[] = {0, 0x1p-1074, 0x1p-149, 0x1p-150, 0x1.8p-150, 0x1p-133, 0x1p-134, 0x1.000001p-134, 0x1.fffffep127,
                                      0x1.fep127, 0x1.ffp127, 0x1.fefffffffffffp127, 0x1p128, 1e300, HUGE_VAL};
    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; ++i) check_double(extremes[i]);
    for (uint64_t i = 0; i < 300000; ++i) {
        const double x = ldexp(1 + rng_uniform(1, 2 * i), (int)rng_below(1, 2 * i + 1, 290) - 155);
        check_double(x);
    }
}

static void test_load_and_store(void **state)
{
    (void)state;
    float wide[3] = {0};
    uint16_t narrow[3] = {0};
    fkdai_store(wide, FKDA_F32, 1, 1.0 / 3);
    fkdai_store(narrow, FKDA_BF16, 1, 1.0 / 3);
    assert_true(wide[0] == 0 && wide[2] == 0 && narrow[0] == 0 && narrow[2] == 0);
    assert_true(fkdai_load(wide, FKDA_F32, 1) == (double)(1.0f / 3));
    assert_true(fkdai_load(narrow, FKDA_BF16, 1) == (double)fkdai_bf16_to_f32(nearest(1.0 / 3)));
    static const int64_t bytes[] = {0, 2, 4, 2, 4, 8};
    for (int dtype = FKDA_NONE; dtype <= FKDA_I64; ++dtype) assert_int_equal(fkdai_dtype_bytes((fkda_dtype)dtype), bytes[dtype]);
}

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_bf16_survive),
        cmocka_unit_test(test_nan_never_becomes_infinity),
        cmocka_unit_test(test_midpoints),
        cmocka_unit_test(test_random_and_extreme_doubles),
        cmocka_unit_test(test_load_and_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

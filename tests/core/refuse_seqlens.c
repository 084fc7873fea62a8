/* cu_seqlens: 0 = c[0] <= ... <= c[N] <= T, in int32 and int64. */
#include "good_call.h"

#include <inttypes.h>

#include "counter_rng.h"
#include "refusals_suite.h"

/* The packed call with these bounds, in good_spare memory. */
static good_call packed_with(fkda_dtype dtype, const int64_t bounds[GOOD_N + 1])
{
    good_call c = good_packed();
    void *const memory = good_spare(64);
    for (int n = 0; n <= GOOD_N; ++n) {
        if (dtype == FKDA_I32) ((int32_t *)memory)[n] = (int32_t)bounds[n];
        else ((int64_t *)memory)[n] = bounds[n];
    }
    c.desc.cu_seqlens = dtype;
    c.args.cu_seqlens = memory;
    return c;
}

#define BOUNDS(...) ((const int64_t[GOOD_N + 1]){__VA_ARGS__})

void test_cu_seqlens(void **state)
{
    (void)state;
    for (fkda_dtype dtype = FKDA_I32; dtype <= FKDA_I64; ++dtype) {
        CALL_WORKS(packed_with(dtype, BOUNDS(0, 2, 2, 10)), (void)c);
        CALL_WORKS(packed_with(dtype, BOUNDS(0, 0, 0, 10)), (void)c);
        CALL_WORKS(packed_with(dtype, BOUNDS(0, 10, 10, 10)), (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(1, 2, 2, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = 1, but it must be 0", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(-1, 2, 2, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = -1", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, 5, 4, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[2] = 4 is below the entry before it, 5", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, -3, 4, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[1] = -3", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, 2, 11, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[2] = 11 is beyond T = 10", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, 2, 2, 11)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[3] = 11 is beyond T = 10", (void)c);
        CALL_WORKS(packed_with(dtype, BOUNDS(0, 2, 2, 9)), (void)c);
        CALL_WORKS(packed_with(dtype, BOUNDS(0, 0, 0, 0)), (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, INT32_MAX, 2, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[1] = 2147483647", (void)c);
        CALL_REFUSED(packed_with(dtype, BOUNDS(0, 2, INT32_MIN, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[2] = -2147483648", (void)c);
    }
    CALL_REFUSED(packed_with(FKDA_I64, BOUNDS(INT64_MIN, 2, 2, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = -9223372036854775808", (void)c);
    CALL_REFUSED(packed_with(FKDA_I64, BOUNDS(0, INT64_MAX, 2, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[1] = 9223372036854775807", (void)c);
    CALL_REFUSED(packed_with(FKDA_I64, BOUNDS(0, 2, INT64_MIN, 10)), FKDA_ERR_CU_SEQLENS, "cu_seqlens[2] = -9223372036854775808", (void)c);
    CALL_REFUSED(packed_with(FKDA_I64, BOUNDS(0, 2, 2, INT64_C(10) + (INT64_C(1) << 32))), FKDA_ERR_CU_SEQLENS, "cu_seqlens[3] = 4294967306", (void)c);
}

void test_cu_seqlens_host_copy(void **state)
{
    (void)state;
    static const int64_t good[] = {0, 2, 2, 9}, bad[] = {0, 2, 2, 11};
    CALL_WORKS(good_packed(), c.args.cu_seqlens_host = good);
    CALL_REFUSED(good_packed(), FKDA_ERR_CU_SEQLENS, "cu_seqlens[3] = 11 is beyond T = 10 (read from args.cu_seqlens_host)",
                 c.args.cu_seqlens_host = bad);
    CALL_REFUSED(good_packed(), FKDA_ERR_MISALIGNED, "args.cu_seqlens_host", c.args.cu_seqlens_host = (const char *)good + 4);
}

/* Random bounds near the rules: the answer is OK exactly when the rule holds, and never a crash. */
void test_cu_seqlens_fuzzed(void **state)
{
    (void)state;
    const uint64_t stream = rng_stream("cu_seqlens", 0);
    int accepted = 0;
    for (uint64_t i = 0; i < 1000; ++i) {
        int64_t bounds[GOOD_N + 1];
        for (uint64_t n = 0; n <= GOOD_N; ++n) {
            static const int64_t corners[] = {0, 0, 1, 2, 5, 9, 10, 10, 11, -1, INT64_MAX, INT64_MIN};
            bounds[n] = corners[rng_below(stream, 8 * i + n, sizeof corners / sizeof *corners)];
        }
        if (i % 3 == 0) {
            bounds[0] = 0;
            bounds[GOOD_N] = 10;
        }
        const int is_good = bounds[0] == 0 && bounds[0] <= bounds[1] && bounds[1] <= bounds[2] && bounds[2] <= bounds[3] && bounds[3] <= 10;
        const good_call c = packed_with(FKDA_I64, bounds);
        const fkda_status status = good_run(&c);
        if (status != (is_good ? FKDA_OK : FKDA_ERR_CU_SEQLENS))
            fail_msg("%" PRId64 " %" PRId64 " %" PRId64 " %" PRId64 ": %s", bounds[0], bounds[1], bounds[2], bounds[3], fkda_status_name(status));
        accepted += is_good;
    }
    assert_true(accepted > 0);
}

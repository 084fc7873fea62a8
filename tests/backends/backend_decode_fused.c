/* fkda_decode_fused on host backends: drawn cases against the reference, and what it promises bit for bit (fused_case.h). */
#include "harness.h"

#include "backend_bars.h"
#include "backend_suite.h"
#include "counter_rng.h"
#include "fused_case.h"

static fused_way way_of(const backend_bars *b) { return (fused_way){fused_run_backend, &b->id, fkda_backend_name(b->id)}; }

static void check_cases(const backend_bars *b)
{
    const uint64_t count = draws_are_few() ? 30 : 120, first = (uint64_t)draws_number();
    const fused_way way = way_of(b);
    const uint64_t stream = rng_stream("widths", 0);
    int failed = 0;
    for (uint64_t i = first; i < first + count; ++i) {
        fused_spec s = fused_draw(i);
        if (i % 3 == 0) s.W = b->takes_any_width && i % 2 ? 1 + rng_below(stream, i, 200) : 64;
        failed += !fused_check_case(&way, &s);
    }
    print_message("%s: %d drawn cases of decode_fused, %d failed\n", way.name, (int)count, failed);
    assert_int_equal(failed, 0);
}

static void check_bits(const backend_bars *b)
{
    const fused_way way = way_of(b);
    fused_check_batch(&way);
    fused_check_poisoned_rows(&way);
    fused_check_nan_stays(&way);
    fused_check_tokens(&way);
}

void test_decode_fused_cases(void **state)
{
    (void)state;
    bars_for_each(check_cases);
}

void test_decode_fused_bits(void **state)
{
    (void)state;
    bars_for_each(check_bits);
}

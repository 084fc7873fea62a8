/*
 * One program for all backends: every case of cases.def, on every backend that is present, against the reference; then the promises
 * that do not depend on numbers (same bits alone and packed, NaN stays where it is, ...).
 *
 *     test_backends [cpu | ref]     one backend only; skips if it is off (an instruction set that the machine lacks)
 */
#include "harness.h"

#include "backend_bars.h"
#include "backend_suite.h"
#include "counter_rng.h"

static void print_backends(void)
{
    for (int b = FKDA_BACKEND_CUDA; b < FKDA_BACKEND_COUNT; ++b) {
        char text[256] = "";
        const fkda_status status = fkda_backend_status((fkda_backend)b, text, sizeof text);
        print_message("%-5s %s: %s\n", fkda_backend_name((fkda_backend)b), status == FKDA_OK ? "present" : "off", text);
    }
}

int main(int argc, char **argv)
{
    rng_seed();
    bars_choose(argc > 1 ? argv[1] : NULL);
    print_backends();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_case),
        cmocka_unit_test(test_every_decode_case),
        cmocka_unit_test(test_recorded_activations),
        cmocka_unit_test(test_tiny_values_scale_exactly),
        cmocka_unit_test(test_finite_bits_stay_finite),
        cmocka_unit_test(test_batch_invariance),
        cmocka_unit_test(test_dense_rows_equal_packed),
        cmocka_unit_test(test_split_invariance),
        cmocka_unit_test(test_i32_equals_i64),
        cmocka_unit_test(test_threads_do_not_matter),
        cmocka_unit_test(test_future_does_not_matter),
        cmocka_unit_test(test_checkpoints_are_prefixes),
        cmocka_unit_test(test_checkpoint_intervals),
        cmocka_unit_test(test_places_do_not_matter),
        cmocka_unit_test(test_far_strides),
        cmocka_unit_test(test_nan_stays_in_its_head),
        cmocka_unit_test(test_decode_tokens_one_by_one),
        cmocka_unit_test(test_decode_batch_invariance),
        cmocka_unit_test(test_decode_poisoned_slot_starts_from_0),
        cmocka_unit_test(test_decode_nan_stays_in_its_sequence),
        cmocka_unit_test(test_decode_hard_numbers),
        cmocka_unit_test(test_decode_leaves_empty_sequences_alone),
        cmocka_unit_test(test_decode_goes_on_from_a_prefill),
        cmocka_unit_test(test_decode_commits),
        cmocka_unit_test(test_decode_step_states),
        cmocka_unit_test(test_decode_trees),
        cmocka_unit_test(test_decode_nan_stays_behind_its_token),
        cmocka_unit_test(test_decode_fused_cases),
        cmocka_unit_test(test_decode_fused_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

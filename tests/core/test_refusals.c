/* Every bad input has one answer: a status and a sentence that names argument, value and rule. Nothing is written. */
#include "good_call.h"

#include "counter_rng.h"
#include "refusals_suite.h"

/* Every status of the list that host memory can reach was reached by the tests before this one. */
static void test_every_reachable_status_was_seen(void **state)
{
    (void)state;
    static const fkda_status reachable[] = {
        FKDA_OK, FKDA_ERR_NULL_POINTER, FKDA_ERR_STRUCT_SIZE, FKDA_ERR_BAD_VALUE, FKDA_ERR_SHAPE, FKDA_ERR_DTYPE, FKDA_ERR_STRIDE,
        FKDA_ERR_MISALIGNED, FKDA_ERR_ALIAS, FKDA_ERR_OVERFLOW, FKDA_ERR_WORKSPACE, FKDA_ERR_UNSUPPORTED, FKDA_ERR_CU_SEQLENS,
    };
    for (size_t i = 0; i < sizeof reachable / sizeof *reachable; ++i)
        if (!good_was_seen(reachable[i])) fail_msg("%s was never reached", fkda_status_name(reachable[i]));
}

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_calls_work),
        cmocka_unit_test(test_struct_sizes),
        cmocka_unit_test(test_enums_and_numbers),
        cmocka_unit_test(test_dtypes),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_strides),
        cmocka_unit_test(test_empty_calls),
        cmocka_unit_test(test_overflows),
        cmocka_unit_test(test_null_pointers),
        cmocka_unit_test(test_absent_but_given),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_out_overlaps_nothing),
        cmocka_unit_test(test_states_in_place),
        cmocka_unit_test(test_workspace),
        cmocka_unit_test(test_query_arguments),
        cmocka_unit_test(test_cu_seqlens),
        cmocka_unit_test(test_cu_seqlens_host_copy),
        cmocka_unit_test(test_cu_seqlens_fuzzed),
        cmocka_unit_test(test_state_descs),
        cmocka_unit_test(test_state_arguments),
        cmocka_unit_test(test_slot_values),
        cmocka_unit_test(test_checkpoint_values),
        cmocka_unit_test(test_skipped_checkpoints),
        cmocka_unit_test(test_slot_conflicts_fuzzed),
        cmocka_unit_test(test_decode_descs),
        cmocka_unit_test(test_decode_arguments),
        cmocka_unit_test(test_decode_values),
        cmocka_unit_test(test_decode_first_structs),
        cmocka_unit_test(test_decode_commits),
        cmocka_unit_test(test_decode_commit_arguments),
        cmocka_unit_test(test_decode_plans),
        cmocka_unit_test(test_fused_descs),
        cmocka_unit_test(test_fused_arguments),
        cmocka_unit_test(test_fused_values),
        cmocka_unit_test(test_fused_plans),
        cmocka_unit_test(test_not_offered_yet),
        cmocka_unit_test(test_no_backend_takes_it),
        cmocka_unit_test(test_huge_descs_that_are_fine),
        cmocka_unit_test(test_every_reachable_status_was_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

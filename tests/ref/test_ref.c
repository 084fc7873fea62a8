/* The reference: by hand, one form against the other, and against recorded float64 answers. */
#include "harness.h"

#include "counter_rng.h"
#include "ref_suite.h"

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_tokens_by_hand),
        cmocka_unit_test(test_gates_by_hand),
        cmocka_unit_test(test_norm_by_hand),
        cmocka_unit_test(test_fused_by_hand),
        cmocka_unit_test(test_fused_step_by_hand),
        cmocka_unit_test(test_states_against_a_plain_recurrence),
        cmocka_unit_test(test_forms_agree_on_table),
        cmocka_unit_test(test_forms_agree_on_softplus_extremes),
        cmocka_unit_test(test_finite_gate_parameters_stay_finite),
        cmocka_unit_test(test_float64_bounded),
        cmocka_unit_test(test_float64_softplus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The tests of the float64 reference. */
#ifndef FKDA_TEST_REF_SUITE_H
#define FKDA_TEST_REF_SUITE_H

void test_two_tokens_by_hand(void **state);
void test_gates_by_hand(void **state);
void test_norm_by_hand(void **state);
void test_fused_by_hand(void **state);
void test_fused_step_by_hand(void **state);
void test_states_against_a_plain_recurrence(void **state);
void test_forms_agree_on_table(void **state);
void test_forms_agree_on_softplus_extremes(void **state);
void test_finite_gate_parameters_stay_finite(void **state);
void test_float64_bounded(void **state);
void test_float64_softplus(void **state);

#endif

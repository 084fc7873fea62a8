/* The tests that every backend must pass. */
#ifndef FKDA_TEST_BACKEND_SUITE_H
#define FKDA_TEST_BACKEND_SUITE_H

/* backend_cases.c */
void test_every_case(void **state);
void test_every_decode_case(void **state);
void test_recorded_activations(void **state);
void test_tiny_values_scale_exactly(void **state);
void test_finite_bits_stay_finite(void **state);

/* backend_invariance.c */
void test_batch_invariance(void **state);
void test_dense_rows_equal_packed(void **state);
void test_split_invariance(void **state);
void test_i32_equals_i64(void **state);
void test_threads_do_not_matter(void **state);
void test_future_does_not_matter(void **state);

/* backend_states.c */
void test_checkpoints_are_prefixes(void **state);
void test_checkpoint_intervals(void **state);
void test_places_do_not_matter(void **state);

/* backend_far.c */
void test_far_strides(void **state);

/* backend_containment.c */
void test_nan_stays_in_its_head(void **state);

/* backend_decode.c */
void test_decode_tokens_one_by_one(void **state);
void test_decode_batch_invariance(void **state);
void test_decode_poisoned_slot_starts_from_0(void **state);
void test_decode_nan_stays_in_its_sequence(void **state);
void test_decode_hard_numbers(void **state);
void test_decode_leaves_empty_sequences_alone(void **state);
void test_decode_goes_on_from_a_prefill(void **state);

/* backend_commits.c */
void test_decode_commits(void **state);
void test_decode_step_states(void **state);
void test_decode_trees(void **state);
void test_decode_nan_stays_behind_its_token(void **state);
/* backend_decode_fused.c */
void test_decode_fused_cases(void **state);
void test_decode_fused_bits(void **state);

#endif

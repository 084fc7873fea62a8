/* The tests of what is refused, by the file that holds them. */
#ifndef FKDA_TEST_REFUSALS_SUITE_H
#define FKDA_TEST_REFUSALS_SUITE_H

/* refuse_desc.c */
void test_good_calls_work(void **state);
void test_struct_sizes(void **state);
void test_enums_and_numbers(void **state);
void test_dtypes(void **state);
void test_shapes(void **state);
void test_strides(void **state);
void test_empty_calls(void **state);
void test_overflows(void **state);

/* refuse_args.c */
void test_null_pointers(void **state);
void test_absent_but_given(void **state);
void test_alignment(void **state);
void test_out_overlaps_nothing(void **state);
void test_states_in_place(void **state);
void test_workspace(void **state);
void test_query_arguments(void **state);

/* refuse_seqlens.c */
void test_cu_seqlens(void **state);
void test_cu_seqlens_host_copy(void **state);
void test_cu_seqlens_fuzzed(void **state);

/* refuse_states.c */
void test_state_descs(void **state);
void test_state_arguments(void **state);
void test_slot_values(void **state);
void test_checkpoint_values(void **state);
void test_skipped_checkpoints(void **state);
void test_slot_conflicts_fuzzed(void **state);

/* refuse_decode.c */
void test_decode_descs(void **state);
void test_decode_arguments(void **state);
void test_decode_values(void **state);
void test_decode_first_structs(void **state);
void test_decode_commits(void **state);
void test_decode_commit_arguments(void **state);
void test_decode_plans(void **state);

/* refuse_decode_fused.c */
void test_fused_descs(void **state);
void test_fused_arguments(void **state);
void test_fused_values(void **state);
void test_fused_plans(void **state);

/* refuse_unsupported.c */
void test_not_offered_yet(void **state);
void test_no_backend_takes_it(void **state);
void test_huge_descs_that_are_fine(void **state);

#endif

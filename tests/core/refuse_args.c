/* Rules on pointers and on the workspace. */
#include "good_call.h"

#include "refusals_suite.h"

#define BEHIND(pointer, bytes) ((void *)((uintptr_t)(pointer) + (uintptr_t)(bytes)))

void test_null_pointers(void **state)
{
    (void)state;
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.q is NULL", c.args.q = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.k is NULL", c.args.k = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.v is NULL", c.args.v = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.g is NULL", c.args.g = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.beta is NULL", c.args.beta = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.out is NULL", c.args.out = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.A_log is NULL", c.args.A_log = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.dt_bias is NULL", c.args.dt_bias = NULL);
    CALL_REFUSED(good_packed(), FKDA_ERR_NULL_POINTER, "args.cu_seqlens is NULL", c.args.cu_seqlens = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.initial_state is NULL", c.args.initial_state = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_NULL_POINTER, "args.final_state is NULL", c.args.final_state = NULL);
    /* nothing to read: no pointer needed */
    CALL_WORKS(good_dense(), c.desc.T = 0; c.args.q = c.args.k = c.args.v = c.args.g = c.args.beta = c.args.out = NULL);

    const good_call c = good_dense();
    assert_int_equal(fkda_fwd(NULL, &c.args, c.workspace, c.workspace_bytes, NULL), FKDA_ERR_NULL_POINTER);
    assert_non_null(strstr(fkda_last_error(), "desc is NULL"));
    assert_int_equal(fkda_fwd(&c.desc, NULL, c.workspace, c.workspace_bytes, NULL), FKDA_ERR_NULL_POINTER);
    assert_non_null(strstr(fkda_last_error(), "args is NULL"));
}

void test_absent_but_given(void **state)
{
    (void)state;
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.A_log is given", c.desc.A_log = FKDA_NONE);
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.dt_bias is given", c.desc.dt_bias = FKDA_NONE);
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.cu_seqlens is given", c.args.cu_seqlens = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.cu_seqlens_host is given", c.args.cu_seqlens_host = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.initial_state is given", c.desc.initial_state.dtype = FKDA_NONE);
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.final_state is given", c.desc.final_state.dtype = FKDA_NONE);
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.initial_slots is given", c.args.initial_slots = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.final_slots is given", c.args.final_slots = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.initial_mask is given", c.args.initial_mask = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.checkpoint_state is given", c.args.checkpoint_state = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.checkpoint_offsets is given", c.args.checkpoint_offsets = good_spare(64));
    CALL_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "args.checkpoint_slots is given", c.args.checkpoint_slots = good_spare(64));
}

void test_alignment(void **state)
{
    (void)state;
    for (int by = 1; by < 4; ++by) {
        CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.q = ", c.args.q = BEHIND(c.args.q, by));
        CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.beta = ", c.args.beta = BEHIND(c.args.beta, by));
        CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.out = ", c.args.out = BEHIND(good_spare(GOOD_OUT_BYTES + 4), by));
        CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.A_log = ", c.args.A_log = BEHIND(c.args.A_log, by));
        CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.initial_state = ", c.args.initial_state = BEHIND(c.args.initial_state, by));
        CALL_REFUSED(good_packed(), FKDA_ERR_MISALIGNED, "args.cu_seqlens = ", c.args.cu_seqlens = BEHIND(c.args.cu_seqlens, by));
    }
    CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "args.device_status = ", c.args.device_status = BEHIND(good_spare(64), 2));
    CALL_REFUSED(good_packed(), FKDA_ERR_MISALIGNED, "its element of 8 bytes", c.args.cu_seqlens = BEHIND(c.args.cu_seqlens, 4));
    CALL_REFUSED(good_dense(), FKDA_ERR_MISALIGNED, "its element of 2 bytes", c.desc.k.dtype = FKDA_BF16; c.args.k = BEHIND(c.args.k, 1));
    CALL_WORKS(good_dense(), c.desc.k.dtype = FKDA_BF16; c.args.k = BEHIND(c.args.k, 2));    /* its element is enough */
}

void test_out_overlaps_nothing(void **state)
{
    (void)state;
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.q", c.args.q = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.k", c.args.k = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.v", c.args.v = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.g", c.args.g = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.beta", c.args.beta = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.A_log", c.args.A_log = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.dt_bias", c.args.dt_bias = c.args.out);
    CALL_REFUSED(good_packed(), FKDA_ERR_ALIAS, "overlaps args.cu_seqlens", c.args.cu_seqlens = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.final_state", c.args.final_state = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.q", c.args.q = BEHIND(c.args.out, GOOD_OUT_BYTES - 4));    /* by one element */
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.final_state", c.args.k = BEHIND(c.args.final_state, 1024));
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.final_state", c.args.final_state = c.args.out = good_spare(GOOD_STATE_BYTES));

    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.device_status", c.args.device_status = c.args.out);
    CALL_WORKS(good_dense(), c.args.device_status = good_spare(64));    /* host memory: ignored */

    /* side by side is fine, and inputs may share */
    CALL_WORKS(good_dense(), c.args.out = good_spare(GOOD_OUT_BYTES + GOOD_Q_BYTES); c.args.q = BEHIND(c.args.out, GOOD_OUT_BYTES));
    CALL_WORKS(good_dense(), c.args.k = c.args.q);
}

void test_states_in_place(void **state)
{
    (void)state;
    CALL_WORKS(good_dense(), c.args.initial_state = c.args.final_state);
    CALL_WORKS(good_dense(), c.args.initial_state = c.args.final_state; c.desc.initial_state.layout = c.desc.final_state.layout = FKDA_STATE_NHKV);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = c.args.final_state; c.desc.final_state.layout = FKDA_STATE_NHKV);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = c.args.final_state; c.desc.final_state.dtype = FKDA_BF16);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = c.args.final_state; c.desc.final_state.row_stride = 16400);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = BEHIND(c.args.final_state, 4));
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = BEHIND(c.args.final_state, 16384 * 4));
    /* a third tensor at the address of the state in place is still a third tensor */
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.q", c.args.q = c.args.initial_state = c.args.final_state);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.dt_bias", c.args.dt_bias = c.args.initial_state = c.args.final_state);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.out", c.args.out = c.args.final_state; c.args.initial_state = c.args.final_state);
}

void test_workspace(void **state)
{
    (void)state;
    CALL_REFUSED(good_dense(), FKDA_ERR_WORKSPACE, "this plan needs", c.workspace_bytes -= 1);
    CALL_REFUSED(good_dense(), FKDA_ERR_WORKSPACE, "workspace_bytes = 0", c.workspace_bytes = 0);
    CALL_REFUSED(good_dense(), FKDA_ERR_WORKSPACE, "workspace is NULL", c.workspace = NULL);
    CALL_REFUSED(good_dense(), FKDA_ERR_WORKSPACE, "is not aligned to 256 bytes", c.workspace = BEHIND(c.workspace, 128));
    CALL_WORKS(good_dense(), c.workspace_bytes += 1000);
    /* scratch over an argument would destroy it */
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "workspace", c.workspace = c.args.out);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "workspace", c.args.q = c.workspace);
    CALL_REFUSED(good_dense(), FKDA_ERR_ALIAS, "args.initial_state", c.args.initial_state = BEHIND(c.workspace, c.workspace_bytes - 4));
}

void test_query_arguments(void **state)
{
    (void)state;
    const good_call c = good_dense();
    fkda_plan plan;
    char text[8];
    assert_int_equal(fkda_fwd_plan(&c.desc, NULL), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_fwd_plan(NULL, &plan), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_fwd_workspace_size(&c.desc, NULL), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_fwd_query(NULL, NULL), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_fwd_query(&c.desc, NULL), FKDA_OK);
    assert_int_equal(fkda_fwd_run(NULL, &c.args, c.workspace, c.workspace_bytes, NULL), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_backend_status(FKDA_BACKEND_AUTO, text, sizeof text), FKDA_ERR_BAD_VALUE);
    assert_int_equal(fkda_backend_status((fkda_backend)-1, text, sizeof text), FKDA_ERR_BAD_VALUE);
    assert_int_equal(fkda_backend_status((fkda_backend)4, text, sizeof text), FKDA_ERR_BAD_VALUE);
    assert_int_equal(fkda_backend_status(FKDA_BACKEND_REF, NULL, 8), FKDA_ERR_NULL_POINTER);
    assert_int_equal(fkda_backend_status(FKDA_BACKEND_REF, NULL, 0), FKDA_OK);
    memset(text, 'x', sizeof text);
    assert_int_equal(fkda_backend_status(FKDA_BACKEND_REF, text, sizeof text - 1), FKDA_OK);
    assert_int_equal(text[sizeof text - 2], 0);
    assert_int_equal(text[sizeof text - 1], 'x');
}

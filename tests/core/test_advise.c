/* fkda_fwd_advise on host memory: what must be copied before a backend takes the call, and into what. tests/cuda asks it of the CUDA kernels. */
#include "good_call.h"

#include "counter_rng.h"

#define BEHIND(pointer, bytes) ((void *)((uintptr_t)(pointer) + (uintptr_t)(bytes)))

static void test_a_good_call_needs_no_copy(void **state)
{
    (void)state;
    const good_call calls[] = {good_dense(), good_packed()};
    for (int i = 0; i < 2; ++i) {
        fkda_fwd_desc takes;
        uint32_t copies = 99;
        assert_int_equal(fkda_fwd_advise(&calls[i].desc, &calls[i].args, &takes, &copies), FKDA_OK);
        assert_int_equal(copies, 0);
        assert_true(takes.struct_size == sizeof takes && takes.HV == GOOD_HV && takes.q.head_stride == GOOD_K && takes.q.dtype == FKDA_F32);
        assert_int_equal(fkda_fwd_advise(&calls[i].desc, NULL, &takes, &copies), FKDA_OK);
        assert_int_equal(copies, 0);
    }
}

static fkda_dtype *dtype_of(fkda_fwd_desc *d, int argument)
{
    fkda_dtype *const dtypes[] = {&d->q.dtype, &d->k.dtype, &d->v.dtype, &d->g.dtype, &d->beta.dtype, &d->out.dtype, &d->A_log, &d->dt_bias,
                                  &d->cu_seqlens, &d->initial_state.dtype, &d->final_state.dtype};
    return dtypes[argument];
}

static void *address_of(const fkda_fwd_args *a, int argument)
{
    const void *const data[] = {a->q, a->k, a->v, a->g, a->beta, a->out, a->A_log, a->dt_bias, a->cu_seqlens, a->initial_state, a->final_state};
    return BEHIND(data[argument], 0);
}

static void set_address(fkda_fwd_args *a, int argument, void *data)
{
    const void **const inputs[] = {&a->q, &a->k, &a->v, &a->g, &a->beta, NULL, &a->A_log, &a->dt_bias, &a->cu_seqlens, &a->initial_state, NULL};
    if (argument == FKDA_ARG_OUT) a->out = data;
    else if (argument == FKDA_ARG_FINAL_STATE) a->final_state = data;
    else *inputs[argument] = data;
}

enum { ARGUMENTS = FKDA_ARG_FINAL_STATE + 1 };

/* One argument at a time, and no other bit. */
static void test_each_argument_is_named(void **state)
{
    (void)state;
    for (int i = 0; i < ARGUMENTS; ++i) {
        const good_call good = good_packed();
        fkda_fwd_desc takes;
        fkda_fwd_args args = good.args;
        uint32_t copies;
        set_address(&args, i, BEHIND(address_of(&args, i), 1));    /* between two elements */
        assert_int_equal(fkda_fwd_advise(&good.desc, &args, &takes, &copies), FKDA_OK);
        assert_int_equal(copies, 1u << i);
        assert_int_equal(*dtype_of(&takes, i), i == FKDA_ARG_CU_SEQLENS ? FKDA_I64 : FKDA_F32);
        if (i == FKDA_ARG_CU_SEQLENS) continue;
        fkda_fwd_desc half = good.desc;
        *dtype_of(&half, i) = FKDA_F16;
        half.q.token_stride = half.out.token_stride = 1000;
        half.initial_state.layout = half.final_state.layout = FKDA_STATE_NHKV;
        half.initial_state.row_stride = half.final_state.row_stride = 16400;
        assert_int_equal(fkda_fwd_query(&half, NULL), FKDA_ERR_UNSUPPORTED);
        assert_int_equal(fkda_fwd_advise(&half, &good.args, &takes, &copies), FKDA_OK);
        assert_int_equal(copies, 1u << i);
        assert_int_equal(*dtype_of(&takes, i), FKDA_F32);
        assert_int_equal(takes.q.token_stride, i == FKDA_ARG_Q ? GOOD_H * GOOD_K : 1000);    /* the copy is contiguous, others stay */
        assert_int_equal(takes.out.token_stride, i == FKDA_ARG_OUT ? GOOD_HV * GOOD_V : 1000);
        assert_int_equal(takes.final_state.row_stride, i == FKDA_ARG_FINAL_STATE ? 16384 : 16400);
        assert_int_equal(takes.initial_state.layout, FKDA_STATE_NHKV);
        assert_int_equal(fkda_fwd_query(&takes, NULL), FKDA_OK);
    }
}

/* Random dtypes and addresses: the answer is what lies wrong, and with copies of exactly this the call runs. */
static void test_random_calls(void **state)
{
    (void)state;
    const uint64_t stream = rng_stream("advise", 0);
    for (int trial = 0; trial < 300; ++trial) {
        good_call c = good_packed();
        uint32_t wrong = 0, copies = 99;
        fkda_fwd_desc takes;
        fkda_fwd_args lies = c.args;
        for (int i = 0; i < ARGUMENTS; ++i) {
            const uint64_t draw = (uint64_t)(2 * (trial * ARGUMENTS + i));
            const int64_t dice = rng_below(stream, draw, 20);
            if (dice == 0) set_address(&lies, i, BEHIND(address_of(&lies, i), 1 + rng_below(stream, draw + 1, 3)));
            if (dice == 1 && i != FKDA_ARG_CU_SEQLENS) *dtype_of(&c.desc, i) = FKDA_F16;
            if (dice == 0 || (dice == 1 && i != FKDA_ARG_CU_SEQLENS)) wrong |= 1u << i;
        }
        const fkda_status before = fkda_fwd(&c.desc, &lies, c.workspace, c.workspace_bytes, NULL);
        assert_true((before == FKDA_OK) == (wrong == 0));
        assert_int_equal(fkda_fwd_advise(&c.desc, &lies, &takes, &copies), FKDA_OK);
        assert_int_equal(copies, wrong);
        for (int i = 0; i < ARGUMENTS; ++i)
            if (copies >> i & 1u) set_address(&lies, i, address_of(&c.args, i));    /* stands for the copy */
        if (fkda_fwd(&takes, &lies, c.workspace, c.workspace_bytes, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
    }
}

/* Arrays of indices, and states that are no sequence's. */
static void test_slots_and_checkpoints(void **state)
{
    (void)state;
    static int32_t slots[8];
    static const uint8_t mask[GOOD_N + 1];
    good_call c = good_packed();
    c.desc.flags = FKDA_FLAG_INITIAL_MASK;
    c.desc.initial_state.slot_count = 5, c.desc.final_state.slot_count = 6, c.desc.checkpoints.slot_count = 7;
    c.desc.checkpoints.dtype = FKDA_BF16, c.desc.checkpoint_count = GOOD_N, c.desc.checkpoint_offset_dtype = FKDA_I32;
    c.desc.initial_state.slot_dtype = c.desc.final_state.slot_dtype = c.desc.checkpoints.slot_dtype = FKDA_I32;
    c.desc.initial_state.row_stride = c.desc.final_state.row_stride = c.desc.checkpoints.row_stride = 16400;
    c.args.checkpoint_state = good_spare(7 * 16400 * 2 + 2);
    c.args.initial_slots = c.args.final_slots = c.args.checkpoint_slots = c.args.checkpoint_offsets = slots;
    c.args.initial_mask = mask + 1;    /* bytes lie well anywhere */
    fkda_fwd_desc takes;
    uint32_t copies = 99;
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 0);
    assert_int_equal(takes.checkpoints_per_sequence, 1);

    fkda_fwd_args args = c.args;
    args.initial_slots = BEHIND(slots, 1), args.final_slots = BEHIND(slots, 2), args.checkpoint_slots = BEHIND(slots, 3);
    args.checkpoint_offsets = BEHIND(slots, 1), args.checkpoint_state = BEHIND(args.checkpoint_state, 1);
    assert_int_equal(fkda_fwd_advise(&c.desc, &args, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 1u << FKDA_ARG_CHECKPOINT_STATE | 1u << FKDA_ARG_INITIAL_SLOTS | 1u << FKDA_ARG_FINAL_SLOTS |
                                 1u << FKDA_ARG_CHECKPOINT_SLOTS | 1u << FKDA_ARG_CHECKPOINT_OFFSETS);
    assert_true(takes.checkpoints.row_stride == 16384 && takes.checkpoints.slot_count == 7 && takes.checkpoints.dtype == FKDA_BF16);
    assert_true(takes.initial_state.row_stride == 16400 && takes.initial_state.slot_dtype == FKDA_I32);

    c.desc.checkpoints.dtype = c.desc.initial_state.dtype = FKDA_F16;
    assert_int_equal(fkda_fwd_advise(&c.desc, NULL, &takes, &copies), FKDA_OK);
    assert_int_equal(copies, 1u << FKDA_ARG_CHECKPOINT_STATE | 1u << FKDA_ARG_INITIAL_STATE);
    assert_true(takes.checkpoints.dtype == FKDA_F32 && takes.initial_state.dtype == FKDA_F32 && takes.initial_state.slot_count == 5);
}

static void test_refusals(void **state)
{
    (void)state;
    good_call c = good_dense();
    fkda_fwd_desc takes;
    uint32_t copies = 99;
    memset(&takes, 0xa5, sizeof takes);
    const fkda_fwd_desc poison = takes;
    assert_int_equal(fkda_fwd_advise(NULL, &c.args, &takes, &copies), FKDA_ERR_NULL_POINTER);
    assert_non_null(strstr(fkda_last_error(), "desc is NULL"));
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, NULL, &copies), FKDA_ERR_NULL_POINTER);
    assert_non_null(strstr(fkda_last_error(), "takes is NULL"));
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &takes, NULL), FKDA_ERR_NULL_POINTER);
    assert_non_null(strstr(fkda_last_error(), "copies is NULL"));
    c.desc.q.dtype = FKDA_F16, c.desc.K = 257;    /* no copy brings another K */
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &takes, &copies), FKDA_ERR_UNSUPPORTED);
    assert_non_null(strstr(fkda_last_error(), "ref: K = 257"));
    c = good_dense(), c.desc.B = -1;
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &takes, &copies), FKDA_ERR_SHAPE);
    c = good_dense(), c.args.struct_size = 8;
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &takes, &copies), FKDA_ERR_STRUCT_SIZE);
    assert_int_equal(copies, 99);
    assert_memory_equal(&takes, &poison, sizeof takes);

    c = good_dense(), c.desc.k.dtype = FKDA_F16;    /* refusals on the way are no failure; takes may be desc */
    assert_int_equal(fkda_fwd_advise(&c.desc, &c.args, &c.desc, &copies), FKDA_OK);
    assert_true(copies == 1u << FKDA_ARG_K && c.desc.k.dtype == FKDA_F32);
    assert_non_null(strstr(fkda_last_error(), "args.struct_size = 8"));
}

int main(void)
{
    rng_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_good_call_needs_no_copy),
        cmocka_unit_test(test_each_argument_is_named),
        cmocka_unit_test(test_random_calls),
        cmocka_unit_test(test_slots_and_checkpoints),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

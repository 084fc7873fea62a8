/* Pools, masks and checkpoints: every rule on their descs, their arguments and their values. */
#include "good_call.h"

#include "counter_rng.h"
#include "guarded.h"
#include "refusals_suite.h"

enum { SLOTS = 3, ROWS = 12 };

static int32_t slots[3][ROWS];    /* initial, final, checkpoints */
static int64_t offsets[ROWS];

/* Both states in pools of three slots, int32 indices. */
static good_call pooled(void)
{
    good_call c = good_packed();
    for (int i = 0; i < ROWS; ++i) slots[0][i] = slots[1][i] = slots[2][i] = i % SLOTS;
    c.desc.initial_state.slot_count = c.desc.final_state.slot_count = SLOTS;
    c.desc.initial_state.slot_dtype = c.desc.final_state.slot_dtype = FKDA_I32;
    c.args.initial_slots = slots[0];
    c.args.final_slots = slots[1];
    return c;
}

static good_call pooled_in_place(void)
{
    good_call c = pooled();
    c.args.initial_state = c.args.final_state;
    return c;
}

/* Sequences of 2, 0 and 8 tokens; two checkpoints each. */
static good_call with_offsets(void)
{
    static const int64_t inside[ROWS] = {1, 2, 0, -1, 8, 3};
    good_call c = good_packed();
    memcpy(offsets, inside, sizeof offsets);
    c.desc.checkpoints.dtype = FKDA_F32;
    c.desc.checkpoints_per_sequence = 2;
    c.desc.checkpoint_count = 6;
    c.args.checkpoint_state = good_spare(6 * 65536);
    c.args.checkpoint_offsets = offsets;
    return c;
}

/* Every two tokens: 1 + 0 + 4 checkpoints. */
static good_call with_every(void)
{
    good_call c = good_packed();
    c.desc.checkpoints.dtype = FKDA_F32;
    c.desc.checkpoint_every = 2;
    c.desc.checkpoint_count = 5;
    c.args.checkpoint_state = good_spare(6 * 65536);
    return c;
}

static good_call with_checkpoint_slots(void)
{
    good_call c = with_every();
    for (int i = 0; i < ROWS; ++i) slots[2][i] = 5 - i;
    c.desc.checkpoints.slot_count = 6;
    c.desc.checkpoints.slot_dtype = FKDA_I32;
    c.args.checkpoint_slots = slots[2];
    return c;
}

void test_state_descs(void **state)
{
    (void)state;
    DESC_REFUSED(pooled(), FKDA_ERR_DTYPE, "desc.initial_state has dtype 2; it takes slot indices in i32 or i64",
                 c.desc.initial_state.slot_dtype = FKDA_F32);
    DESC_REFUSED(pooled(), FKDA_ERR_DTYPE, "desc.final_state has dtype 0", c.desc.final_state.slot_dtype = FKDA_NONE);
    DESC_REFUSED(pooled(), FKDA_ERR_BAD_VALUE, "desc.final_state.slot_null = 3", c.desc.final_state.slot_null = (fkda_slot_null)3);
    DESC_REFUSED(pooled(), FKDA_ERR_UNSUPPORTED, "desc.initial_state.slot_null = FKDA_SLOT_NULL_NONE is offered by decode alone",
                 c.desc.initial_state.slot_null = FKDA_SLOT_NULL_NONE);
    DESC_REFUSED(pooled(), FKDA_ERR_STRIDE, "desc.initial_state.row_stride = 16383 is below HV*K*V",
                 c.desc.initial_state.row_stride = 16383);
    DESC_REFUSED(pooled(), FKDA_ERR_OVERFLOW, "desc.final_state", c.desc.final_state.slot_count = INT64_C(1) << 50);
    DESC_REFUSED(pooled(), FKDA_ERR_OVERFLOW, "slot indices need more than 2^63 bytes", c.desc.N = INT64_MAX / 64);
    DESC_REFUSED(with_offsets(), FKDA_ERR_SHAPE, "desc.checkpoints_per_sequence = -1", c.desc.checkpoints_per_sequence = -1);
    DESC_REFUSED(with_offsets(), FKDA_ERR_SHAPE, "desc.checkpoint_count = 5 is below N * checkpoints_per_sequence = 3 * 2",
                 c.desc.checkpoint_count = 5);
    DESC_REFUSED(with_offsets(), FKDA_ERR_SHAPE, "is below N", c.desc.checkpoints_per_sequence = INT64_MAX);
    DESC_REFUSED(with_offsets(), FKDA_ERR_DTYPE, "desc.checkpoint_offset_dtype has dtype 2; it takes none, i32, i64",
                 c.desc.checkpoint_offset_dtype = FKDA_F32);
    DESC_REFUSED(with_offsets(), FKDA_ERR_BAD_VALUE, "desc.unaligned = 0x10001 has bits of no FKDA_ARG_*", c.desc.unaligned = 1u << 16 | 1u);
    DESC_REFUSED(with_every(), FKDA_ERR_SHAPE, "desc.checkpoints_per_sequence = 2 belongs to checkpoint_offsets",
                 c.desc.checkpoints_per_sequence = 2);
    DESC_REFUSED(with_every(), FKDA_ERR_STRIDE, "desc.checkpoints.row_stride = 1 is below", c.desc.checkpoints.row_stride = 1);
    DESC_REFUSED(with_every(), FKDA_ERR_OVERFLOW, "desc.checkpoints", c.desc.checkpoint_count = INT64_C(1) << 50);
    DESC_REFUSED(with_checkpoint_slots(), FKDA_ERR_OVERFLOW, "desc.checkpoint_count", c.desc.checkpoint_count = INT64_MAX / 64);
    DESC_REFUSED(with_checkpoint_slots(), FKDA_ERR_DTYPE, "desc.checkpoints has dtype 4", c.desc.checkpoints.dtype = FKDA_I32);
    CALL_WORKS(pooled(), (void)c);
    CALL_WORKS(with_offsets(), (void)c);
    CALL_WORKS(with_every(), (void)c);
    CALL_WORKS(with_checkpoint_slots(), (void)c);
    CALL_WORKS(good_dense(),
               c.desc.checkpoints_per_sequence = 7; c.desc.checkpoint_every = 3);    /* of absent checkpoints nothing matters */
}

void test_state_arguments(void **state)
{
    (void)state;
    CALL_REFUSED(pooled(), FKDA_ERR_NULL_POINTER, "args.initial_slots is NULL", c.args.initial_slots = NULL);
    CALL_REFUSED(pooled(), FKDA_ERR_NULL_POINTER, "args.final_slots is NULL", c.args.final_slots = NULL);
    CALL_REFUSED(pooled(), FKDA_ERR_MISALIGNED, "args.final_slots", c.args.final_slots = (const char *)c.args.final_slots + 2);
    CALL_REFUSED(good_packed(), FKDA_ERR_NULL_POINTER, "args.initial_mask is NULL", c.desc.flags = FKDA_FLAG_INITIAL_MASK);
    CALL_REFUSED(with_offsets(), FKDA_ERR_NULL_POINTER, "args.checkpoint_state is NULL", c.args.checkpoint_state = NULL);
    CALL_REFUSED(with_offsets(), FKDA_ERR_NULL_POINTER, "args.checkpoint_offsets is NULL", c.args.checkpoint_offsets = NULL);
    CALL_REFUSED(with_every(), FKDA_ERR_BAD_VALUE, "args.checkpoint_offsets is given", c.args.checkpoint_offsets = offsets);
    CALL_REFUSED(with_every(), FKDA_ERR_BAD_VALUE, "args.checkpoint_slots is given", c.args.checkpoint_slots = slots[2]);
    CALL_REFUSED(with_checkpoint_slots(), FKDA_ERR_NULL_POINTER, "args.checkpoint_slots is NULL", c.args.checkpoint_slots = NULL);
    CALL_REFUSED(with_offsets(), FKDA_ERR_MISALIGNED, "args.checkpoint_offsets", c.args.checkpoint_offsets = (const char *)offsets + 4);
    CALL_WORKS(with_offsets(),
               c.desc.checkpoint_offset_dtype = FKDA_I32; memset(offsets, 0, sizeof offsets); c.args.checkpoint_offsets = (const char *)offsets + 4);

    /* what is written overlaps nothing */
    CALL_REFUSED(with_every(), FKDA_ERR_ALIAS, "overlaps args.q", c.args.q = c.args.checkpoint_state);
    CALL_REFUSED(with_every(), FKDA_ERR_ALIAS, "overlaps args.checkpoint_state", c.args.checkpoint_state = c.args.final_state);
    CALL_REFUSED(with_every(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.args.initial_state = c.args.checkpoint_state);
    CALL_REFUSED(with_every(), FKDA_ERR_ALIAS, "overlaps args.initial_state",
                 c.args.initial_state = (char *)c.args.checkpoint_state + 5 * 65536 - 4);
    CALL_REFUSED(with_offsets(), FKDA_ERR_ALIAS, "overlaps args.checkpoint_offsets", c.args.checkpoint_offsets = c.args.checkpoint_state);
    CALL_REFUSED(with_checkpoint_slots(), FKDA_ERR_ALIAS, "overlaps args.checkpoint_slots",
                 c.args.checkpoint_slots = c.args.checkpoint_state);
    CALL_REFUSED(pooled(), FKDA_ERR_ALIAS, "overlaps args.initial_slots", c.args.initial_slots = c.args.final_state);
    CALL_REFUSED(good_packed(), FKDA_ERR_ALIAS, "overlaps args.initial_mask",
                 c.desc.flags = FKDA_FLAG_INITIAL_MASK; c.args.initial_mask = c.args.out);
    CALL_REFUSED(with_every(), FKDA_ERR_ALIAS, "workspace", c.workspace = c.args.checkpoint_state);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "overlaps args.initial_state",
                 c.desc.initial_state.slot_null = FKDA_SLOT_NULL_NOT_POSITIVE);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "overlaps args.initial_state", c.desc.initial_state.slot_count = 2; slots[0][2] = -1);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "overlaps args.initial_state",
                 c.desc.initial_state.slot_count = 0; c.args.initial_slots = NULL);
}

void test_slot_values(void **state)
{
    (void)state;
    CALL_REFUSED(pooled(), FKDA_ERR_BAD_VALUE, "args.initial_slots[1] = 3 is not below desc.initial_state.slot_count = 3", slots[0][1] = 3);
    CALL_REFUSED(pooled(), FKDA_ERR_BAD_VALUE, "args.final_slots[2] = 2147483647 is not below desc.final_state.slot_count = 3",
                 slots[1][2] = INT32_MAX);
    CALL_WORKS(pooled(), slots[0][1] = -1; slots[1][0] = INT32_MIN; slots[0][0] = slots[0][2]);    /* null; inputs may share */
    CALL_WORKS(pooled(), c.desc.initial_state.slot_null = c.desc.final_state.slot_null = FKDA_SLOT_NULL_NOT_POSITIVE; slots[1][1] = 0);
    CALL_REFUSED(pooled(), FKDA_ERR_ALIAS, "args.final_slots[0] and args.final_slots[2] are both 1, but no two sequences may write",
                 slots[1][0] = slots[1][2] = 1;
                 slots[1][1] = 0);
    CALL_WORKS(pooled(), slots[1][0] = slots[1][2] = -1);

    static const uint8_t third[3] = {1, 1, 0};
    CALL_WORKS(pooled(), slots[0][2] = 77; c.desc.flags = FKDA_FLAG_INITIAL_MASK; c.args.initial_mask = third);    /* nobody needs it */
    CALL_REFUSED(pooled(), FKDA_ERR_BAD_VALUE, "args.initial_slots[1] = 77",
                 slots[0][1] = 77; c.desc.flags = FKDA_FLAG_INITIAL_MASK; c.args.initial_mask = third);

    /* in place: from one's own slot to it, or to one that nobody else reads */
    CALL_WORKS(pooled_in_place(), (void)c);
    CALL_WORKS(pooled_in_place(), slots[0][0] = slots[0][1] = 0; slots[1][0] = 2; slots[1][1] = -1; slots[0][2] = slots[1][2] = 1);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "args.final_slots[0] and args.initial_slots[1] are both 1, but in place",
                 slots[1][0] = 1; slots[1][1] = -1);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "args.final_slots[2] and args.initial_slots[0] are both 0, but in place",
                 slots[1][2] = 0; slots[1][0] = 2);
    CALL_REFUSED(pooled_in_place(), FKDA_ERR_ALIAS, "args.final_slots[0] and args.initial_slots[2] are both 0, but in place",
                 slots[0][2] = 0);
    CALL_WORKS(pooled_in_place(), slots[0][2] = 0; c.desc.flags = FKDA_FLAG_INITIAL_MASK; c.args.initial_mask = third);
    CALL_WORKS(pooled_in_place(), slots[0][2] = 0; c.args.initial_state = good_spare(GOOD_STATE_BYTES));    /* apart: no matter */
}

void test_checkpoint_values(void **state)
{
    (void)state;
    CALL_REFUSED(with_offsets(),
                 FKDA_ERR_BAD_VALUE, "args.checkpoint_offsets[1] = 3 (sequence 0, checkpoint 1 of 2) is beyond the 2 tokens", offsets[1] = 3);
    CALL_REFUSED(with_offsets(),
                 FKDA_ERR_BAD_VALUE, "args.checkpoint_offsets[2] = 1 (sequence 1, checkpoint 0 of 2) is beyond the 0 tokens", offsets[2] = 1);
    CALL_REFUSED(with_offsets(), FKDA_ERR_BAD_VALUE, "args.checkpoint_offsets[5] = 9223372036854775807", offsets[5] = INT64_MAX);
    CALL_WORKS(with_offsets(), offsets[0] = INT64_MIN; offsets[4] = offsets[5] = 8);
    CALL_REFUSED(with_every(), FKDA_ERR_BAD_VALUE, "desc.checkpoint_count = 4 is too small: sequence 2 has a checkpoint in row 4",
                 c.desc.checkpoint_count = 4);
    CALL_REFUSED(with_every(), FKDA_ERR_BAD_VALUE, "desc.checkpoint_count = 0 is too small: sequence 0 has a checkpoint in row 0",
                 c.desc.checkpoint_count = 0);
    CALL_WORKS(with_every(),
               c.desc.checkpoint_every = 9; c.desc.checkpoint_count = 0; c.args.checkpoint_state = NULL);    /* longer than all */
    CALL_WORKS(with_every(), c.desc.checkpoint_every = INT64_MAX);

    CALL_REFUSED(with_checkpoint_slots(), FKDA_ERR_BAD_VALUE, "args.checkpoint_slots[4] = 6 is not below desc.checkpoints.slot_count = 6",
                 slots[2][4] = 6);
    CALL_REFUSED(with_checkpoint_slots(), FKDA_ERR_ALIAS, "args.checkpoint_slots[0] and args.checkpoint_slots[3] are both 5",
                 slots[2][3] = 5);
    CALL_REFUSED(with_checkpoint_slots(), FKDA_ERR_BAD_VALUE, "desc.checkpoint_count = 4 is too small", c.desc.checkpoint_count = 4);
    CALL_WORKS(with_checkpoint_slots(), slots[2][0] = slots[2][3] = -5);
    CALL_WORKS(with_checkpoint_slots(),
               c.desc.checkpoint_count = 8; slots[2][5] = 99; slots[2][6] = slots[2][0]);    /* rows without a checkpoint */
}

/* Checkpoints 2 and 3 are skipped. */
static good_call with_skipped_slots(void)
{
    static const int32_t given[ROWS] = {0, 1, 77, 0, 2, 3};
    good_call c = with_offsets();
    memcpy(slots[2], given, sizeof given);
    c.desc.checkpoints.slot_count = 6;
    c.desc.checkpoints.slot_dtype = FKDA_I32;
    c.args.checkpoint_slots = slots[2];
    return c;
}

void test_skipped_checkpoints(void **state)
{
    (void)state;
    CALL_WORKS(with_skipped_slots(), (void)c);
    CALL_REFUSED(with_skipped_slots(), FKDA_ERR_BAD_VALUE, "args.checkpoint_slots[5] = 77 is not below", slots[2][5] = 77);
    CALL_REFUSED(with_skipped_slots(), FKDA_ERR_ALIAS, "args.checkpoint_slots[0] and args.checkpoint_slots[4] are both 0", slots[2][4] = 0);
}

/* Random lists of slots against the rule, pair by pair. */
void test_slot_conflicts_fuzzed(void **state)
{
    (void)state;
    enum { N = 40, POOL = 64 };
    static int64_t bounds[N + 1], initial[N], final[N];
    const uint64_t stream = rng_stream("slot conflicts", 0);
    int refused = 0, worked = 0;
    for (int trial = 0; trial < 400; ++trial) {
        good_call c = good_packed();
        const int n_count = 1 + (int)rng_below(stream, (uint64_t)(1000 * trial + 999), trial % 2 ? 6 : N), pool = trial % 3 == 0 ? POOL : 7;
        int is_in_place = trial % 5 != 0, is_broken = 0;
        for (int n = 0; n < n_count; ++n) {
            const uint64_t draw = (uint64_t)(1000 * trial + 3 * n);
            initial[n] = rng_below(stream, draw, pool + 1) - 1;
            final[n] = rng_below(stream, draw + 1, 2) ? initial[n] : rng_below(stream, draw + 2, pool + 1) - 1;
        }
        for (int m = 0; m < n_count; ++m)
            for (int n = 0; n < n_count; ++n)
                if (m != n && final[m] >= 0) is_broken |= final[n] == final[m] || (is_in_place && initial[n] == final[m]);
        c.desc.H = c.desc.HV = c.desc.K = c.desc.V = 1;
        c.desc.T = 0;
        c.desc.N = n_count;
        c.desc.initial_state = c.desc.final_state = (fkda_state_desc){.dtype = FKDA_F32, .slot_count = pool, .slot_dtype = FKDA_I64};
        c.args.cu_seqlens = bounds;
        c.args.initial_slots = initial;
        c.args.final_slots = final;
        if (is_in_place) c.args.initial_state = c.args.final_state;
        assert_int_equal(fkda_fwd_workspace_size(&c.desc, &c.workspace_bytes), FKDA_OK);
        guarded exact = guarded_alloc(c.workspace_bytes, FKDA_WORKSPACE_ALIGN, GUARD_AT_END, 0xa5);    /* the list of slots fits into it */
        c.workspace = exact.data;
        const fkda_status got = good_run(&c);
        guarded_free(&exact);
        if (got != (is_broken ? FKDA_ERR_ALIAS : FKDA_OK)) fail_msg("trial %d: %s: %s", trial, fkda_status_name(got), fkda_last_error());
        is_broken ? ++refused : ++worked;
    }
    if (refused < 50 || worked < 50) fail_msg("%d refused, %d worked", refused, worked);
}

/* Bad calls of fkda_decode: what it adds to the rules of the forward pass. A call that works is broken in one place; state and out stay what they were. */
#include "good_call.h"

#include "refusals_suite.h"

enum { N = 3, S = 2, H = 2, HV = 4, K = 64, V = 64, SLOTS = 7, TOKENS = N * S, STATE = HV * K * V };

static struct arena {
    _Alignas(256) float q[TOKENS * H * K], k[TOKENS * H * K], v[TOKENS * HV * V], g[TOKENS * HV * K], beta[TOKENS * HV];
    _Alignas(256) float out[TOKENS * HV * V], pool[SLOTS * STATE], steps[TOKENS * STATE];
    int32_t slots[N], each[N * S], accepted[N], parent[N * S];
    int64_t wide_slots[N], bounds[N + 1];
    uint8_t mask[N];
    _Alignas(256) unsigned char workspace[4 << 20];
} arena, before;

typedef struct decode_call {
    fkda_decode_desc desc;
    fkda_decode_args args;
    size_t workspace_bytes;
} decode_call;

static decode_call good_decode(void)
{
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32};
    decode_call c = {
        .desc = {.struct_size = sizeof c.desc, .N = N, .S = S, .H = H, .HV = HV, .K = K, .V = V, .q = f32, .k = f32, .v = f32, .g = f32, .beta = f32,
                 .out = f32, .lower_bound = -5, .scale = 0.125f, .state = {.dtype = FKDA_F32, .slot_count = SLOTS, .slot_dtype = FKDA_I32}},
        .args = {.struct_size = sizeof c.args, .q = arena.q, .k = arena.k, .v = arena.v, .g = arena.g, .beta = arena.beta, .out = arena.out,
                 .state = arena.pool, .slots = arena.slots},
        .workspace_bytes = sizeof arena.workspace,
    };
    memset(&arena, 0x3e, sizeof arena);
    for (int n = 0; n < N; ++n) arena.slots[n] = 4 - 2 * n, arena.wide_slots[n] = n, arena.bounds[n + 1] = n + 1, arena.accepted[n] = 1;
    for (int i = 0; i < N * S; ++i) arena.each[i] = i, arena.parent[i] = i % S - 1;
    arena.bounds[0] = 0;
    return c;
}

static decode_call good_packed_decode(void)
{
    decode_call c = good_decode();
    c.desc.cu_seqlens = FKDA_I64, c.desc.T = TOKENS, c.args.cu_seqlens = arena.bounds;
    return c;
}

static decode_call good_accepted(void)
{
    decode_call c = good_decode();
    c.desc.commit = FKDA_COMMIT_ACCEPTED, c.desc.num_accepted = FKDA_I32, c.args.num_accepted = arena.accepted;
    return c;
}

static decode_call good_each(void)
{
    decode_call c = good_accepted();
    c.desc.commit = FKDA_COMMIT_EACH, c.args.slots = arena.each;
    return c;
}

/* Step states of a tree, read and written in arena.steps. */
static decode_call good_tree(void)
{
    decode_call c = good_decode();
    c.desc.commit = FKDA_COMMIT_NONE, c.desc.parent = FKDA_I32, c.args.parent = arena.parent;
    c.desc.step_states.dtype = FKDA_F32, c.args.step_states = arena.steps;
    return c;
}

static decode_call good_fold(void)
{
    decode_call c = good_accepted();
    c.desc.flags = FKDA_FLAG_NO_OUT, c.args.q = NULL, c.args.out = NULL;
    return c;
}

static fkda_status run(const decode_call *c) { return fkda_decode(&c->desc, &c->args, arena.workspace, c->workspace_bytes, NULL); }

static void expect_refused(const decode_call *c, fkda_status status, const char *words, const char *change)
{
    for (int b = FKDA_BACKEND_CPU; b <= FKDA_BACKEND_REF; ++b) {
        decode_call on = *c;
        on.desc.backend = (fkda_backend)b;
        memcpy(&before, &arena, sizeof arena);
        const fkda_status got = run(&on);
        if (got != status || strstr(fkda_last_error(), words) == NULL)
            fail_msg("%s gave %s: %s, not %s with \"%s\"", change, fkda_status_name(got), fkda_last_error(), fkda_status_name(status), words);
        if (memcmp(before.out, arena.out, sizeof arena.out) != 0 || memcmp(before.pool, arena.pool, sizeof arena.pool) != 0 ||
            memcmp(before.steps, arena.steps, sizeof arena.steps) != 0)
            fail_msg("%s: something was written", change);
    }
}

#define REFUSED(good, status, words, ...)                     \
    do {                                                      \
        decode_call c = good;                                 \
        __VA_ARGS__;                                          \
        expect_refused(&c, status, words, #__VA_ARGS__);      \
    } while (0)
#define WORKS(good, ...)                                                          \
    do {                                                                          \
        decode_call c = good;                                                     \
        __VA_ARGS__;                                                              \
        if (run(&c) != FKDA_OK) fail_msg("%s: %s", #__VA_ARGS__, fkda_last_error()); \
    } while (0)

void test_decode_descs(void **state)
{
    (void)state;
    WORKS(good_decode(), (void)c);
    WORKS(good_packed_decode(), (void)c);
    WORKS(good_decode(), c.desc.T = S);
    WORKS(good_decode(), c.desc.N = 0);
    REFUSED(good_decode(), FKDA_ERR_SHAPE, "desc.S = 0 is outside [1, 8]", c.desc.S = 0);
    REFUSED(good_decode(), FKDA_ERR_SHAPE, "desc.S = 9 is outside [1, 8]", c.desc.S = 9);
    REFUSED(good_decode(), FKDA_ERR_SHAPE, "desc.N = -1 is negative", c.desc.N = -1);
    REFUSED(good_decode(), FKDA_ERR_SHAPE, "desc.T = 6 is neither 0 nor S = 2", c.desc.T = 6);
    REFUSED(good_packed_decode(), FKDA_ERR_SHAPE, "desc.T = -1 is negative", c.desc.T = -1);
    REFUSED(good_decode(), FKDA_ERR_OVERFLOW, "desc.N = ", c.desc.N = INT64_MAX);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.reserved2 = 1", c.desc.reserved2 = 1);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.flags = 0x2", c.desc.flags = FKDA_FLAG_CHECK_SEQLENS);
    REFUSED(good_fold(), FKDA_ERR_BAD_VALUE, "FKDA_FLAG_NULL_IS_PADDING and FKDA_FLAG_NO_OUT", c.desc.flags |= FKDA_FLAG_NULL_IS_PADDING);
    WORKS(good_decode(), c.desc.flags = FKDA_FLAG_NULL_IS_PADDING);
    REFUSED(good_decode(), FKDA_ERR_DTYPE, "desc.state has dtype 0; it takes bf16, f32", c.desc.state.dtype = FKDA_NONE);
    REFUSED(good_decode(), FKDA_ERR_DTYPE, "desc.state has dtype 4", c.desc.state.dtype = FKDA_I32);
    REFUSED(good_decode(), FKDA_ERR_UNSUPPORTED, "fp16", c.desc.state.dtype = FKDA_F16);
    REFUSED(good_decode(), FKDA_ERR_DTYPE, "desc.state has dtype 0; it takes slot indices", c.desc.state.slot_dtype = FKDA_NONE);
    REFUSED(good_decode(), FKDA_ERR_STRIDE, "desc.state.row_stride = 5 is below HV*K*V", c.desc.state.row_stride = 5);
    REFUSED(good_decode(), FKDA_ERR_SHAPE, "desc.HV = 3 is not a positive multiple of H = 2", c.desc.HV = 3);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.lower_bound = -6", c.desc.lower_bound = -6);
    REFUSED(good_decode(), FKDA_ERR_STRIDE, "desc.out.token_stride = 8", c.desc.out.token_stride = 8);
    REFUSED(good_decode(), FKDA_ERR_STRUCT_SIZE, "sizeof(fkda_decode_desc) is 432", c.desc.struct_size = 344);
    REFUSED(good_decode(), FKDA_ERR_STRUCT_SIZE, "sizeof(fkda_decode_args) is 136", c.args.struct_size = 104);
}

void test_decode_arguments(void **state)
{
    (void)state;
    REFUSED(good_decode(), FKDA_ERR_NULL_POINTER, "args.state is NULL", c.args.state = NULL);
    REFUSED(good_decode(), FKDA_ERR_NULL_POINTER, "args.slots is NULL", c.args.slots = NULL);
    REFUSED(good_decode(), FKDA_ERR_NULL_POINTER, "args.initial_mask is NULL", c.desc.flags = FKDA_FLAG_INITIAL_MASK);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.initial_mask is given", c.args.initial_mask = arena.mask);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.slots is given", c.desc.state.slot_count = 0);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.cu_seqlens is given", c.args.cu_seqlens = arena.bounds);
    REFUSED(good_decode(), FKDA_ERR_MISALIGNED, "args.state = ", c.args.state = (char *)arena.pool + 2);
    REFUSED(good_decode(), FKDA_ERR_ALIAS, "args.out", c.args.out = arena.pool);
    REFUSED(good_decode(), FKDA_ERR_ALIAS, "overlaps args.state", c.args.out = arena.pool + SLOTS * STATE - 1);
    REFUSED(good_decode(), FKDA_ERR_ALIAS, "args.state", c.args.v = arena.pool);
    REFUSED(good_decode(), FKDA_ERR_WORKSPACE, "workspace_bytes = 1", c.workspace_bytes = 1);
}

void test_decode_values(void **state)
{
    (void)state;
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.slots[1] = 7 is not below desc.state.slot_count = 7", arena.slots[1] = SLOTS);
    REFUSED(good_decode(), FKDA_ERR_ALIAS, "args.slots[0] and args.slots[2] are both 4", arena.slots[2] = 4);
    WORKS(good_decode(), arena.slots[0] = arena.slots[1] = -1);
    REFUSED(good_decode(), FKDA_ERR_ALIAS, "args.slots[0] and args.slots[1] are both 0", arena.slots[0] = arena.slots[1] = 0);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.slots[1] = -1 is below 0, but desc.state.slot_null says that no index is null",
            c.desc.state.slot_null = FKDA_SLOT_NULL_NONE; arena.slots[1] = -1);
    WORKS(good_decode(), c.desc.state.slot_null = FKDA_SLOT_NULL_NONE);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.state.slot_null = 3 is not an fkda_slot_null", c.desc.state.slot_null = (fkda_slot_null)3);
    WORKS(good_decode(), arena.slots[0] = arena.slots[1] = 0; c.desc.state.slot_null = FKDA_SLOT_NULL_NOT_POSITIVE);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.slots[2] = 1099511627776 is not below",
            c.desc.state.slot_dtype = FKDA_I64; c.args.slots = arena.wide_slots; arena.wide_slots[2] = INT64_C(1) << 40);
    REFUSED(good_packed_decode(), FKDA_ERR_CU_SEQLENS, "cu_seqlens[2] = 4 gives sequence 1 3 tokens, but desc.S = 2",
            arena.bounds[2] = 4; arena.bounds[3] = 5);
    REFUSED(good_packed_decode(), FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = 1", arena.bounds[0] = 1);
    REFUSED(good_packed_decode(), FKDA_ERR_CU_SEQLENS, "is beyond T = 6", arena.bounds[3] = 7);
    REFUSED(good_packed_decode(), FKDA_ERR_CU_SEQLENS, "is below the entry before it", arena.bounds[2] = 0);
}

/* Callers that were compiled before there were commits: the state is written over, whatever lies behind their structs. */
void test_decode_first_structs(void **state)
{
    (void)state;
    enum { DESC = offsetof(fkda_decode_desc, commit), ARGS = offsetof(fkda_decode_args, num_accepted) };
    WORKS(good_decode(), c.desc.struct_size = DESC; c.args.struct_size = ARGS; memset((char *)&c.desc + DESC, 0xff, sizeof c.desc - DESC);
          memset((char *)&c.args + ARGS, 0xff, sizeof c.args - ARGS));
    decode_call c = good_decode();
    c.desc.struct_size = DESC;
    memcpy(&before, &arena, sizeof arena);
    assert_int_equal(run(&c), FKDA_OK);
    assert_memory_not_equal(before.pool + 4 * STATE, arena.pool + 4 * STATE, STATE * sizeof(float));
}

void test_decode_commits(void **state)
{
    (void)state;
    WORKS(good_accepted(), (void)c);
    WORKS(good_each(), (void)c);
    WORKS(good_each(), c.desc.num_accepted = FKDA_NONE; c.args.num_accepted = NULL);
    WORKS(good_tree(), (void)c);
    WORKS(good_fold(), (void)c);
    WORKS(good_decode(), c.desc.commit = FKDA_COMMIT_NONE);
    WORKS(good_decode(), c.desc.commit = FKDA_COMMIT_NONE; arena.slots[2] = 4);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.commit = 4 is not an fkda_commit", c.desc.commit = (fkda_commit)4);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.reserved3 = 1", c.desc.reserved3 = 1);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "desc.num_accepted has dtype 4, but commit LAST reads none", c.desc.num_accepted = FKDA_I32);
    REFUSED(good_accepted(), FKDA_ERR_BAD_VALUE, "but commit NONE reads none", c.desc.commit = FKDA_COMMIT_NONE);
    REFUSED(good_accepted(), FKDA_ERR_DTYPE, "desc.num_accepted has dtype 0; it takes i32, i64", c.desc.num_accepted = FKDA_NONE);
    REFUSED(good_each(), FKDA_ERR_DTYPE, "desc.num_accepted has dtype 2; it takes none, i32, i64", c.desc.num_accepted = FKDA_F32);
    REFUSED(good_each(), FKDA_ERR_SHAPE, "desc.state.slot_count = 0, but commit EACH writes to slots of a pool", c.desc.state.slot_count = 0; c.args.slots = NULL);
    REFUSED(good_each(), FKDA_ERR_SHAPE, "desc.slots_per_sequence = 1 is below 2", c.desc.slots_per_sequence = 1);
    REFUSED(good_each(), FKDA_ERR_SHAPE, "desc.slots_stride = 1 is below 2", c.desc.slots_stride = 1);
    REFUSED(good_each(), FKDA_ERR_OVERFLOW, "desc.slots_stride = ", c.desc.slots_stride = INT64_MAX);
    REFUSED(good_each(), FKDA_ERR_BAD_VALUE, "but commit EACH writes these states to slots", c.desc.step_states.dtype = FKDA_F32; c.args.step_states = arena.steps);
    REFUSED(good_tree(), FKDA_ERR_DTYPE, "desc.step_states has dtype 5; it takes none, bf16, f32", c.desc.step_states.dtype = FKDA_I64);
    REFUSED(good_tree(), FKDA_ERR_UNSUPPORTED, "fp16", c.desc.step_states.dtype = FKDA_F16);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "desc.step_states.slot_count = 3, but step states are dense",
            c.desc.step_states.slot_count = 3; c.desc.step_states.slot_dtype = FKDA_I32);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "desc.step_states.layout = 1 differs from desc.state.layout = 0", c.desc.step_states.layout = FKDA_STATE_NHKV);
    REFUSED(good_tree(), FKDA_ERR_STRIDE, "desc.step_states.row_stride = 5 is below HV*K*V", c.desc.step_states.row_stride = 5);
    REFUSED(good_tree(), FKDA_ERR_SHAPE, "desc.step_states_per_sequence = 1 is below 2", c.desc.step_states_per_sequence = 1);
    REFUSED(good_tree(), FKDA_ERR_SHAPE, "desc.parent_stride = -2 is below 2", c.desc.parent_stride = -2);
    REFUSED(good_tree(), FKDA_ERR_DTYPE, "desc.parent has dtype 1; it takes none, i32, i64", c.desc.parent = FKDA_BF16);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "desc.parent has dtype 4, but a tree needs commit NONE", c.desc.commit = FKDA_COMMIT_LAST);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "desc.parent has dtype 4, but a tree needs step_states", c.desc.step_states.dtype = FKDA_NONE; c.args.step_states = NULL);
    REFUSED(good_fold(), FKDA_ERR_BAD_VALUE, "without step_states nothing would be written",
            c.desc.commit = FKDA_COMMIT_NONE; c.desc.num_accepted = FKDA_NONE; c.args.num_accepted = NULL);
}

void test_decode_commit_arguments(void **state)
{
    (void)state;
    REFUSED(good_accepted(), FKDA_ERR_NULL_POINTER, "args.num_accepted is NULL", c.args.num_accepted = NULL);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.num_accepted is given", c.args.num_accepted = arena.accepted);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.step_states is given", c.args.step_states = arena.steps);
    REFUSED(good_decode(), FKDA_ERR_BAD_VALUE, "args.parent is given", c.args.parent = arena.parent);
    REFUSED(good_tree(), FKDA_ERR_NULL_POINTER, "args.step_states is NULL", c.args.step_states = NULL);
    REFUSED(good_tree(), FKDA_ERR_NULL_POINTER, "args.parent is NULL", c.args.parent = NULL);
    REFUSED(good_tree(), FKDA_ERR_ALIAS, "overlaps", c.args.step_states = arena.pool);
    REFUSED(good_fold(), FKDA_ERR_BAD_VALUE, "args.out is given", c.args.out = arena.out);
    REFUSED(good_fold(), FKDA_ERR_BAD_VALUE, "args.q is given", c.args.q = arena.q);
    REFUSED(good_decode(), FKDA_ERR_NULL_POINTER, "args.out is NULL", c.args.out = NULL);
    REFUSED(good_accepted(), FKDA_ERR_BAD_VALUE, "args.num_accepted[1] = 3 is outside [0, 2], the tokens of its sequence", arena.accepted[1] = 3);
    REFUSED(good_accepted(), FKDA_ERR_BAD_VALUE, "args.num_accepted[2] = -1 is outside [0, 2]", arena.accepted[2] = -1);
    WORKS(good_accepted(), arena.accepted[0] = 0; arena.accepted[1] = 2);
    REFUSED(good_each(), FKDA_ERR_BAD_VALUE, "args.num_accepted[0] = 0 is outside [1, 2], the slots of its sequence", arena.accepted[0] = 0);
    REFUSED(good_each(), FKDA_ERR_BAD_VALUE, "args.num_accepted[0] = 3 is outside [1, 2]", arena.accepted[0] = 3);
    WORKS(good_each(), arena.accepted[0] = 0; c.desc.flags = FKDA_FLAG_INITIAL_MASK; c.args.initial_mask = arena.mask; arena.mask[0] = 0);
    REFUSED(good_each(), FKDA_ERR_BAD_VALUE, "args.slots[3] = 7 is not below desc.state.slot_count = 7", arena.each[3] = SLOTS);
    REFUSED(good_each(), FKDA_ERR_ALIAS, "args.slots[1] and args.slots[4] are both 1, but no slot that is written may be another one that is used",
            arena.each[4] = 1);
    WORKS(good_each(), arena.each[3] = arena.each[4] = -1);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "args.parent[2] = 0 (token 0 of sequence 1) is neither -1 nor an earlier token", arena.parent[2] = 0);
    REFUSED(good_tree(), FKDA_ERR_BAD_VALUE, "args.parent[5] = -2 (token 1 of sequence 2)", arena.parent[5] = -2);
}

/* Plans and questions of one operation are not taken for those of another. */
void test_decode_plans(void **state)
{
    (void)state;
    decode_call c = good_decode();
    const good_call fwd = good_dense();
    fkda_plan plan;
    fkda_backend backend = FKDA_BACKEND_AUTO;
    size_t bytes = 0;
    char text[256];
    assert_int_equal(fkda_decode_plan(&c.desc, &plan), FKDA_OK);
    assert_int_equal(fkda_decode_query(&c.desc, &backend), FKDA_OK);
    assert_int_equal(backend, FKDA_BACKEND_CPU);
    assert_int_equal(fkda_decode_workspace_size(&c.desc, &bytes), FKDA_OK);
    assert_true(bytes == fkda_plan_workspace_size(&plan) && bytes > 0);
    assert_true(fkda_plan_describe(&plan, text, sizeof text) > 0 && strstr(text, "decode, 12 states on") != NULL);
    assert_int_equal(fkda_decode_run(&plan, &c.args, arena.workspace, sizeof arena.workspace, NULL), FKDA_OK);
    assert_int_equal(fkda_fwd_run(&plan, &fwd.args, fwd.workspace, fwd.workspace_bytes, NULL), FKDA_ERR_BAD_VALUE);
    assert_non_null(strstr(fkda_last_error(), "plan was not made by fkda_fwd_plan, but by fkda_decode_plan"));
    assert_int_equal(fkda_fwd_plan(&fwd.desc, &plan), FKDA_OK);
    assert_int_equal(fkda_decode_run(&plan, &c.args, arena.workspace, sizeof arena.workspace, NULL), FKDA_ERR_BAD_VALUE);
}

/* Bad calls of fkda_decode_fused: what it adds to the rules of decode. A call that works is broken in one place; states, taps and out stay what they were. */
#include "good_call.h"

#include "refusals_suite.h"

enum { N = 3, H = 2, K = 64, HK = H * K, ROWS = 5, STATE = HK * K, TAPS = 9 * HK };

static struct arena {
    _Alignas(256) float x[N * 3 * HK], g[N * HK], beta[N * H], gate[N * HK], norm[K], weight[3][4 * HK], bias[3][HK];
    _Alignas(256) float out[N * HK], taps[ROWS * TAPS], pool[ROWS * STATE];
    int32_t slots[N];
    uint8_t mask[N];
    _Alignas(256) unsigned char workspace[4 << 20];
} arena, before;

typedef struct fused_call {
    fkda_decode_fused_desc desc;
    fkda_decode_fused_args args;
    size_t workspace_bytes;
} fused_call;

static fused_call good_fused(void)
{
    const fkda_tensor_desc f32 = {.dtype = FKDA_F32}, row = {.batch_stride = 3 * HK, .dtype = FKDA_F32};
    fused_call c = {
        .desc = {.struct_size = sizeof c.desc, .N = N, .H = H, .K = K, .V = K, .q = row, .k = row, .v = row, .g = f32, .beta = f32, .out = f32,
                 .output_gate = f32, .conv_weight = f32, .conv_bias = FKDA_F32, .norm_weight = FKDA_F32, .norm_eps = 1e-5f, .lower_bound = -5, .scale = 0.125f,
                 .state = {.dtype = FKDA_F32, .slot_count = ROWS, .slot_dtype = FKDA_I32}},
        .args = {.struct_size = sizeof c.args, .q = arena.x, .k = arena.x + HK, .v = arena.x + 2 * HK, .g = arena.g, .beta = arena.beta, .out = arena.out,
                 .output_gate = arena.gate, .norm_weight = arena.norm, .conv_weight_q = arena.weight[0], .conv_weight_k = arena.weight[1],
                 .conv_weight_v = arena.weight[2], .conv_bias_q = arena.bias[0], .conv_bias_k = arena.bias[1], .conv_bias_v = arena.bias[2],
                 .conv_state = arena.taps, .state = arena.pool, .slots = arena.slots},
        .workspace_bytes = sizeof arena.workspace,
    };
    memset(&arena, 0x3e, sizeof arena);
    for (int n = 0; n < N; ++n) arena.slots[n] = 4 - 2 * n;
    return c;
}

static fkda_status run(const fused_call *c) { return fkda_decode_fused(&c->desc, &c->args, arena.workspace, c->workspace_bytes, NULL); }

static void expect_refused(const fused_call *c, fkda_status status, const char *words, const char *change)
{
    for (int b = FKDA_BACKEND_CPU; b <= FKDA_BACKEND_REF; ++b) {
        fused_call on = *c;
        on.desc.backend = (fkda_backend)b;
        memcpy(&before, &arena, sizeof arena);
        const fkda_status got = run(&on);
        if (got != status || strstr(fkda_last_error(), words) == NULL)
            fail_msg("%s gave %s: %s, not %s with \"%s\"", change, fkda_status_name(got), fkda_last_error(), fkda_status_name(status), words);
        if (memcmp(before.out, arena.out, sizeof arena.out) != 0 || memcmp(before.pool, arena.pool, sizeof arena.pool) != 0 ||
            memcmp(before.taps, arena.taps, sizeof arena.taps) != 0)
            fail_msg("%s: something was written", change);
    }
}

#define REFUSED(status, words, ...)                           \
    do {                                                      \
        fused_call c = good_fused();                          \
        __VA_ARGS__;                                          \
        expect_refused(&c, status, words, #__VA_ARGS__);      \
    } while (0)
#define WORKS(...)                                                                \
    do {                                                                          \
        fused_call c = good_fused();                                              \
        __VA_ARGS__;                                                              \
        if (run(&c) != FKDA_OK) fail_msg("%s: %s", #__VA_ARGS__, fkda_last_error()); \
    } while (0)

static void leave_out_conv(fused_call *c)
{
    c->desc.conv_weight.dtype = c->desc.conv_bias = FKDA_NONE, c->args.conv_state = NULL;
    c->args.conv_weight_q = c->args.conv_weight_k = c->args.conv_weight_v = c->args.conv_bias_q = c->args.conv_bias_k = c->args.conv_bias_v = NULL;
}

static void leave_out_norm(fused_call *c) { c->desc.norm_weight = FKDA_NONE, c->args.norm_weight = c->args.output_gate = NULL; }

void test_fused_descs(void **state)
{
    (void)state;
    WORKS((void)c);
    WORKS(leave_out_conv(&c));
    WORKS(leave_out_norm(&c); c.desc.norm_eps = 0);
    WORKS(leave_out_conv(&c); leave_out_norm(&c));
    WORKS(c.desc.N = 0);
    WORKS(c.desc.conv_state = (fkda_tensor_desc){TAPS, 1, 3, FKDA_F32, 0});
    REFUSED(FKDA_ERR_SHAPE, "desc.N = -1 is negative", c.desc.N = -1);
    REFUSED(FKDA_ERR_OVERFLOW, "desc.N = ", c.desc.N = INT64_MAX);
    REFUSED(FKDA_ERR_SHAPE, "desc.H = 0, but it must be at least 1", c.desc.H = 0);
    REFUSED(FKDA_ERR_SHAPE, "desc.V = 32 differs from K = 64, but the convolution takes one width", c.desc.V = 32);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.reserved2 = 1", c.desc.reserved2 = 1);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.flags = 0x2", c.desc.flags = FKDA_FLAG_CHECK_SEQLENS);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.flags = 0x8", c.desc.flags = FKDA_FLAG_NULL_IS_PADDING);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.norm_eps = 0 is not a positive normal number", c.desc.norm_eps = 0);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.norm_eps = -1e-05", c.desc.norm_eps = -1e-5f);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.norm_eps = inf", c.desc.norm_eps = 1e30f * 1e30f);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.norm_eps = 9.99", c.desc.norm_eps = 1e-40f);
    REFUSED(FKDA_ERR_DTYPE, "desc.state has dtype 0; it takes bf16, f32", c.desc.state.dtype = FKDA_NONE);
    REFUSED(FKDA_ERR_DTYPE, "desc.norm_weight has dtype 4", c.desc.norm_weight = FKDA_I32);
    REFUSED(FKDA_ERR_DTYPE, "desc.conv_weight has dtype 5", c.desc.conv_weight.dtype = FKDA_I64);
    REFUSED(FKDA_ERR_DTYPE, "desc.output_gate has dtype 4", c.desc.output_gate.dtype = FKDA_I32);
    REFUSED(FKDA_ERR_DTYPE, "desc.k has dtype 1, but desc.conv_state, which takes its elements as they are, has dtype 2", c.desc.k.dtype = FKDA_BF16);
    REFUSED(FKDA_ERR_DTYPE, "desc.q has dtype 2, but desc.conv_state", c.desc.conv_state.dtype = FKDA_BF16);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.conv_bias has dtype 2, but without conv_weight", c.desc.conv_weight.dtype = FKDA_NONE);
    REFUSED(FKDA_ERR_UNSUPPORTED, "fp16", c.desc.conv_weight.dtype = FKDA_F16);
    REFUSED(FKDA_ERR_UNSUPPORTED, "fp16", c.desc.norm_weight = FKDA_F16);
    REFUSED(FKDA_ERR_STRIDE, "desc.conv_state.head_stride = 3 is below", c.desc.conv_state = (fkda_tensor_desc){TAPS, 2, 3, FKDA_F32, 0});
    REFUSED(FKDA_ERR_STRIDE, "desc.conv_state.batch_stride = 9", c.desc.conv_state.batch_stride = 9);
    REFUSED(FKDA_ERR_STRIDE, "desc.conv_weight.token_stride = 5", c.desc.conv_weight.token_stride = 5);
    REFUSED(FKDA_ERR_STRIDE, "desc.output_gate.batch_stride = -4 is negative", c.desc.output_gate.batch_stride = -4);
    REFUSED(FKDA_ERR_BAD_VALUE, "desc.lower_bound = -6", c.desc.lower_bound = -6);
    REFUSED(FKDA_ERR_STRUCT_SIZE, "sizeof(fkda_decode_fused_desc) is 432", c.desc.struct_size = 424);
    REFUSED(FKDA_ERR_STRUCT_SIZE, "sizeof(fkda_decode_fused_args) is 176", c.args.struct_size = 168);
}

void test_fused_arguments(void **state)
{
    (void)state;
    REFUSED(FKDA_ERR_NULL_POINTER, "args.conv_state is NULL", c.args.conv_state = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.conv_weight_v is NULL", c.args.conv_weight_v = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.conv_bias_k is NULL", c.args.conv_bias_k = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.output_gate is NULL", c.args.output_gate = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.norm_weight is NULL", c.args.norm_weight = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.slots is NULL", c.args.slots = NULL);
    REFUSED(FKDA_ERR_NULL_POINTER, "args.initial_mask is NULL", c.desc.flags = FKDA_FLAG_INITIAL_MASK);
    REFUSED(FKDA_ERR_BAD_VALUE, "args.initial_mask is given", c.args.initial_mask = arena.mask);
    REFUSED(FKDA_ERR_BAD_VALUE, "args.output_gate is given", c.desc.norm_weight = FKDA_NONE; c.args.norm_weight = NULL);
    REFUSED(FKDA_ERR_BAD_VALUE, "args.conv_state is given", leave_out_conv(&c); c.args.conv_state = arena.taps);
    REFUSED(FKDA_ERR_BAD_VALUE, "args.conv_bias_q is given", c.desc.conv_bias = FKDA_NONE);
    REFUSED(FKDA_ERR_MISALIGNED, "args.conv_state = ", c.args.conv_state = (char *)arena.taps + 2);
    REFUSED(FKDA_ERR_ALIAS, "args.conv_state", c.args.conv_state = arena.pool);
    REFUSED(FKDA_ERR_ALIAS, "overlaps args.v", c.args.v = arena.out);
    REFUSED(FKDA_ERR_ALIAS, "args.conv_weight_q", c.args.conv_weight_q = arena.taps);
    REFUSED(FKDA_ERR_WORKSPACE, "workspace_bytes = 1", c.workspace_bytes = 1);
}

void test_fused_values(void **state)
{
    (void)state;
    REFUSED(FKDA_ERR_BAD_VALUE, "args.slots[1] = 5 is not below desc.state.slot_count = 5", arena.slots[1] = ROWS);
    REFUSED(FKDA_ERR_ALIAS, "args.slots[0] and args.slots[2] are both 4", arena.slots[2] = 4);
    REFUSED(FKDA_ERR_BAD_VALUE, "args.slots[1] = -1 is below 0", c.desc.state.slot_null = FKDA_SLOT_NULL_NONE; arena.slots[1] = -1);
    WORKS(arena.slots[0] = arena.slots[1] = -1);
    WORKS(arena.slots[0] = arena.slots[1] = 0; c.desc.state.slot_null = FKDA_SLOT_NULL_NOT_POSITIVE);
}

void test_fused_plans(void **state)
{
    (void)state;
    fused_call c = good_fused();
    fkda_plan plan;
    fkda_backend backend = FKDA_BACKEND_AUTO;
    size_t bytes = 0;
    char text[256];
    assert_int_equal(fkda_decode_fused_plan(&c.desc, &plan), FKDA_OK);
    assert_int_equal(fkda_decode_fused_query(&c.desc, &backend), FKDA_OK);
    assert_int_equal(backend, FKDA_BACKEND_CPU);
    assert_int_equal(fkda_decode_fused_workspace_size(&c.desc, &bytes), FKDA_OK);
    assert_true(bytes == fkda_plan_workspace_size(&plan) && bytes > 0);
    assert_true(fkda_plan_describe(&plan, text, sizeof text) > 0 && strstr(text, "decode_fused, 6 states on") != NULL);
    assert_int_equal(fkda_decode_fused_run(&plan, &c.args, arena.workspace, sizeof arena.workspace, NULL), FKDA_OK);
    assert_int_equal(fkda_decode_run(&plan, NULL, arena.workspace, sizeof arena.workspace, NULL), FKDA_ERR_BAD_VALUE);
    assert_non_null(strstr(fkda_last_error(), "plan was not made by fkda_decode_plan, but by fkda_decode_fused_plan"));
}

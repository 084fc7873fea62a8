/* fkda_decode_fused on the CUDA backend, host side: what the kernel takes, what is said where it refuses, what reaches the launcher. */
#include "harness.h"

#include "cuda_plan.h"
#include "fake_cuda.h"

static char memory[1 << 17] __attribute__((aligned(256)));    /* stands for device memory: nobody reads it */
static char pool[1 << 20] __attribute__((aligned(256)));

enum { H = 2, HW = H * 128 };

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

static fkda_decode_fused_desc good_desc(void)
{
    return (fkda_decode_fused_desc){
        .struct_size = sizeof(fkda_decode_fused_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .N = 3, .H = H, .K = 128, .V = 128,
        .q = {.batch_stride = 3 * HW}, .k = {.batch_stride = 3 * HW}, .v = {.batch_stride = 3 * HW}, .conv_weight = {.dtype = FKDA_F32},
        .norm_weight = FKDA_F32, .norm_eps = 1e-5f, .scale = 0.5f, .lower_bound = -5.0f, .state = {.dtype = FKDA_F32},
    };
}

static fkda_decode_fused_args good_args(void)
{
    char *const at = memory;
    return (fkda_decode_fused_args){
        .struct_size = sizeof(fkda_decode_fused_args), .q = at, .k = at + 2 * HW, .v = at + 4 * HW, .g = at + 8192, .beta = at + 12288, .out = at + 16384,
        .output_gate = at + 20480, .norm_weight = at + 24576, .conv_weight_q = at + 32768, .conv_weight_k = at + 40960, .conv_weight_v = at + 49152,
        .conv_state = at + 57344, .state = pool,
    };
}

static void assert_refused(const fkda_decode_fused_desc *d, fkda_status status, const char *words)
{
    assert_int_equal(fkda_decode_fused_query(d, NULL), status);
    if (strstr(fkda_last_error(), words) == NULL) fail_msg("'%s' lacks '%s'", fkda_last_error(), words);
}
#define REFUSES(change, status, words)            \
    do {                                          \
        fkda_decode_fused_desc d = good_desc();   \
        change;                                   \
        assert_refused(&d, status, words);        \
    } while (0)

static void test_refusals_name_field_and_rule(void **unused)
{
    (void)unused;
    reset();
    REFUSES(d.K = d.V = 64, FKDA_ERR_UNSUPPORTED, "decode_fused: K = 64, kernels exist for K = 128");
    REFUSES(d.V = 64; d.conv_weight.dtype = FKDA_NONE, FKDA_ERR_UNSUPPORTED, "V = 64, kernels exist for V = 128");
    REFUSES(d.q.batch_stride = 3 * HW + 2, FKDA_ERR_UNSUPPORTED, "q.batch_stride = 770 is not a multiple of 4 elements");
    REFUSES(d.N = 1; d.v.head_stride = 130, FKDA_ERR_UNSUPPORTED, "v.head_stride = 130 is not a multiple of 4 elements");
    REFUSES(d.out.batch_stride = HW + 1, FKDA_ERR_UNSUPPORTED, "out.batch_stride = 257 is not a multiple of 4");
    REFUSES(d.output_gate.batch_stride = HW + 3, FKDA_ERR_UNSUPPORTED, "output_gate.batch_stride = 259 is not a multiple of 4");
    REFUSES(d.conv_weight.token_stride = HW + 2, FKDA_ERR_UNSUPPORTED, "conv_weight.token_stride = 258 is not a multiple of 4");
    REFUSES(d.conv_weight.token_stride = 2 * HW; d.conv_weight.head_stride = 129, FKDA_ERR_UNSUPPORTED, "conv_weight.head_stride = 129 is not a multiple of 4");
    REFUSES(d.state.row_stride = H * 16384 + 2, FKDA_ERR_UNSUPPORTED, "state.row_stride = 32770 is not a multiple of 4 elements (16 bytes)");
    REFUSES(d.state.dtype = FKDA_BF16; d.state.row_stride = H * 16384 + 4, FKDA_ERR_UNSUPPORTED, "is not a multiple of 8 elements (16 bytes)");
    REFUSES(d.N = 1 << 30, FKDA_ERR_UNSUPPORTED, "N*H = 1073741824 * 2 is above 2^30");
    REFUSES(d.memory = FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "host memory");
}

/* beta may lie anywhere, the others in whole fours; taps too, unless they lie so that they are moved one by one. */
static void test_addresses(void **unused)
{
    (void)unused;
    fkda_decode_fused_desc d = good_desc();
    fkda_decode_fused_args a = good_args();
    reset();
    a.beta = memory + 12290;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    a.conv_state = memory + 57346;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "args.conv_state = "));
    d.conv_state = (fkda_tensor_desc){9 * HW + 1, 1, 3, FKDA_BF16, 0};
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    a = good_args(), a.conv_weight_k = memory + 40964;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "args.conv_weight_k = "));
    a = good_args(), a.state = pool + 8;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "is not aligned to the 16 bytes"));
    assert_int_equal(fake.launches, 2);
}

static void test_everything_reaches_the_launcher(void **unused)
{
    (void)unused;
    fkda_decode_fused_desc d = good_desc();
    fkda_decode_fused_args a = good_args();
    reset();
    d.gate = FKDA_GATE_SOFTPLUS, d.A_log = FKDA_F32, d.dt_bias = FKDA_BF16, a.A_log = memory + 90000, a.dt_bias = memory + 91000;
    d.conv_bias = FKDA_BF16, a.conv_bias_q = memory + 92000, a.conv_bias_k = memory + 93000, a.conv_bias_v = memory + 94000;
    d.beta_kind = FKDA_BETA_ACTIVATED, d.beta_multiplier = 2, d.qk_norm = FKDA_QK_NORM_NONE, d.beta.dtype = FKDA_F32, d.norm_eps = 0.25f;
    d.state = (fkda_state_desc){.dtype = FKDA_BF16, .layout = FKDA_STATE_NHKV, .row_stride = 40000, .slot_count = 5, .slot_dtype = FKDA_I64,
                                .slot_null = FKDA_SLOT_NULL_NOT_POSITIVE};
    d.conv_state = (fkda_tensor_desc){9 * HW, 1, 3, FKDA_BF16, 0};
    d.flags = FKDA_FLAG_INITIAL_MASK, a.initial_mask = (const uint8_t *)(memory + 95000), a.slots = memory + 96000;
    a.device_status = (uint32_t *)(void *)(memory + 97000);
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    const fkdai_fused_call *const c = &fake.last_decode_fused;
    assert_true(c->x[0].data == a.q && c->x[1].data == a.k && c->x[2].data == a.v && c->x[2].batch == 3 * HW && c->x[2].head == 128 && !c->x[0].is_f32);
    assert_true(c->g.data == a.g && c->beta.data == a.beta && c->beta.is_f32 && c->out.data == a.out && c->output_gate.data == a.output_gate);
    assert_true(c->A_log.data == a.A_log && c->A_log.is_f32 && c->dt_bias.data == a.dt_bias && !c->dt_bias.is_f32 && c->norm_weight.data == a.norm_weight);
    assert_true(c->conv.weight[0] == a.conv_weight_q && c->conv.weight[1] == a.conv_weight_k && c->conv.weight[2] == a.conv_weight_v && c->conv.is_weight_f32);
    assert_true(c->conv.bias[0].data == a.conv_bias_q && c->conv.bias[1].data == a.conv_bias_k && c->conv.bias[2].data == a.conv_bias_v && !c->conv.bias[0].is_f32);
    assert_true(c->conv.weight_tap == HW && c->conv.weight_head == 128 && c->conv.taps == a.conv_state && c->conv.row == 9 * HW && c->conv.tap == 1 && c->conv.channel == 3);
    assert_true(c->conv.lie == FKDAI_FUSED_TAPS_COLUMNS && c->state == a.state && c->row_stride == 40000 && c->slots == a.slots && c->is_slot_i64 && c->slot_count == 5);
    assert_true(c->first_slot == 1 && c->gate == FKDAI_FUSED_SOFTPLUS && c->initial_mask == a.initial_mask && c->device_status == a.device_status && c->H == H);
    assert_true(!c->is_normalised && c->is_beta_activated && c->beta_multiplier == 2.0f && c->scale == 0.5f && c->lower_bound == -5.0f && c->norm_eps == 0.25f);
    assert_true(c->grid.is_bf16_state && c->grid.is_k_first && c->grid.is_programmatic && c->grid.blocks == 6 && c->grid.by_heads.shift == 1);
    d = good_desc(), a = good_args();
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->conv.lie == FKDAI_FUSED_TAPS_ROWS && c->conv.row == 9 * HW && c->conv.tap == 3 * HW && c->conv.channel == 1 && c->slots == NULL);
    d.conv_weight.dtype = FKDA_NONE, a.conv_weight_q = a.conv_weight_k = a.conv_weight_v = a.conv_state = NULL;
    d.norm_weight = FKDA_NONE, a.norm_weight = a.output_gate = NULL;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->conv.weight[0] == NULL && c->output_gate.data == NULL && c->x[0].data == a.q);
    assert_int_equal(fake.synchronisations, 0);
}

/* Machines that this test invents, and what a plan says. */
static void test_machines(void **unused)
{
    (void)unused;
    static const struct { int major, minor; fkda_status status; } all[] = {{7, 5, FKDA_ERR_ARCH}, {8, 0, FKDA_OK}, {8, 9, FKDA_OK}, {9, 0, FKDA_OK},
                                                                           {10, 3, FKDA_OK}, {11, 0, FKDA_OK}, {12, 1, FKDA_OK}, {13, 0, FKDA_OK}};
    const fkda_decode_fused_desc d = good_desc();
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        const fkdai_cuda_machine m = {.device_count = 1, .devices = {{"GPU", all[i].major, all[i].minor, 108, 166912}}};
        fkdai_plan plan = {.operation = &fkdai_op_decode_fused};
        fkdai_fused_grid grid;
        fkdai_cuda_own own;
        assert_int_equal(fkdai_resolve(&fkdai_op_decode_fused, &d, &plan.desc), FKDA_OK);
        assert_int_equal(fkdai_cuda_plan(&m, &plan), all[i].status);
        if (all[i].status != FKDA_OK) continue;
        assert_non_null(strstr(plan.choice, "decode with convolution and norm, one token, 6 states, one a block"));
        memcpy(&own, plan.own, sizeof own);
        memcpy(&grid, &own.plan, sizeof grid);
        assert_int_equal(grid.is_programmatic, all[i].major >= 9 && all[i].major != 11 && all[i].major != 13);
    }
}

static void test_calls_of_a_call(void **unused)
{
    (void)unused;
    fkda_decode_fused_desc d = good_desc();
    const fkda_decode_fused_args a = good_args();
    reset();
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    reset();
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_int_equal(fake.logged, 3);
    assert_string_equal(fake.log[2], "fkdai_decode_fused_launch");
    reset();
    d.N = 0;
    assert_int_equal(fkda_decode_fused(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_int_equal(fake.logged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_name_field_and_rule), cmocka_unit_test(test_addresses), cmocka_unit_test(test_everything_reaches_the_launcher),
        cmocka_unit_test(test_machines), cmocka_unit_test(test_calls_of_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

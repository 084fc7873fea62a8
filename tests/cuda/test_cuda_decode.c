/* fkda_decode on the CUDA backend, host side: what the kernel takes, what is said where it refuses, what reaches the launcher. */
#include "harness.h"

#include "cuda_plan.h"
#include "decode/decode_plan.h"
#include "fake_cuda.h"

static char memory[1 << 16] __attribute__((aligned(256)));    /* stands for device memory: nobody reads it */
static char pool[1 << 20] __attribute__((aligned(256)));

static void reset(void)
{
    const fake_cuda fresh = {.device_count = 2, .driver = 13000, .major = 9, .multiprocessors = 132};
    fake = fresh;
}

static fkda_decode_desc good_desc(void)
{
    return (fkda_decode_desc){.struct_size = sizeof(fkda_decode_desc), .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .N = 3, .S = 1, .H = 2,
                              .HV = 4, .K = 128, .V = 128, .scale = 0.5f, .lower_bound = -5.0f, .state = {.dtype = FKDA_F32}};
}

static fkda_decode_args good_args(void)
{
    char *const at = memory;
    return (fkda_decode_args){.struct_size = sizeof(fkda_decode_args), .q = at, .k = at + 4096, .v = at + 8192, .g = at + 16384, .beta = at + 24576,
                              .out = at + 28672, .state = pool};
}

static void assert_refused(const fkda_decode_desc *d, fkda_status status, const char *words)
{
    assert_int_equal(fkda_decode_query(d, NULL), status);
    if (strstr(fkda_last_error(), words) == NULL) fail_msg("'%s' lacks '%s'", fkda_last_error(), words);
}
#define REFUSES(change, status, words)        \
    do {                                      \
        fkda_decode_desc d = good_desc();     \
        change;                               \
        assert_refused(&d, status, words);    \
    } while (0)

static void test_refusals_name_field_and_rule(void **unused)
{
    (void)unused;
    reset();
    REFUSES(d.K = 64, FKDA_ERR_UNSUPPORTED, "decode: K = 64, kernels exist for K = 128");
    REFUSES(d.V = 256, FKDA_ERR_UNSUPPORTED, "V = 256, kernels exist for V = 128");
    REFUSES(d.N = 1; d.q.head_stride = 130, FKDA_ERR_UNSUPPORTED, "q.head_stride = 130 is not a multiple of 4 elements");
    REFUSES(d.g.batch_stride = 1025, FKDA_ERR_UNSUPPORTED, "g.batch_stride = 1025 is not a multiple of 4");
    REFUSES(d.state.row_stride = 4 * 16384 + 2, FKDA_ERR_UNSUPPORTED, "state.row_stride = 65538 is not a multiple of 4 elements (16 bytes)");
    REFUSES(d.state.dtype = FKDA_BF16; d.state.row_stride = 4 * 16384 + 4, FKDA_ERR_UNSUPPORTED, "is not a multiple of 8 elements (16 bytes)");
    REFUSES(d.N = 1 << 26, FKDA_ERR_UNSUPPORTED, "N*HV = 67108864 * 4 is above 2^27");
    REFUSES(d.step_states.dtype = FKDA_F32; d.step_states.row_stride = 4 * 16384 + 2, FKDA_ERR_UNSUPPORTED,
            "step_states.row_stride = 65538 is not a multiple of 4 elements (16 bytes)");
    REFUSES(d.state.slot_count = INT64_C(1) << 31; d.state.slot_dtype = FKDA_I32, FKDA_ERR_UNSUPPORTED, "state.slot_count = 2147483648 is above 2^31 - 1");
    REFUSES(d.state.slot_count = 99; d.state.slot_dtype = FKDA_I32; d.commit = FKDA_COMMIT_EACH; d.slots_per_sequence = 33, FKDA_ERR_UNSUPPORTED,
            "slots_per_sequence = 33 is above 32");
    REFUSES(d.memory = FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "host memory");
    REFUSES(d.device = 2, FKDA_ERR_NO_DEVICE, "desc.device = 2, but there are 2 devices");
    REFUSES(d.S = 9, FKDA_ERR_SHAPE, "desc.S = 9");
}

/* v, beta and out may lie anywhere; the others in whole fours. */
static void test_addresses(void **unused)
{
    (void)unused;
    const fkda_decode_desc d = good_desc();
    fkda_decode_args a = good_args();
    reset();
    a.v = memory + 8194, a.out = memory + 28674, a.beta = memory + 24578;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    a = good_args(), a.k = memory + 4100;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "args.k = "));
    a = good_args(), a.state = pool + 8;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    assert_non_null(strstr(fkda_last_error(), "is not aligned to the 16 bytes"));
    assert_int_equal(fake.launches, 1);
}

static void test_everything_reaches_the_launcher(void **unused)
{
    (void)unused;
    fkda_decode_desc d = good_desc();
    fkda_decode_args a = good_args();
    reset();
    d.S = 5, d.T = 9, d.cu_seqlens = FKDA_I64, a.cu_seqlens = memory + 40000;
    d.gate = FKDA_GATE_SOFTPLUS, d.A_log = FKDA_F32, d.dt_bias = FKDA_BF16, a.A_log = memory + 41000, a.dt_bias = memory + 42000;
    d.beta_kind = FKDA_BETA_ACTIVATED, d.beta_multiplier = 2, d.qk_norm = FKDA_QK_NORM_NONE, d.beta.dtype = FKDA_F32, d.v.token_stride = 600;
    d.state = (fkda_state_desc){.dtype = FKDA_BF16, .layout = FKDA_STATE_NHKV, .row_stride = 70000, .slot_count = 7, .slot_dtype = FKDA_I64,
                                .slot_null = FKDA_SLOT_NULL_NOT_POSITIVE};
    d.flags = FKDA_FLAG_INITIAL_MASK | FKDA_FLAG_NULL_IS_PADDING, a.initial_mask = (const uint8_t *)(memory + 43000), a.slots = memory + 44000;
    a.device_status = (uint32_t *)(void *)(memory + 45000);
    static char far[1 << 21] __attribute__((aligned(256)));
    a.state = far;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    const fkdai_decode_call *const c = &fake.last_decode;
    assert_true(c->q.data == a.q && c->q.token == 256 && c->q.head == 128 && !c->q.is_f32 && c->v.token == 600 && c->beta.is_f32 && c->out.data == a.out);
    assert_true(c->A_log.data == a.A_log && c->A_log.is_f32 && c->dt_bias.data == a.dt_bias && !c->dt_bias.is_f32);
    assert_true(c->cu_seqlens.data == a.cu_seqlens && c->cu_seqlens.is_i64 && c->T == 9 && c->S == 5 && c->HV == 4);
    assert_true(c->state == a.state && c->row_stride == 70000 && c->slots.data == a.slots && c->slots.is_i64);
    assert_true(c->first_slot == 1 && c->slot_span == 6 && c->null_below == 1 && c->commit == FKDAI_DECODE_LAST && !c->only_accepted && c->null_is_padding);
    assert_true(c->gate == FKDAI_DECODE_SOFTPLUS && c->initial_mask == a.initial_mask && c->device_status == a.device_status);
    assert_true(!c->is_normalised && c->is_beta_activated && c->beta_multiplier == 2.0f && c->scale == 0.5f && c->lower_bound == -5.0f);
    assert_true(c->grid.shape != FKDAI_DECODE_ONE && c->grid.is_bf16_state && c->grid.is_k_first && c->grid.is_programmatic && !c->grid.has_plain_input);
    assert_true(c->grid.blocks == 12u * (unsigned)fkdai_decode_blocks_per_state(c->grid.shape, 1));
    assert_true(c->by_group.shift == 1 && c->by_heads.shift == 2);
    d = good_desc(), a = good_args();
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->grid.shape == FKDAI_DECODE_ONE_SMALL && c->grid.blocks == 12 * 16 && c->slots.data == NULL && c->cu_seqlens.data == NULL);
    assert_true(c->grid.has_plain_input && !c->null_is_padding && c->first_slot == 0 && c->slot_span == UINT32_MAX);
    assert_int_equal(fake.synchronisations, 0);
}

static void test_commits_reach_the_launcher(void **unused)
{
    (void)unused;
    fkda_decode_desc d = good_desc();
    fkda_decode_args a = good_args();
    const fkdai_decode_call *const c = &fake.last_decode;
    reset();
    d.S = 3, d.N = 1, d.commit = FKDA_COMMIT_ACCEPTED, d.num_accepted = FKDA_I64, d.flags = FKDA_FLAG_NO_OUT;
    a.q = NULL, a.out = NULL, a.num_accepted = memory + 40000;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->commit == FKDAI_DECODE_ACCEPTED && c->num_accepted.data == a.num_accepted && c->num_accepted.is_i64 && c->only_accepted);
    assert_true(c->q.data == a.k && c->out.data == NULL && c->grid.shape != FKDAI_DECODE_STEPS);
    static char steps[1 << 21] __attribute__((aligned(256)));
    d.step_states = (fkda_state_desc){.dtype = FKDA_BF16, .row_stride = 70000}, d.step_states_per_sequence = 4, a.step_states = steps;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(!c->only_accepted && c->step_states == steps && c->is_bf16_step && c->step_row_stride == 70000 && c->steps_per_sequence == 4);
    assert_int_equal(c->grid.shape, FKDAI_DECODE_STEPS);
    d = good_desc(), a = good_args(), d.N = 1, d.S = 3, d.commit = FKDA_COMMIT_NONE, d.step_states.dtype = FKDA_F32, a.step_states = steps;
    d.parent = FKDA_I32, d.parent_stride = 5, a.parent = memory + 40000;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->commit == FKDAI_DECODE_NONE && c->parent.data == a.parent && !c->parent.is_i64 && c->parent_stride == 5 && !c->is_bf16_step);
    a.step_states = steps + 8;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_ERR_MISALIGNED);
    d = good_desc(), a = good_args(), d.N = 1, d.S = 3, d.commit = FKDA_COMMIT_EACH, d.state.slot_count = 3, d.state.slot_dtype = FKDA_I32;
    d.slots_per_sequence = 4, d.slots_stride = 7, a.slots = memory + 40000;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_true(c->commit == FKDAI_DECODE_EACH && c->slots_per_sequence == 4 && c->slots_stride == 7 && c->grid.shape == FKDAI_DECODE_STEPS && c->slot_span == 3);
}

/* Machines that this test invents: every generation from sm_80 on. Those without machine code run PTX, whose kernels wait for no other. */
static void test_machines(void **unused)
{
    (void)unused;
    static const struct { int major, minor; fkda_status status; } all[] = {
        {7, 5, FKDA_ERR_ARCH}, {8, 0, FKDA_OK}, {8, 6, FKDA_OK}, {8, 9, FKDA_OK}, {9, 0, FKDA_OK}, {10, 0, FKDA_OK}, {10, 3, FKDA_OK}, {11, 0, FKDA_OK},
        {12, 0, FKDA_OK}, {12, 1, FKDA_OK}, {13, 0, FKDA_OK}};
    const fkda_decode_desc d = good_desc();
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        const fkdai_cuda_machine m = {.device_count = 1, .devices = {{"GPU", all[i].major, all[i].minor, 108, 166912}}};
        fkdai_plan plan = {.operation = &fkdai_op_decode};
        fkdai_decode_grid grid;
        fkdai_cuda_own own;
        assert_int_equal(fkdai_resolve(&fkdai_op_decode, &d, &plan.desc), FKDA_OK);
        assert_int_equal(fkdai_cuda_plan(&m, &plan), all[i].status);
        if (all[i].status != FKDA_OK) {
            assert_non_null(strstr(fkda_last_error(), "kernels exist for sm_80 and newer"));
            continue;
        }
        assert_non_null(strstr(plan.choice, "decode, one token, 12 states on 192 blocks"));
        memcpy(&own, plan.own, sizeof own);
        memcpy(&grid, &own.plan, sizeof grid);
        assert_int_equal(grid.is_programmatic, all[i].major >= 9 && all[i].major != 11 && all[i].major != 13);
    }
}

/* A call that is empty asks nobody; one that is not asks the runtime for two things and launches. */
static void test_calls_of_a_call(void **unused)
{
    (void)unused;
    fkda_decode_desc d = good_desc();
    const fkda_decode_args a = good_args();
    reset();
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    reset();
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_int_equal(fake.logged, 3);
    assert_string_equal(fake.log[0], "cudaPeekAtLastError");
    assert_string_equal(fake.log[1], "cudaGetDevice");
    assert_string_equal(fake.log[2], "fkdai_decode_launch");
    reset();
    d.N = 0;
    assert_int_equal(fkda_decode(&d, &a, NULL, 0, NULL), FKDA_OK);
    assert_int_equal(fake.logged, 0);
}

/* From one state to 2^27: blocks are counted in 32 bits. */
static void test_grids(void **unused)
{
    (void)unused;
    for (int S = 1; S <= FKDAI_DECODE_MAX_TOKENS; ++S)
        for (int i = 0; i < 4; ++i) {
            fkdai_decode_request request = {.N = 1 << 17, .HV = 1 << 10, .S = S, .writes_steps = i / 2, .is_bf16_state = i % 2};
            const fkdai_decode_grid most = fkdai_decode_make_grid(&request, 9, 132);
            assert_true((most.shape == FKDAI_DECODE_STEPS) == (i / 2));
            assert_true(most.blocks == (uint32_t)fkdai_decode_blocks_per_state(most.shape, i % 2) << 27 && most.blocks <= INT32_MAX);
            request.N++;
            assert_int_equal(fkdai_decode_make_grid(&request, 9, 132).blocks, 0);
            request.N = 0;
            assert_int_equal(fkdai_decode_make_grid(&request, 9, 132).blocks, 0);
        }
}

/* The kernel that was fastest when it was measured. */
static void test_shapes(void **unused)
{
    (void)unused;
    enum { EARLY = 1 };
    static const struct { fkdai_decode_request request; fkdai_decode_shape shape; int is_early; } cases[] = {
        {{.N = 64, .HV = 32, .S = 1}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 1, .HV = 8, .S = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 2, .HV = 32, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE_SMALL, EARLY},
        {{.N = 1, .HV = 96, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE_SMALL, EARLY},
        {{.N = 97, .HV = 1, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 191, .HV = 1, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 2, .HV = 96, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE_SOME, 0},
        {{.N = 639, .HV = 1, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE_SOME, 0},
        {{.N = 20, .HV = 32, .S = 1, .has_plain_input = 1}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 1, .HV = 32, .S = 1, .is_bf16_state = 1, .has_plain_input = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 1, .HV = 32, .S = 1, .is_k_first = 1, .has_plain_input = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 1, .HV = 32, .S = 1, .is_read_only = 1, .has_plain_input = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 1, .HV = 96, .S = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 1, .HV = 96, .S = 1, .is_bf16_state = 1}, FKDAI_DECODE_ONE, EARLY},
        {{.N = 8, .HV = 32, .S = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 64, .HV = 12, .S = 1}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 8, .HV = 32, .S = 1, .is_bf16_state = 1}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 1, .is_bf16_state = 1}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 256, .HV = 32, .S = 1}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 256, .HV = 32, .S = 1, .is_bf16_state = 1}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 4, .is_bf16_state = 1}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 1, .is_k_first = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 64, .HV = 32, .S = 1, .is_read_only = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 64, .HV = 32, .S = 3}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 64, .HV = 32, .S = 4}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 2, .is_read_only = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 2, .HV = 32, .S = 2, .is_read_only = 1}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 64, .HV = 32, .S = 3, .is_read_only = 1, .has_plain_input = 1}, FKDAI_DECODE_MANY, 0},
        {{.N = 64, .HV = 32, .S = 4, .is_read_only = 1}, FKDAI_DECODE_CHUNK, 0},
        {{.N = 64, .HV = 32, .S = 5, .writes_last = 1, .has_plain_input = 1}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 8, .writes_last = 1, .is_k_first = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK, 0},
        {{.N = 1, .HV = 32, .S = 6, .writes_last = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK_HALF, EARLY},
        {{.N = 4, .HV = 32, .S = 8, .writes_last = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK_HALF, EARLY},
        {{.N = 1, .HV = 32, .S = 4, .is_read_only = 1, .is_bf16_state = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK_HALF, EARLY},
        {{.N = 1, .HV = 129, .S = 8, .is_read_only = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK, EARLY},
        {{.N = 2, .HV = 96, .S = 8, .is_read_only = 1, .has_plain_input = 1}, FKDAI_DECODE_CHUNK, 0},
        {{.N = 1, .HV = 32, .S = 8}, FKDAI_DECODE_FEW, EARLY},
        {{.N = 1, .HV = 32, .S = 8, .is_read_only = 1}, FKDAI_DECODE_CHUNK, 0},
        {{.N = 8, .HV = 32, .S = 4}, FKDAI_DECODE_MANY, EARLY},
        {{.N = 64, .HV = 32, .S = 1, .writes_steps = 1}, FKDAI_DECODE_STEPS, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; ++i) {
        const fkdai_decode_grid hopper = fkdai_decode_make_grid(&cases[i].request, 9, 132), ampere = fkdai_decode_make_grid(&cases[i].request, 8, 108);
        const fkdai_decode_grid later = fkdai_decode_make_grid(&cases[i].request, 13, 108);
        assert_true(hopper.shape == cases[i].shape && hopper.is_early == cases[i].is_early);
        assert_int_equal(ampere.shape, cases[i].shape == FKDAI_DECODE_CHUNK_HALF ? FKDAI_DECODE_CHUNK : cases[i].shape);
        assert_true(!ampere.is_early && !ampere.is_programmatic);
        assert_memory_equal(&later, &ampere, sizeof later);    /* its PTX is that of compute_80 */
    }
}

/* Blocks that stay: on Hopper, where each has some states. */
static void test_blocks_that_stay(void **unused)
{
    (void)unused;
    for (int i = 0; i < 4; ++i) {
        fkdai_decode_request request = {.N = 165, .HV = 4, .S = 6, .is_read_only = i % 2, .writes_last = !(i % 2), .is_bf16_state = i / 2, .has_plain_input = 1};
        const fkdai_decode_grid hopper = fkdai_decode_make_grid(&request, 9, 132);
        assert_true(hopper.shape == FKDAI_DECODE_PERSISTENT && hopper.is_early && hopper.blocks == 132 && hopper.states == 660);
        assert_true(!fkdai_decode_make_grid(&request, 9, 133).is_early);
        assert_int_equal(fkdai_decode_make_grid(&request, 9, 133).shape, FKDAI_DECODE_CHUNK);
        assert_int_equal(fkdai_decode_make_grid(&request, 8, 108).shape, FKDAI_DECODE_CHUNK);
        assert_int_equal(fkdai_decode_make_grid(&request, 10, 132).shape, FKDAI_DECODE_CHUNK);
        assert_int_equal(fkdai_decode_make_grid(&request, 13, 132).shape, FKDAI_DECODE_CHUNK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals_name_field_and_rule), cmocka_unit_test(test_addresses), cmocka_unit_test(test_everything_reaches_the_launcher),
        cmocka_unit_test(test_commits_reach_the_launcher),
        cmocka_unit_test(test_machines), cmocka_unit_test(test_calls_of_a_call), cmocka_unit_test(test_grids), cmocka_unit_test(test_shapes), cmocka_unit_test(test_blocks_that_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

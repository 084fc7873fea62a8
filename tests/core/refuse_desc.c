/* Rules on a desc. */
#include "good_call.h"

#include <math.h>

#include "refusals_suite.h"

void test_good_calls_work(void **state)
{
    (void)state;
    CALL_WORKS(good_dense(), (void)c);
    CALL_WORKS(good_packed(), (void)c);
    CALL_WORKS(good_dense(), c.desc.N = GOOD_B);
    CALL_WORKS(good_dense(), c.desc.scale = 0);
    CALL_WORKS(good_dense(), c.desc.lower_bound = 0);
    CALL_WORKS(good_dense(), c.desc.lower_bound = -0.0f);
    CALL_WORKS(good_dense(), c.desc.gate = FKDA_GATE_SOFTPLUS; c.desc.lower_bound = NAN);
    CALL_WORKS(good_dense(), c.desc.beta_multiplier = 2);
    CALL_WORKS(good_dense(), c.desc.threads = 1000000);
    CALL_WORKS(good_dense(), c.desc.device = 7);                                      /* host memory: unused */
    CALL_WORKS(good_dense(), c.desc.flags = FKDA_FLAG_CHECK_SEQLENS);
    CALL_WORKS(good_dense(), c.desc.checkpoints.layout = (fkda_state_layout)99);      /* absent: not read */
    CALL_WORKS(good_dense(), c.desc.checkpoints.slot_count = -1);
}

/* A caller's struct of a later version: the fields that this library does not know lie behind those that it does. */
enum { LARGEST = 4096 };
typedef struct later_desc { fkda_fwd_desc known; uint64_t unknown[(LARGEST - sizeof(fkda_fwd_desc)) / 8]; } later_desc;
typedef struct later_args { fkda_fwd_args known; uint64_t unknown[(LARGEST - sizeof(fkda_fwd_args)) / 8]; } later_args;

static void expect_later(const later_desc *d, const later_args *a, fkda_status status, const char *fragment)
{
    const good_call c = good_dense();
    const fkda_status got = fkda_fwd(&d->known, &a->known, c.workspace, c.workspace_bytes, NULL);
    if (got != status || (status != FKDA_OK && strstr(fkda_last_error(), fragment) == NULL)) fail_msg("%s: %s", fkda_status_name(got), fkda_last_error());
    if (status == FKDA_OK) return;
    for (size_t i = 0; i < GOOD_OUT_BYTES; ++i) assert_int_equal(((const unsigned char *)c.args.out)[i], 0xa5);
}

void test_struct_sizes(void **state)
{
    (void)state;
    static const size_t wrong[] = {0, 1, sizeof(fkda_fwd_desc) - 8, sizeof(fkda_fwd_desc) - 1, sizeof(fkda_fwd_desc) + 4, LARGEST + 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i)
        DESC_REFUSED(good_dense(), FKDA_ERR_STRUCT_SIZE, "desc.struct_size", c.desc.struct_size = wrong[i]);
    static const size_t wrong_args[] = {0, 1, sizeof(fkda_fwd_args) - 8, sizeof(fkda_fwd_args) - 1, sizeof(fkda_fwd_args) + 4, LARGEST + 8, SIZE_MAX};
    for (size_t i = 0; i < sizeof wrong_args / sizeof *wrong_args; ++i)
        CALL_REFUSED(good_dense(), FKDA_ERR_STRUCT_SIZE, "args.struct_size", c.args.struct_size = wrong_args[i]);

    const good_call c = good_dense();
    later_desc d = {.known = c.desc};
    later_args a = {.known = c.args};
    static const size_t more[] = {8, 16, 1000};
    for (size_t i = 0; i < sizeof more / sizeof *more; ++i) {
        d.known.struct_size = sizeof d.known + more[i], a.known.struct_size = sizeof a.known + more[i];
        expect_later(&d, &a, FKDA_OK, "");
        d.unknown[more[i] / 8] = a.unknown[more[i] / 8] = 1;    /* behind the caller's struct: not read */
        expect_later(&d, &a, FKDA_OK, "");
        d.unknown[more[i] / 8] = a.unknown[more[i] / 8] = 0;
        d.unknown[more[i] / 8 - 1] = UINT64_C(1) << 63;
        expect_later(&d, &a, FKDA_ERR_STRUCT_SIZE, "but this library knows fkda_fwd_desc up to byte ");
        d.unknown[more[i] / 8 - 1] = 0, a.unknown[0] = 1;
        expect_later(&d, &a, FKDA_ERR_STRUCT_SIZE, "is not 0, but this library knows fkda_fwd_args up to byte ");
        a.unknown[0] = 0;
    }
    d.known.struct_size = a.known.struct_size = LARGEST;
    expect_later(&d, &a, FKDA_OK, "");
}

void test_enums_and_numbers(void **state)
{
    (void)state;
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.backend = 4", c.desc.backend = (fkda_backend)4);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.backend = -1", c.desc.backend = (fkda_backend)-1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.memory = 2", c.desc.memory = (fkda_memory)2);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.device = -1", c.desc.device = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.threads = -1", c.desc.threads = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.flags = 0x4", c.desc.flags = 4);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.flags = 0x80000002", c.desc.flags = 0x80000002u);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.reserved = 1", c.desc.reserved = 1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.gate = 3", c.desc.gate = (fkda_gate)3);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.beta_kind = 2", c.desc.beta_kind = (fkda_beta)2);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.beta_multiplier = 3", c.desc.beta_multiplier = 3);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.beta_multiplier = -1", c.desc.beta_multiplier = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.qk_norm = 2", c.desc.qk_norm = (fkda_qk_norm)2);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.initial_state.layout = 2", c.desc.initial_state.layout = (fkda_state_layout)2);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.final_state.layout = -1", c.desc.final_state.layout = (fkda_state_layout)-1);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.final_state.slot_null = 3",
                 c.desc.final_state.slot_count = 9; c.desc.final_state.slot_dtype = FKDA_I32; c.desc.final_state.slot_null = (fkda_slot_null)3);

    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.scale = nan", c.desc.scale = NAN);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.scale = inf", c.desc.scale = INFINITY);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.scale = -inf", c.desc.scale = -INFINITY);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.lower_bound = nan", c.desc.lower_bound = NAN);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.lower_bound = 1e-30 is outside [-5, 0]", c.desc.lower_bound = 1e-30f);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "is outside [-5, 0]", c.desc.lower_bound = nextafterf(-5, -6));
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.lower_bound = -inf", c.desc.lower_bound = -INFINITY);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "must be absent with a precomputed gate", c.desc.gate = FKDA_GATE_PRECOMPUTED; c.desc.A_log = FKDA_NONE);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "must be absent with a precomputed gate", c.desc.gate = FKDA_GATE_PRECOMPUTED; c.desc.dt_bias = FKDA_NONE);
}

void test_dtypes(void **state)
{
    (void)state;
    static const fkda_dtype not_floats[] = {FKDA_I32, FKDA_I64, (fkda_dtype)6, (fkda_dtype)-1, (fkda_dtype)1000};
    for (size_t i = 0; i < sizeof not_floats / sizeof *not_floats; ++i) {
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.q has dtype", c.desc.q.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.k has dtype", c.desc.k.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.v has dtype", c.desc.v.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.g has dtype", c.desc.g.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.beta has dtype", c.desc.beta.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.out has dtype", c.desc.out.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.A_log has dtype", c.desc.A_log = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.dt_bias has dtype", c.desc.dt_bias = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.initial_state has dtype", c.desc.initial_state.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.final_state has dtype", c.desc.final_state.dtype = not_floats[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "desc.checkpoints has dtype", c.desc.checkpoints.dtype = not_floats[i]);
    }
    static const fkda_dtype not_ints[] = {FKDA_BF16, FKDA_F32, FKDA_F16, (fkda_dtype)6};
    for (size_t i = 0; i < sizeof not_ints / sizeof *not_ints; ++i)
        DESC_REFUSED(good_packed(), FKDA_ERR_DTYPE, "desc.cu_seqlens has dtype", c.desc.cu_seqlens = not_ints[i]);
    DESC_REFUSED(good_dense(), FKDA_ERR_DTYPE, "slot indices in i32 or i64", c.desc.initial_state.slot_count = 5);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.beta.reserved = 9", c.desc.beta.reserved = 9);
    DESC_REFUSED(good_dense(), FKDA_ERR_BAD_VALUE, "desc.out.reserved = 1", c.desc.out.reserved = 1);
}

void test_shapes(void **state)
{
    (void)state;
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.B = -1", c.desc.B = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.B = -9223372036854775808", c.desc.B = INT64_MIN);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.T = -1", c.desc.T = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.H = 0", c.desc.H = 0);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.H = -2", c.desc.H = -2);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.HV = 3 is not a positive multiple of H = 2", c.desc.HV = 3);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.HV = 1 is not", c.desc.HV = 1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.HV = -4 is not", c.desc.HV = -4);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.K = 0", c.desc.K = 0);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.K = -64", c.desc.K = -64);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.V = 0", c.desc.V = 0);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.V = -1", c.desc.V = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.N = 3 differs from B = 2", c.desc.N = 3);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.N = -1", c.desc.N = -1);
    DESC_REFUSED(good_packed(), FKDA_ERR_SHAPE, "desc.N = -3", c.desc.N = -3);
    DESC_REFUSED(good_packed(), FKDA_ERR_SHAPE, "packed sequences need B = 1", c.desc.B = 2);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.initial_state.slot_count = -1", c.desc.initial_state.slot_count = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.checkpoint_every = -1", c.desc.checkpoint_every = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_SHAPE, "desc.checkpoint_count = -1", c.desc.checkpoint_count = -1);
}

void test_strides(void **state)
{
    (void)state;
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.q.head_stride = -64 is negative", c.desc.q.head_stride = -64);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.k.token_stride = -1 is negative", c.desc.k.token_stride = -1);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.v.batch_stride = -9223372036854775808", c.desc.v.batch_stride = INT64_MIN);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.g.head_stride = 63 is below the 64", c.desc.g.head_stride = 63);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.beta.token_stride = 3 is below the 4", c.desc.beta.token_stride = 3);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.out.token_stride = 255 is below the 256", c.desc.out.token_stride = 255);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.out.batch_stride = 1279 is below the 1280", c.desc.out.batch_stride = 1279);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.q.head_stride = 319 is below the 320",    /* heads outermost */
                 c.desc.q.token_stride = 64; c.desc.q.head_stride = 319; c.desc.q.batch_stride = 640);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.initial_state.row_stride = 16383 is below HV*K*V = 16384", c.desc.initial_state.row_stride = 16383);
    DESC_REFUSED(good_dense(), FKDA_ERR_STRIDE, "desc.final_state.row_stride = -16384", c.desc.final_state.row_stride = -16384);
    CALL_WORKS(good_dense(), c.desc.q.token_stride = 64; c.desc.q.head_stride = 320; c.desc.q.batch_stride = 640);
    /* along a dimension of size 1 or 0, any stride, and the row stride of a single state */
    CALL_WORKS(good_packed(), c.desc.q.batch_stride = 1);
    CALL_WORKS(good_packed(), c.desc.q.batch_stride = c.desc.out.batch_stride = -1; c.desc.beta.batch_stride = INT64_MIN);
    CALL_WORKS(good_dense(), c.desc.T = 1; c.desc.v.token_stride = INT64_MAX; c.desc.out.token_stride = -256);
    CALL_WORKS(good_dense(), c.desc.T = 0; c.desc.v.token_stride = INT64_MIN; c.desc.out.token_stride = 3);
    CALL_WORKS(good_dense(), c.desc.B = 1; c.desc.k.batch_stride = -1; c.desc.initial_state.row_stride = -1; c.desc.final_state.row_stride = 5);
}

/* No sequence, or none with a token: valid, and nothing is written. */
void test_empty_calls(void **state)
{
    (void)state;
    static const int64_t none = 0;
    const unsigned char *const out = good_dense().args.out;
    CALL_WORKS(good_dense(), c.desc.B = 0);
    CALL_WORKS(good_dense(), c.desc.B = 0; c.args.q = c.args.k = c.args.v = c.args.g = c.args.beta = c.args.out = NULL;
               c.args.initial_state = c.args.final_state = NULL);
    CALL_WORKS(good_packed(), c.desc.N = 0);
    CALL_WORKS(good_packed(), c.desc.N = c.desc.T = 0; c.args.cu_seqlens = &none; c.args.cu_seqlens_host = &none);
    for (size_t i = 0; i < GOOD_OUT_BYTES; ++i) assert_int_equal(out[i], 0xa5);
    CALL_REFUSED(good_packed(), FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = 2, but it must be 0", c.desc.N = 0; c.args.cu_seqlens = (const int64_t *)c.args.cu_seqlens + 1);
    CALL_REFUSED(good_packed(), FKDA_ERR_NULL_POINTER, "args.cu_seqlens is NULL", c.desc.N = 0; c.args.cu_seqlens = NULL);
}

void test_overflows(void **state)
{
    (void)state;
    static const int64_t huge[] = {INT64_MAX, INT64_MAX / 2, INT64_C(1) << 62, INT64_C(1) << 56};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; ++i) {
        DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.T = huge[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.B = huge[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.H = huge[i]; c.desc.HV = huge[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.K = huge[i]);
        DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.v", c.desc.V = huge[i]);
        DESC_REFUSED(good_packed(), FKDA_ERR_OVERFLOW, "desc.", c.desc.N = huge[i]);
    }
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.q.batch_stride = INT64_MAX);
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.out", c.desc.out.batch_stride = INT64_C(1) << 58);
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.out", c.desc.out.token_stride = INT64_C(1) << 57; c.desc.out.batch_stride = INT64_C(1) << 60);
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.final_state", c.desc.final_state.row_stride = INT64_MAX / 2);
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.initial_state", c.desc.initial_state.row_stride = INT64_C(1) << 57);
    DESC_REFUSED(good_dense(), FKDA_ERR_OVERFLOW, "desc.q", c.desc.B = c.desc.T = c.desc.H = c.desc.HV = INT64_C(1) << 18);
    DESC_REFUSED(good_packed(), FKDA_ERR_OVERFLOW, "desc.N = 1152921504606846975", c.desc.N = INT64_MAX / 8);
}

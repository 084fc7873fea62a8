/* The forward pass as an operation. */
#include "op_fwd.h"

#include <inttypes.h>
#include <math.h>

#include "check_states.h"
#include "dtype.h"
#include "sequences.h"
#include "status.h"
#include "validate.h"

FKDAI_ASSERT_HEAD(fkda_fwd_desc);

/* ---------------------------------------------------------------- sizes of its structs */

/* As the versions had them that published a size. Append only; a field is appended to its struct and never inserted. */
enum { DESC_0_1_0 = FKDAI_END_OF(fkda_fwd_desc, checkpoint_count), DESC_CHECKPOINTS = FKDAI_END_OF(fkda_fwd_desc, unaligned) };
enum { ARGS_0_1_0 = FKDAI_END_OF(fkda_fwd_args, device_status) };
static const size_t desc_sizes[] = {DESC_0_1_0, DESC_CHECKPOINTS};
static const size_t args_sizes[] = {ARGS_0_1_0};
_Static_assert(DESC_CHECKPOINTS == sizeof(fkda_fwd_desc), "fkda_fwd_desc has grown: append its size to desc_sizes");
_Static_assert(ARGS_0_1_0 == sizeof(fkda_fwd_args), "fkda_fwd_args has grown: append its size to args_sizes");

/* ---------------------------------------------------------------- arguments */

enum {    /* behind those with a public name */
    INITIAL_MASK = FKDA_ARG_CHECKPOINT_OFFSETS + 1, DEVICE_STATUS, CU_SEQLENS_HOST, ARGUMENT_COUNT,
    TENSOR_COUNT = FKDA_ARG_OUT + 1    /* [B,T,heads,width] */
};

#define AT(field) offsetof(fkda_fwd_args, field)
static const fkdai_argument arguments[ARGUMENT_COUNT] = {
    [FKDA_ARG_Q] = {"q", AT(q), FKDAI_READ, 0},
    [FKDA_ARG_K] = {"k", AT(k), FKDAI_READ, 0},
    [FKDA_ARG_V] = {"v", AT(v), FKDAI_READ, 0},
    [FKDA_ARG_G] = {"g", AT(g), FKDAI_READ, 0},
    [FKDA_ARG_BETA] = {"beta", AT(beta), FKDAI_READ, 0},
    [FKDA_ARG_OUT] = {"out", AT(out), FKDAI_WRITE, 0},
    [FKDA_ARG_A_LOG] = {"A_log", AT(A_log), FKDAI_READ, 0},
    [FKDA_ARG_DT_BIAS] = {"dt_bias", AT(dt_bias), FKDAI_READ, 0},
    [FKDA_ARG_CU_SEQLENS] = {"cu_seqlens", AT(cu_seqlens), FKDAI_READ, 0},
    [FKDA_ARG_INITIAL_STATE] = {"initial_state", AT(initial_state), FKDAI_READ, 0},
    [FKDA_ARG_FINAL_STATE] = {"final_state", AT(final_state), FKDAI_WRITE, 0},
    [FKDA_ARG_CHECKPOINT_STATE] = {"checkpoint_state", AT(checkpoint_state), FKDAI_WRITE, 0},
    [FKDA_ARG_INITIAL_SLOTS] = {"initial_slots", AT(initial_slots), FKDAI_READ, 0},
    [FKDA_ARG_FINAL_SLOTS] = {"final_slots", AT(final_slots), FKDAI_READ, 0},
    [FKDA_ARG_CHECKPOINT_SLOTS] = {"checkpoint_slots", AT(checkpoint_slots), FKDAI_READ, 0},
    [FKDA_ARG_CHECKPOINT_OFFSETS] = {"checkpoint_offsets", AT(checkpoint_offsets), FKDAI_READ, 0},
    [INITIAL_MASK] = {"initial_mask", AT(initial_mask), FKDAI_READ, 0},
    [DEVICE_STATUS] = {"device_status", AT(device_status), FKDAI_WRITE, 1},
    [CU_SEQLENS_HOST] = {"cu_seqlens_host", AT(cu_seqlens_host), FKDAI_READ, 1},
};
_Static_assert((int)ARGUMENT_COUNT <= (int)FKDAI_MAX_ARGUMENTS, "FKDAI_MAX_ARGUMENTS is too small");

static const size_t tensor_offsets[TENSOR_COUNT] = {
    offsetof(fkda_fwd_desc, q), offsetof(fkda_fwd_desc, k), offsetof(fkda_fwd_desc, v),
    offsetof(fkda_fwd_desc, g), offsetof(fkda_fwd_desc, beta), offsetof(fkda_fwd_desc, out),
};

const fkda_tensor_desc *fkdai_fwd_tensor(const fkda_fwd_desc *d, fkda_arg argument)
{
    return (const fkda_tensor_desc *)(const void *)((const char *)d + tensor_offsets[argument]);
}

static fkda_tensor_desc *tensor_at(fkda_fwd_desc *d, fkda_arg argument) { return (fkda_tensor_desc *)(void *)((char *)d + tensor_offsets[argument]); }

fkdai_shape fkdai_fwd_shape(const fkda_fwd_desc *d, fkda_arg argument)
{
    const int64_t heads = argument == FKDA_ARG_Q || argument == FKDA_ARG_K ? d->H : d->HV;
    const int64_t width = argument == FKDA_ARG_BETA ? 1 : argument == FKDA_ARG_V || argument == FKDA_ARG_OUT ? d->V : d->K;
    return (fkdai_shape){d->B, d->T, heads, width};
}

static fkdai_state_shape state_shape(const fkda_fwd_desc *d, int64_t rows) { return (fkdai_state_shape){rows, d->HV, d->K, d->V}; }

static int is_pool(const fkda_state_desc *s) { return s->dtype != FKDA_NONE && s->slot_count > 0; }

static int has_offsets(const fkda_fwd_desc *d) { return d->checkpoints.dtype != FKDA_NONE && d->checkpoint_every == 0; }

static fkdai_extent slots_of(const fkda_state_desc *s, int64_t count) { return fkdai_array_extent(is_pool(s) ? s->slot_dtype : FKDA_NONE, count); }

static void measure(const fkdai_desc *desc, fkdai_extent *extents)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    for (int i = 0; i < TENSOR_COUNT; ++i) extents[i] = fkdai_tensor_extent(fkdai_fwd_tensor(d, (fkda_arg)i), fkdai_fwd_shape(d, (fkda_arg)i));
    extents[FKDA_ARG_A_LOG] = fkdai_array_extent(d->A_log, d->HV);
    extents[FKDA_ARG_DT_BIAS] = fkdai_array_extent(d->dt_bias, d->HV * d->K);
    extents[FKDA_ARG_CU_SEQLENS] = fkdai_array_extent(d->cu_seqlens, d->N + 1);
    extents[FKDA_ARG_INITIAL_STATE] = fkdai_state_extent(&d->initial_state, state_shape(d, d->N));
    extents[FKDA_ARG_FINAL_STATE] = fkdai_state_extent(&d->final_state, state_shape(d, d->N));
    extents[FKDA_ARG_CHECKPOINT_STATE] = fkdai_state_extent(&d->checkpoints, state_shape(d, d->checkpoint_count));
    extents[FKDA_ARG_INITIAL_SLOTS] = slots_of(&d->initial_state, d->N);
    extents[FKDA_ARG_FINAL_SLOTS] = slots_of(&d->final_state, d->N);
    extents[FKDA_ARG_CHECKPOINT_SLOTS] = slots_of(&d->checkpoints, d->checkpoint_count);
    const int64_t has_mask = d->flags & FKDA_FLAG_INITIAL_MASK ? 1 : 0;
    extents[INITIAL_MASK] = (fkdai_extent){has_mask * d->N, has_mask};
    extents[FKDA_ARG_CHECKPOINT_OFFSETS] = has_offsets(d) ? fkdai_array_extent(d->checkpoint_offset_dtype, d->N * d->checkpoints_per_sequence)
                                                          : fkdai_array_extent(FKDA_NONE, 0);
    extents[DEVICE_STATUS] = (fkdai_extent){sizeof(uint32_t), sizeof(uint32_t)};
    extents[CU_SEQLENS_HOST] = (fkdai_extent){0, fkdai_dtype_bytes(d->cu_seqlens)};    /* on the host: it can overlap nothing */
}

/* The same rows read and written, through the same desc. */
static int may_be_in_place(const fkdai_desc *desc, int written, int read)
{
    const fkda_state_desc *const i = &desc->fwd.initial_state, *const f = &desc->fwd.final_state;
    return written == FKDA_ARG_FINAL_STATE && read == FKDA_ARG_INITIAL_STATE && i->dtype == f->dtype && i->layout == f->layout &&
           i->row_stride == f->row_stride && i->slot_count == f->slot_count && i->slot_dtype == f->slot_dtype && i->slot_null == f->slot_null;
}

static fkda_status check_values(const fkdai_desc *desc, const void *args, void *workspace)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    const fkda_fwd_args *const a = args;
    const int is_packed = d->cu_seqlens != FKDA_NONE, is_readable = d->memory == FKDA_MEMORY_HOST;
    if (is_packed && is_readable) TRY(fkdai_check_cu_seqlens(d, a->cu_seqlens, ""));
    if (is_packed && a->cu_seqlens_host != NULL) TRY(fkdai_check_cu_seqlens(d, a->cu_seqlens_host, " (read from args.cu_seqlens_host)"));
    return is_readable ? fkdai_check_states(d, a, workspace) : FKDA_OK;
}

static int64_t check_bytes(const fkdai_desc *desc) { return desc->fwd.memory == FKDA_MEMORY_HOST ? fkdai_check_states_bytes(&desc->fwd) : 0; }

/* ---------------------------------------------------------------- desc */

static fkda_status check_enums(const fkda_fwd_desc *d)
{
    REQUIRE((unsigned)d->gate <= FKDA_GATE_PRECOMPUTED, FKDA_ERR_BAD_VALUE, "desc.gate = %d is not an fkda_gate", (int)d->gate);
    REQUIRE((unsigned)d->beta_kind <= FKDA_BETA_ACTIVATED, FKDA_ERR_BAD_VALUE, "desc.beta_kind = %d is not an fkda_beta", (int)d->beta_kind);
    REQUIRE(d->beta_multiplier >= 0 && d->beta_multiplier <= 2, FKDA_ERR_BAD_VALUE, "desc.beta_multiplier = %d is not 0, 1 or 2",
            (int)d->beta_multiplier);
    REQUIRE((unsigned)d->qk_norm <= FKDA_QK_NORM_NONE, FKDA_ERR_BAD_VALUE, "desc.qk_norm = %d is not an fkda_qk_norm", (int)d->qk_norm);
    REQUIRE(d->unaligned >> FKDA_ARG_CHECKPOINT_OFFSETS <= 1, FKDA_ERR_BAD_VALUE, "desc.unaligned = 0x%x has bits of no FKDA_ARG_*",
            (unsigned)d->unaligned);
    return FKDA_OK;
}

static fkda_status check_numbers(const fkda_fwd_desc *d)
{
    REQUIRE(isfinite(d->scale), FKDA_ERR_BAD_VALUE, "desc.scale = %g is not finite", (double)d->scale);
    if (d->gate == FKDA_GATE_BOUNDED)
        REQUIRE(isgreaterequal(d->lower_bound, -5.0f) && islessequal(d->lower_bound, 0.0f), FKDA_ERR_BAD_VALUE, "desc.lower_bound = %g is outside [-5, 0]",
                (double)d->lower_bound);
    if (d->gate == FKDA_GATE_PRECOMPUTED)
        REQUIRE(d->A_log == FKDA_NONE && d->dt_bias == FKDA_NONE, FKDA_ERR_BAD_VALUE,
                "desc.A_log and desc.dt_bias must be absent with a precomputed gate");
    return FKDA_OK;
}

fkda_status fkdai_fwd_check_meaning(const fkda_fwd_desc *d)
{
    TRY(check_enums(d));
    return check_numbers(d);
}

fkda_status fkdai_fwd_check_token_dtypes(const fkda_fwd_desc *d)
{
    for (int i = 0; i < TENSOR_COUNT; ++i) TRY(fkdai_check_tensor_dtype(arguments[i].name, fkdai_fwd_tensor(d, (fkda_arg)i)));
    TRY(fkdai_check_dtype("cu_seqlens", d->cu_seqlens, FKDAI_INTS | FKDAI_ABSENT, "none, i32, i64"));
    TRY(fkdai_check_dtype("A_log", d->A_log, FKDAI_FLOATS | FKDAI_ABSENT, "none, bf16, f32"));
    return fkdai_check_dtype("dt_bias", d->dt_bias, FKDAI_FLOATS | FKDAI_ABSENT, "none, bf16, f32");
}

static fkda_status check_dtypes(const fkda_fwd_desc *d)
{
    TRY(fkdai_fwd_check_token_dtypes(d));
    TRY(fkdai_check_state_dtypes("initial_state", &d->initial_state));
    TRY(fkdai_check_state_dtypes("final_state", &d->final_state));
    TRY(fkdai_check_state_dtypes("checkpoints", &d->checkpoints));
    return fkdai_check_dtype("checkpoint_offset_dtype", d->checkpoint_offset_dtype, FKDAI_INTS, "none, i32, i64");
}

fkda_status fkdai_fwd_check_heads(const fkda_fwd_desc *d)
{
    REQUIRE(d->H >= 1, FKDA_ERR_SHAPE, "desc.H = %" PRId64 ", but it must be at least 1", d->H);
    REQUIRE(d->HV >= 1 && d->HV % d->H == 0, FKDA_ERR_SHAPE, "desc.HV = %" PRId64 " is not a positive multiple of H = %" PRId64, d->HV, d->H);
    REQUIRE(d->K >= 1, FKDA_ERR_SHAPE, "desc.K = %" PRId64 ", but it must be at least 1", d->K);
    REQUIRE(d->V >= 1, FKDA_ERR_SHAPE, "desc.V = %" PRId64 ", but it must be at least 1", d->V);
    return FKDA_OK;
}

static fkda_status check_shape(const fkda_fwd_desc *d)
{
    REQUIRE(d->B >= 0, FKDA_ERR_SHAPE, "desc.B = %" PRId64 " is negative", d->B);
    REQUIRE(d->T >= 0, FKDA_ERR_SHAPE, "desc.T = %" PRId64 " is negative", d->T);
    TRY(fkdai_fwd_check_heads(d));
    if (d->cu_seqlens == FKDA_NONE) {
        REQUIRE(d->N == d->B, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " differs from B = %" PRId64 " of a dense batch", d->N, d->B);
    } else {
        REQUIRE(d->B == 1, FKDA_ERR_SHAPE, "desc.B = %" PRId64 ", but packed sequences need B = 1", d->B);
        REQUIRE(d->N >= 0, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " is negative", d->N);
        REQUIRE(d->N < INT64_MAX / 8, FKDA_ERR_OVERFLOW, "desc.N = %" PRId64 " needs more than 2^63 bytes", d->N);
    }
    return FKDA_OK;
}

static fkda_status check_checkpoints(const fkda_fwd_desc *d)
{
    const int64_t C = d->checkpoints_per_sequence;
    int64_t rows;
    REQUIRE(d->checkpoint_every >= 0, FKDA_ERR_SHAPE, "desc.checkpoint_every = %" PRId64 " is negative", d->checkpoint_every);
    REQUIRE(d->checkpoint_count >= 0, FKDA_ERR_SHAPE, "desc.checkpoint_count = %" PRId64 " is negative", d->checkpoint_count);
    REQUIRE(C >= 0, FKDA_ERR_SHAPE, "desc.checkpoints_per_sequence = %" PRId64 " is negative", C);
    if (d->checkpoints.dtype == FKDA_NONE) return FKDA_OK;
    REQUIRE(d->checkpoint_every == 0 || C == 0, FKDA_ERR_SHAPE,
            "desc.checkpoints_per_sequence = %" PRId64 " belongs to checkpoint_offsets, which there are none of with checkpoint_every = %" PRId64, C,
            d->checkpoint_every);
    REQUIRE(!has_offsets(d) || (!__builtin_mul_overflow(d->N, C, &rows) && rows <= d->checkpoint_count), FKDA_ERR_SHAPE,
            "desc.checkpoint_count = %" PRId64 " is below N * checkpoints_per_sequence = %" PRId64 " * %" PRId64, d->checkpoint_count, d->N, C);
    return FKDA_OK;
}

/* Pools say nothing about how many indices there are. */
static fkda_status check_index_counts(const fkda_fwd_desc *d)
{
    const int has_pool = is_pool(&d->initial_state) || is_pool(&d->final_state);
    REQUIRE(!has_pool || d->N < INT64_MAX / 64, FKDA_ERR_OVERFLOW, "desc.N = %" PRId64 " slot indices need more than 2^63 bytes", d->N);
    REQUIRE(!is_pool(&d->checkpoints) || d->checkpoint_count < INT64_MAX / 64, FKDA_ERR_OVERFLOW,
            "desc.checkpoint_count = %" PRId64 " slot indices need more than 2^63 bytes", d->checkpoint_count);
    return FKDA_OK;
}

fkda_status fkdai_fwd_resolve_tokens(fkda_fwd_desc *d)
{
    for (int i = 0; i < TENSOR_COUNT; ++i) TRY(fkdai_resolve_tensor(arguments[i].name, tensor_at(d, (fkda_arg)i), fkdai_fwd_shape(d, (fkda_arg)i)));
    return FKDA_OK;
}

/* Backends may count their work in 64 bits, also where no state is stored. */
fkda_status fkdai_fwd_check_elements(const fkda_fwd_desc *d)
{
    int64_t elements;
    REQUIRE(!__builtin_mul_overflow(d->HV, d->K * d->V, &elements) && !__builtin_mul_overflow(elements, d->N, &elements), FKDA_ERR_OVERFLOW,
            "desc.N = %" PRId64 ": N*HV*K*V does not fit 63 bits", d->N);
    return FKDA_OK;
}

static fkda_status resolve_strides(fkda_fwd_desc *d)
{
    TRY(fkdai_fwd_resolve_tokens(d));
    TRY(fkdai_resolve_state("initial_state", &d->initial_state, state_shape(d, d->N)));
    TRY(fkdai_resolve_state("final_state", &d->final_state, state_shape(d, d->N)));
    TRY(fkdai_resolve_state("checkpoints", &d->checkpoints, state_shape(d, d->checkpoint_count)));
    return fkdai_fwd_check_elements(d);
}

void fkdai_fwd_fill_tokens(fkda_fwd_desc *d)
{
    if (d->HV == 0) d->HV = d->H;
    if (d->beta_multiplier == 0) d->beta_multiplier = 1;
    for (int i = 0; i < TENSOR_COUNT; ++i)
        if (tensor_at(d, (fkda_arg)i)->dtype == FKDA_NONE) tensor_at(d, (fkda_arg)i)->dtype = FKDA_BF16;
}

static void fill_scalars(fkda_fwd_desc *d)
{
    fkdai_fwd_fill_tokens(d);
    if (d->cu_seqlens == FKDA_NONE && d->N == 0) d->N = d->B;
    if (d->checkpoint_offset_dtype == FKDA_NONE) d->checkpoint_offset_dtype = FKDA_I64;
    if (has_offsets(d) && d->checkpoints_per_sequence == 0) d->checkpoints_per_sequence = 1;
}

static fkda_status resolve(fkdai_desc *desc)
{
    fkda_fwd_desc *const d = &desc->fwd;
    TRY(fkdai_fwd_check_meaning(d));
    fill_scalars(d);
    TRY(check_dtypes(d));
    TRY(check_shape(d));
    TRY(check_checkpoints(d));
    TRY(check_index_counts(d));
    return resolve_strides(d);
}

/* The dtype is there so that the structs need not change. */
fkda_status fkdai_fwd_refuse_f16(const fkda_fwd_desc *d)
{
    const fkda_dtype dtypes[] = {d->q.dtype, d->k.dtype, d->v.dtype, d->g.dtype, d->beta.dtype, d->out.dtype,
                                 d->A_log, d->dt_bias, d->initial_state.dtype, d->final_state.dtype, d->checkpoints.dtype};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; ++i)
        REQUIRE(dtypes[i] != FKDA_F16, FKDA_ERR_UNSUPPORTED, "desc: fp16 tensors are not offered yet, only bf16 and f32");
    return FKDA_OK;
}

static fkda_status refuse(const fkdai_desc *desc)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    const struct { const char *name; const fkda_state_desc *state; } pools[] = {
        {"initial_state", &d->initial_state}, {"final_state", &d->final_state}, {"checkpoints", &d->checkpoints}};
    for (size_t i = 0; i < sizeof pools / sizeof *pools; ++i)
        REQUIRE(!is_pool(pools[i].state) || pools[i].state->slot_null != FKDA_SLOT_NULL_NONE, FKDA_ERR_UNSUPPORTED,
                "desc.%s.slot_null = FKDA_SLOT_NULL_NONE is offered by decode alone", pools[i].name);
    return fkdai_fwd_refuse_f16(d);
}

static int is_empty(const fkdai_desc *desc) { return desc->fwd.N == 0; }

/* ---------------------------------------------------------------- copies */

static fkda_state_desc *state_at(fkda_fwd_desc *d, fkda_arg argument)
{
    switch ((int)argument) {
    case FKDA_ARG_INITIAL_STATE: case FKDA_ARG_INITIAL_SLOTS: return &d->initial_state;
    case FKDA_ARG_FINAL_STATE: case FKDA_ARG_FINAL_SLOTS: return &d->final_state;
    case FKDA_ARG_CHECKPOINT_STATE: case FKDA_ARG_CHECKPOINT_SLOTS: return &d->checkpoints;
    default: return NULL;
    }
}

static fkda_dtype *dtype_at(fkda_fwd_desc *d, fkda_arg argument)
{
    if ((int)argument < TENSOR_COUNT) return &tensor_at(d, argument)->dtype;
    switch ((int)argument) {
    case FKDA_ARG_A_LOG: return &d->A_log;
    case FKDA_ARG_DT_BIAS: return &d->dt_bias;
    case FKDA_ARG_CU_SEQLENS: return &d->cu_seqlens;
    case FKDA_ARG_CHECKPOINT_OFFSETS: return &d->checkpoint_offset_dtype;
    case FKDA_ARG_INITIAL_STATE: case FKDA_ARG_FINAL_STATE: case FKDA_ARG_CHECKPOINT_STATE: return &state_at(d, argument)->dtype;
    default: return &state_at(d, argument)->slot_dtype;
    }
}

fkda_status fkdai_fwd_copy(fkda_fwd_desc *d, fkda_arg argument, fkda_dtype dtype, uint32_t *copies)
{
    const char *const name = arguments[argument].name;
    fkda_state_desc *const state = state_at(d, argument);
    *copies |= 1u << argument;
    if ((int)argument < TENSOR_COUNT) {
        *tensor_at(d, argument) = (fkda_tensor_desc){.dtype = dtype};
        return fkdai_resolve_tensor(name, tensor_at(d, argument), fkdai_fwd_shape(d, argument));
    }
    *dtype_at(d, argument) = dtype;
    if (state == NULL || dtype_at(d, argument) != &state->dtype) return FKDA_OK;
    state->row_stride = 0;
    return fkdai_resolve_state(name, state, state_shape(d, state == &d->checkpoints ? d->checkpoint_count : d->N));
}

/* Half precision, and addresses between elements. A mask has bytes, which lie well anywhere. */
static fkda_status suit(fkdai_desc *desc, const void *args, uint32_t *copies)
{
    fkdai_extent extents[ARGUMENT_COUNT];
    measure(desc, extents);
    for (int i = 0; i <= FKDA_ARG_CHECKPOINT_OFFSETS; ++i) {
        if (extents[i].align == 0) continue;    /* absent */
        const fkda_dtype dtype = *dtype_at(&desc->fwd, (fkda_arg)i);
        const uintptr_t address = args == NULL ? 0 : (uintptr_t)fkdai_pointer(&fkdai_op_fwd, args, i);
        if (dtype == FKDA_F16) TRY(fkdai_fwd_copy(&desc->fwd, (fkda_arg)i, FKDA_F32, copies));
        else if (address % (uintptr_t)fkdai_dtype_bytes(dtype) != 0) TRY(fkdai_fwd_copy(&desc->fwd, (fkda_arg)i, dtype, copies));
    }
    return FKDA_OK;
}

/* ---------------------------------------------------------------- the row */

const fkdai_operation fkdai_op_fwd = {
    .id = FKDAI_OP_FWD,
    .name = "fwd",
    .desc = {"fkda_fwd_desc", desc_sizes, sizeof desc_sizes / sizeof *desc_sizes},
    .args = {"fkda_fwd_args", args_sizes, sizeof args_sizes / sizeof *args_sizes},
    .flags = FKDA_FLAG_INITIAL_MASK | FKDA_FLAG_CHECK_SEQLENS,
    .arguments = arguments,
    .argument_count = ARGUMENT_COUNT,
    .resolve = resolve,
    .refuse = refuse,
    .is_empty = is_empty,
    .measure = measure,
    .may_be_in_place = may_be_in_place,
    .check_bytes = check_bytes,
    .check_values = check_values,
    .suit = suit,
};

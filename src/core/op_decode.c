/* Decode as an operation. The rules of tokens are those of the forward pass, asked of its desc. */
#include "op_decode.h"

#include <inttypes.h>

#include "decode_states.h"
#include "dtype.h"
#include "sequences.h"
#include "status.h"
#include "validate.h"

FKDAI_ASSERT_HEAD(fkda_decode_desc);

/* ---------------------------------------------------------------- sizes of its structs */

/* As the versions had them that published a size. Append only. */
enum { DESC_FIRST = FKDAI_END_OF(fkda_decode_desc, state), DESC_COMMIT = FKDAI_END_OF(fkda_decode_desc, reserved3) };
enum { ARGS_FIRST = FKDAI_END_OF(fkda_decode_args, device_status), ARGS_COMMIT = FKDAI_END_OF(fkda_decode_args, parent) };
static const size_t desc_sizes[] = {DESC_FIRST, DESC_COMMIT};
static const size_t args_sizes[] = {ARGS_FIRST, ARGS_COMMIT};
_Static_assert(DESC_COMMIT == sizeof(fkda_decode_desc), "fkda_decode_desc has grown: append its size to desc_sizes");
_Static_assert(ARGS_COMMIT == sizeof(fkda_decode_args), "fkda_decode_args has grown: append its size to args_sizes");

/* ---------------------------------------------------------------- arguments */

enum {    /* behind those that have the numbers of FKDA_ARG_* */
    STATE = FKDA_ARG_CU_SEQLENS + 1, SLOTS, INITIAL_MASK, DEVICE_STATUS, NUM_ACCEPTED, STEP_STATES, PARENT, ARGUMENT_COUNT,
    TENSOR_COUNT = FKDA_ARG_OUT + 1    /* [B,T,heads,width] */
};

#define AT(field) offsetof(fkda_decode_args, field)
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
    [STATE] = {"state", AT(state), FKDAI_WRITE, 0},
    [SLOTS] = {"slots", AT(slots), FKDAI_READ, 0},
    [INITIAL_MASK] = {"initial_mask", AT(initial_mask), FKDAI_READ, 0},
    [DEVICE_STATUS] = {"device_status", AT(device_status), FKDAI_WRITE, 1},
    [NUM_ACCEPTED] = {"num_accepted", AT(num_accepted), FKDAI_READ, 0},
    [STEP_STATES] = {"step_states", AT(step_states), FKDAI_WRITE, 0},
    [PARENT] = {"parent", AT(parent), FKDAI_READ, 0},
};
_Static_assert((int)ARGUMENT_COUNT <= (int)FKDAI_MAX_ARGUMENTS, "FKDAI_MAX_ARGUMENTS is too small");

static int is_packed(const fkda_decode_desc *d) { return d->cu_seqlens != FKDA_NONE; }
static int is_pool(const fkda_decode_desc *d) { return d->state.slot_count > 0; }
static int has_each(const fkda_decode_desc *d) { return d->commit == FKDA_COMMIT_EACH; }
static int has_steps(const fkda_decode_desc *d) { return d->step_states.dtype != FKDA_NONE; }
static fkdai_state_shape state_shape(const fkda_decode_desc *d) { return (fkdai_state_shape){d->N, d->HV, d->K, d->V}; }
static fkdai_state_shape step_shape(const fkda_decode_desc *d)
{
    return (fkdai_state_shape){d->N * d->step_states_per_sequence, d->HV, d->K, d->V};
}

/* Elements of an array of N rows, `stride` apart. */
static int64_t elements(int64_t N, int64_t stride, int64_t of_row) { return N == 0 ? 0 : (N - 1) * stride + of_row; }

static void measure_arrays(const fkda_decode_desc *d, fkdai_extent *extents)
{
    const int64_t slots = has_each(d) ? elements(d->N, d->slots_stride, d->slots_per_sequence) : d->N;
    extents[SLOTS] = fkdai_array_extent(is_pool(d) ? d->state.slot_dtype : FKDA_NONE, slots);
    const int64_t has_mask = d->flags & FKDA_FLAG_INITIAL_MASK ? 1 : 0;
    extents[INITIAL_MASK] = (fkdai_extent){has_mask * d->N, has_mask};
    extents[DEVICE_STATUS] = (fkdai_extent){sizeof(uint32_t), sizeof(uint32_t)};
    extents[NUM_ACCEPTED] = fkdai_array_extent(d->num_accepted, d->N);
    extents[PARENT] = fkdai_array_extent(d->parent, d->parent == FKDA_NONE ? 0 : elements(d->N, d->parent_stride, d->S));
}

static void measure(const fkdai_desc *desc, fkdai_extent *extents)
{
    const fkda_decode_desc *const d = &desc->decode;
    fkda_fwd_desc f;
    fkdai_decode_as_fwd(d, &f);
    for (int i = 0; i < TENSOR_COUNT; ++i) extents[i] = fkdai_tensor_extent(fkdai_fwd_tensor(&f, (fkda_arg)i), fkdai_fwd_shape(&f, (fkda_arg)i));
    extents[FKDA_ARG_A_LOG] = fkdai_array_extent(d->A_log, d->HV);
    extents[FKDA_ARG_DT_BIAS] = fkdai_array_extent(d->dt_bias, d->HV * d->K);
    extents[FKDA_ARG_CU_SEQLENS] = fkdai_array_extent(d->cu_seqlens, d->N + 1);
    extents[STATE] = fkdai_state_extent(&d->state, state_shape(d));
    extents[STEP_STATES] = has_steps(d) ? fkdai_state_extent(&d->step_states, step_shape(d)) : (fkdai_extent){0, 0};
    if (d->flags & FKDA_FLAG_NO_OUT) extents[FKDA_ARG_Q] = extents[FKDA_ARG_OUT] = (fkdai_extent){0, 0};
    measure_arrays(d, extents);
}

static int may_be_in_place(const fkdai_desc *desc, int written, int read)
{
    (void)desc, (void)written, (void)read;
    return 0;    /* the state is one argument */
}

static fkda_status check_lengths(const fkda_decode_desc *d, const void *cu_seqlens)
{
    for (int64_t n = 0; n < d->N; ++n) {
        const int64_t begin = fkdai_load_index(cu_seqlens, d->cu_seqlens, n), end = fkdai_load_index(cu_seqlens, d->cu_seqlens, n + 1);
        REQUIRE(end - begin <= d->S, FKDA_ERR_CU_SEQLENS, "cu_seqlens[%" PRId64 "] = %" PRId64 " gives sequence %" PRId64 " %" PRId64
                " tokens, but desc.S = %" PRId64, n + 1, end, n, end - begin, d->S);
    }
    return FKDA_OK;
}

static fkda_status check_values(const fkdai_desc *desc, const void *args, void *workspace)
{
    const fkda_decode_desc *const d = &desc->decode;
    const fkda_decode_args *const a = args;
    fkda_fwd_desc f;
    if (d->memory != FKDA_MEMORY_HOST) return FKDA_OK;
    fkdai_decode_as_fwd(d, &f);
    if (is_packed(d)) TRY(fkdai_check_cu_seqlens(&f, a->cu_seqlens, ""));
    if (is_packed(d)) TRY(check_lengths(d, a->cu_seqlens));
    return fkdai_check_decode(d, a, workspace);
}

static int64_t check_bytes(const fkdai_desc *desc)
{
    return desc->decode.memory == FKDA_MEMORY_HOST ? fkdai_check_decode_bytes(&desc->decode) : 0;
}

/* ---------------------------------------------------------------- desc */

static fkda_status check_counts(const fkda_decode_desc *d)
{
    REQUIRE(d->reserved2 == 0, FKDA_ERR_BAD_VALUE, "desc.reserved2 = %u, but it must be 0", (unsigned)d->reserved2);
    REQUIRE(d->N >= 0, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " is negative", d->N);
    REQUIRE(d->N < INT64_MAX / 64, FKDA_ERR_OVERFLOW, "desc.N = %" PRId64 " needs more than 2^63 bytes", d->N);
    REQUIRE(d->S >= 1 && d->S <= FKDA_DECODE_MAX_TOKENS, FKDA_ERR_SHAPE, "desc.S = %" PRId64 " is outside [1, %d]", d->S, FKDA_DECODE_MAX_TOKENS);
    REQUIRE(!(d->flags & FKDA_FLAG_NO_OUT) || !(d->flags & FKDA_FLAG_NULL_IS_PADDING), FKDA_ERR_BAD_VALUE,
            "desc.flags has FKDA_FLAG_NULL_IS_PADDING and FKDA_FLAG_NO_OUT, but padding is what out shows of it");
    REQUIRE(d->T >= 0, FKDA_ERR_SHAPE, "desc.T = %" PRId64 " is negative", d->T);
    REQUIRE(is_packed(d) || d->T == 0 || d->T == d->S, FKDA_ERR_SHAPE, "desc.T = %" PRId64 " is neither 0 nor S = %" PRId64 " of a dense batch", d->T,
            d->S);
    return FKDA_OK;
}

static fkda_status check_state(const fkda_decode_desc *d)
{
    REQUIRE(d->state.dtype != FKDA_NONE, FKDA_ERR_DTYPE, "desc.state has dtype 0; it takes bf16, f32");
    return fkdai_check_state_dtypes("state", &d->state);
}

/* ---------------------------------------------------------------- which states are written */

static fkda_status check_commit(const fkda_decode_desc *d)
{
    REQUIRE((unsigned)d->commit <= FKDA_COMMIT_EACH, FKDA_ERR_BAD_VALUE, "desc.commit = %d is not an fkda_commit", (int)d->commit);
    REQUIRE(d->reserved3 == 0, FKDA_ERR_BAD_VALUE, "desc.reserved3 = %u, but it must be 0", (unsigned)d->reserved3);
    REQUIRE(!has_each(d) || is_pool(d), FKDA_ERR_SHAPE, "desc.state.slot_count = 0, but commit EACH writes to slots of a pool");
    if (d->commit == FKDA_COMMIT_ACCEPTED) return fkdai_check_dtype("num_accepted", d->num_accepted, FKDAI_INTS, "i32, i64");
    if (has_each(d)) return fkdai_check_dtype("num_accepted", d->num_accepted, FKDAI_INTS | FKDAI_ABSENT, "none, i32, i64");
    REQUIRE(d->num_accepted == FKDA_NONE, FKDA_ERR_BAD_VALUE, "desc.num_accepted has dtype %d, but commit %s reads none", (int)d->num_accepted,
            d->commit == FKDA_COMMIT_NONE ? "NONE" : "LAST");
    return FKDA_OK;
}

static fkda_status check_steps(const fkda_decode_desc *d)
{
    const fkda_state_desc *const s = &d->step_states;
    TRY(fkdai_check_state_dtypes("step_states", s));
    TRY(fkdai_check_dtype("parent", d->parent, FKDAI_INTS | FKDAI_ABSENT, "none, i32, i64"));
    REQUIRE(!(d->flags & FKDA_FLAG_NO_OUT) || d->commit != FKDA_COMMIT_NONE || has_steps(d), FKDA_ERR_BAD_VALUE,
            "desc.flags has FKDA_FLAG_NO_OUT and commit is NONE: without step_states nothing would be written");
    if (d->parent != FKDA_NONE)
        REQUIRE(has_steps(d) && d->commit == FKDA_COMMIT_NONE, FKDA_ERR_BAD_VALUE, "desc.parent has dtype %d, but a tree needs %s", (int)d->parent,
                has_steps(d) ? "commit NONE" : "step_states");
    if (!has_steps(d)) return FKDA_OK;
    REQUIRE(!has_each(d), FKDA_ERR_BAD_VALUE, "desc.step_states has dtype %d, but commit EACH writes these states to slots", (int)s->dtype);
    REQUIRE(s->slot_count == 0, FKDA_ERR_BAD_VALUE, "desc.step_states.slot_count = %" PRId64 ", but step states are dense", s->slot_count);
    REQUIRE(s->layout == d->state.layout, FKDA_ERR_BAD_VALUE, "desc.step_states.layout = %d differs from desc.state.layout = %d", (int)s->layout,
            (int)d->state.layout);
    return FKDA_OK;
}

/* Rows of an array: a default, room for what is in them, and a size of all that fits. */
static fkda_status resolve_rows(const char *name, int64_t N, int64_t least, int64_t *row)
{
    if (*row == 0) *row = least;
    REQUIRE(*row >= least, FKDA_ERR_SHAPE, "desc.%s = %" PRId64 " is below %" PRId64, name, *row, least);
    REQUIRE(*row <= INT64_MAX / 64 / (N > 0 ? N : 1), FKDA_ERR_OVERFLOW, "desc.%s = %" PRId64 " needs more than 2^63 bytes", name, *row);
    return FKDA_OK;
}

static fkda_status resolve_commit(fkda_decode_desc *d)
{
    if (has_each(d)) {
        TRY(resolve_rows("slots_per_sequence", d->N, d->S, &d->slots_per_sequence));
        TRY(resolve_rows("slots_stride", d->N, d->slots_per_sequence, &d->slots_stride));
    }
    if (d->parent != FKDA_NONE) TRY(resolve_rows("parent_stride", d->N, d->S, &d->parent_stride));
    if (!has_steps(d)) return FKDA_OK;
    TRY(resolve_rows("step_states_per_sequence", d->N, d->S, &d->step_states_per_sequence));
    return fkdai_resolve_state("step_states", &d->step_states, step_shape(d));
}

/* The fields that resolving a forward pass fills in. */
static void take_resolved(const fkda_fwd_desc *f, fkda_decode_desc *d)
{
    d->HV = f->HV, d->beta_multiplier = f->beta_multiplier;
    d->q = f->q, d->k = f->k, d->v = f->v, d->g = f->g, d->beta = f->beta, d->out = f->out;
}

static fkda_status resolve(fkdai_desc *desc)
{
    fkda_decode_desc *const d = &desc->decode;
    fkda_fwd_desc f;
    fkdai_decode_as_fwd(d, &f);
    TRY(fkdai_fwd_check_meaning(&f));
    fkdai_fwd_fill_tokens(&f);
    TRY(fkdai_fwd_check_token_dtypes(&f));
    TRY(check_state(d));
    TRY(check_counts(d));
    TRY(check_commit(d));
    TRY(check_steps(d));
    TRY(fkdai_fwd_check_heads(&f));
    TRY(fkdai_fwd_resolve_tokens(&f));
    take_resolved(&f, d);
    if (!is_packed(d)) d->T = d->S;
    TRY(fkdai_resolve_state("state", &d->state, state_shape(d)));
    TRY(resolve_commit(d));
    return fkdai_fwd_check_elements(&f);
}

static fkda_status refuse(const fkdai_desc *desc)
{
    fkda_fwd_desc f;
    fkdai_decode_as_fwd(&desc->decode, &f);
    f.checkpoints.dtype = desc->decode.step_states.dtype;
    return fkdai_fwd_refuse_f16(&f);
}

static int is_empty(const fkdai_desc *desc) { return desc->decode.N == 0; }

/* ---------------------------------------------------------------- as a forward pass */

void fkdai_decode_as_fwd(const fkda_decode_desc *d, fkda_fwd_desc *f)
{
    *f = (fkda_fwd_desc){
        .struct_size = sizeof *f, .backend = d->backend, .memory = d->memory, .device = d->device, .threads = d->threads, .flags = d->flags,
        .B = is_packed(d) ? 1 : d->N, .T = is_packed(d) ? d->T : d->S, .N = d->N, .H = d->H, .HV = d->HV, .K = d->K, .V = d->V,
        .q = d->q, .k = d->k, .v = d->v, .g = d->g, .beta = d->beta, .out = d->out,
        .cu_seqlens = d->cu_seqlens, .A_log = d->A_log, .dt_bias = d->dt_bias, .gate = d->gate, .lower_bound = d->lower_bound,
        .beta_kind = d->beta_kind, .beta_multiplier = d->beta_multiplier, .qk_norm = d->qk_norm, .scale = d->scale,
        .initial_state = d->state, .final_state = d->state,
    };
}

void fkdai_decode_args_as_fwd(const fkda_decode_args *a, fkda_fwd_args *f)
{
    *f = (fkda_fwd_args){
        .struct_size = sizeof *f, .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .cu_seqlens = a->cu_seqlens, .initial_state = a->state, .final_state = a->state, .initial_slots = a->slots,
        .final_slots = a->slots, .initial_mask = a->initial_mask, .device_status = a->device_status,
    };
}

/* ---------------------------------------------------------------- the row */

const fkdai_operation fkdai_op_decode = {
    .id = FKDAI_OP_DECODE,
    .name = "decode",
    .desc = {"fkda_decode_desc", desc_sizes, sizeof desc_sizes / sizeof *desc_sizes},
    .args = {"fkda_decode_args", args_sizes, sizeof args_sizes / sizeof *args_sizes},
    .flags = FKDA_FLAG_INITIAL_MASK | FKDA_FLAG_NO_OUT | FKDA_FLAG_NULL_IS_PADDING,
    .arguments = arguments,
    .argument_count = ARGUMENT_COUNT,
    .resolve = resolve,
    .refuse = refuse,
    .is_empty = is_empty,
    .measure = measure,
    .may_be_in_place = may_be_in_place,
    .check_bytes = check_bytes,
    .check_values = check_values,
};

/* Decode with convolution and gated norm as an operation. The rules of tokens are those of the forward pass, asked of its desc. */
#include "op_decode_fused.h"

#include <inttypes.h>
#include <math.h>

#include "decode_states.h"
#include "dtype.h"
#include "status.h"
#include "validate.h"

FKDAI_ASSERT_HEAD(fkda_decode_fused_desc);

/* ---------------------------------------------------------------- sizes of its structs */

/* As the versions had them that published a size. Append only. */
enum { DESC_FIRST = FKDAI_END_OF(fkda_decode_fused_desc, reserved2), ARGS_FIRST = FKDAI_END_OF(fkda_decode_fused_args, device_status) };
static const size_t desc_sizes[] = {DESC_FIRST};
static const size_t args_sizes[] = {ARGS_FIRST};
_Static_assert(DESC_FIRST == sizeof(fkda_decode_fused_desc), "fkda_decode_fused_desc has grown: append its size to desc_sizes");
_Static_assert(ARGS_FIRST == sizeof(fkda_decode_fused_args), "fkda_decode_fused_args has grown: append its size to args_sizes");

/* ---------------------------------------------------------------- arguments */

enum {    /* behind those that have the numbers of FKDA_ARG_* */
    OUTPUT_GATE = FKDA_ARG_DT_BIAS + 1, NORM_WEIGHT, CONV_WEIGHT_Q, CONV_WEIGHT_K, CONV_WEIGHT_V, CONV_BIAS_Q, CONV_BIAS_K, CONV_BIAS_V, CONV_STATE,
    STATE, SLOTS, INITIAL_MASK, DEVICE_STATUS, ARGUMENT_COUNT,
    TENSOR_COUNT = FKDA_ARG_OUT + 1    /* [N,1,heads,width] */
};

#define AT(field) offsetof(fkda_decode_fused_args, field)
static const fkdai_argument arguments[ARGUMENT_COUNT] = {
    [FKDA_ARG_Q] = {"q", AT(q), FKDAI_READ, 0},
    [FKDA_ARG_K] = {"k", AT(k), FKDAI_READ, 0},
    [FKDA_ARG_V] = {"v", AT(v), FKDAI_READ, 0},
    [FKDA_ARG_G] = {"g", AT(g), FKDAI_READ, 0},
    [FKDA_ARG_BETA] = {"beta", AT(beta), FKDAI_READ, 0},
    [FKDA_ARG_OUT] = {"out", AT(out), FKDAI_WRITE, 0},
    [FKDA_ARG_A_LOG] = {"A_log", AT(A_log), FKDAI_READ, 0},
    [FKDA_ARG_DT_BIAS] = {"dt_bias", AT(dt_bias), FKDAI_READ, 0},
    [OUTPUT_GATE] = {"output_gate", AT(output_gate), FKDAI_READ, 0},
    [NORM_WEIGHT] = {"norm_weight", AT(norm_weight), FKDAI_READ, 0},
    [CONV_WEIGHT_Q] = {"conv_weight_q", AT(conv_weight_q), FKDAI_READ, 0},
    [CONV_WEIGHT_K] = {"conv_weight_k", AT(conv_weight_k), FKDAI_READ, 0},
    [CONV_WEIGHT_V] = {"conv_weight_v", AT(conv_weight_v), FKDAI_READ, 0},
    [CONV_BIAS_Q] = {"conv_bias_q", AT(conv_bias_q), FKDAI_READ, 0},
    [CONV_BIAS_K] = {"conv_bias_k", AT(conv_bias_k), FKDAI_READ, 0},
    [CONV_BIAS_V] = {"conv_bias_v", AT(conv_bias_v), FKDAI_READ, 0},
    [CONV_STATE] = {"conv_state", AT(conv_state), FKDAI_WRITE, 0},
    [STATE] = {"state", AT(state), FKDAI_WRITE, 0},
    [SLOTS] = {"slots", AT(slots), FKDAI_READ, 0},
    [INITIAL_MASK] = {"initial_mask", AT(initial_mask), FKDAI_READ, 0},
    [DEVICE_STATUS] = {"device_status", AT(device_status), FKDAI_WRITE, 1},
};
_Static_assert((int)ARGUMENT_COUNT <= (int)FKDAI_MAX_ARGUMENTS, "FKDAI_MAX_ARGUMENTS is too small");

static int is_pool(const fkda_decode_fused_desc *d) { return d->state.slot_count > 0; }
static fkdai_state_shape state_shape(const fkda_decode_fused_desc *d) { return (fkdai_state_shape){d->N, d->H, d->K, d->V}; }
static fkdai_shape gate_shape(const fkda_decode_fused_desc *d) { return (fkdai_shape){d->N, 1, d->H, d->V}; }
static fkdai_shape weight_shape(const fkda_decode_fused_desc *d) { return (fkdai_shape){1, FKDA_CONV_WIDTH, d->H, d->K}; }
static fkdai_shape taps_shape(const fkda_decode_fused_desc *d)
{
    return (fkdai_shape){is_pool(d) ? d->state.slot_count : d->N, FKDA_CONV_WIDTH - 1, 3 * d->H * d->K, 1};
}

static void measure_conv(const fkda_decode_fused_desc *d, fkdai_extent *extents)
{
    const fkdai_extent absent = {0, 0};
    for (int i = 0; i < 3; ++i) {
        extents[CONV_WEIGHT_Q + i] = fkdai_has_conv(d) ? fkdai_tensor_extent(&d->conv_weight, weight_shape(d)) : absent;
        extents[CONV_BIAS_Q + i] = fkdai_array_extent(d->conv_bias, d->H * d->K);
    }
    extents[CONV_STATE] = fkdai_has_conv(d) ? fkdai_tensor_extent(&d->conv_state, taps_shape(d)) : absent;
}

static void measure(const fkdai_desc *desc, fkdai_extent *extents)
{
    const fkda_decode_fused_desc *const d = &desc->decode_fused;
    fkda_fwd_desc f;
    fkdai_fused_as_fwd(d, &f);
    for (int i = 0; i < TENSOR_COUNT; ++i) extents[i] = fkdai_tensor_extent(fkdai_fwd_tensor(&f, (fkda_arg)i), fkdai_fwd_shape(&f, (fkda_arg)i));
    extents[FKDA_ARG_A_LOG] = fkdai_array_extent(d->A_log, d->H);
    extents[FKDA_ARG_DT_BIAS] = fkdai_array_extent(d->dt_bias, d->H * d->K);
    extents[OUTPUT_GATE] = fkdai_has_norm(d) ? fkdai_tensor_extent(&d->output_gate, gate_shape(d)) : (fkdai_extent){0, 0};
    extents[NORM_WEIGHT] = fkdai_array_extent(d->norm_weight, d->V);
    measure_conv(d, extents);
    extents[STATE] = fkdai_state_extent(&d->state, state_shape(d));
    extents[SLOTS] = fkdai_array_extent(is_pool(d) ? d->state.slot_dtype : FKDA_NONE, d->N);
    const int64_t has_mask = d->flags & FKDA_FLAG_INITIAL_MASK ? 1 : 0;
    extents[INITIAL_MASK] = (fkdai_extent){has_mask * d->N, has_mask};
    extents[DEVICE_STATUS] = (fkdai_extent){sizeof(uint32_t), sizeof(uint32_t)};
}

static int may_be_in_place(const fkdai_desc *desc, int written, int read)
{
    (void)desc, (void)written, (void)read;
    return 0;    /* what is changed in place is one argument */
}

/* Its slots as those of a decode call. */
static fkda_decode_desc slots_as_decode(const fkda_decode_fused_desc *d)
{
    return (fkda_decode_desc){.N = d->N, .S = 1, .state = d->state};
}

static fkda_status check_values(const fkdai_desc *desc, const void *args, void *workspace)
{
    const fkda_decode_fused_desc *const d = &desc->decode_fused;
    const fkda_decode_desc decode = slots_as_decode(d);
    const fkda_decode_args slots = {.slots = ((const fkda_decode_fused_args *)args)->slots};
    return d->memory == FKDA_MEMORY_HOST ? fkdai_check_decode(&decode, &slots, workspace) : FKDA_OK;
}

static int64_t check_bytes(const fkdai_desc *desc)
{
    const fkda_decode_desc decode = slots_as_decode(&desc->decode_fused);
    return desc->decode_fused.memory == FKDA_MEMORY_HOST ? fkdai_check_decode_bytes(&decode) : 0;
}

/* ---------------------------------------------------------------- desc */

static fkda_status check_numbers(const fkda_decode_fused_desc *d)
{
    REQUIRE(d->reserved2 == 0, FKDA_ERR_BAD_VALUE, "desc.reserved2 = %u, but it must be 0", (unsigned)d->reserved2);
    REQUIRE(!fkdai_has_norm(d) || (isnormal(d->norm_eps) && d->norm_eps > 0), FKDA_ERR_BAD_VALUE,
            "desc.norm_eps = %g is not a positive normal number, but the norm divides by its root", (double)d->norm_eps);
    REQUIRE(d->N >= 0, FKDA_ERR_SHAPE, "desc.N = %" PRId64 " is negative", d->N);
    REQUIRE(d->N < INT64_MAX / 64, FKDA_ERR_OVERFLOW, "desc.N = %" PRId64 " needs more than 2^63 bytes", d->N);
    return FKDA_OK;
}

static void fill(fkda_decode_fused_desc *d)
{
    if (d->output_gate.dtype == FKDA_NONE) d->output_gate.dtype = FKDA_BF16;
    if (d->conv_state.dtype == FKDA_NONE) d->conv_state.dtype = d->q.dtype;
}

static fkda_status check_dtypes(const fkda_decode_fused_desc *d)
{
    REQUIRE(d->state.dtype != FKDA_NONE, FKDA_ERR_DTYPE, "desc.state has dtype 0; it takes bf16, f32");
    TRY(fkdai_check_state_dtypes("state", &d->state));
    TRY(fkdai_check_tensor_dtype("output_gate", &d->output_gate));
    TRY(fkdai_check_dtype("norm_weight", d->norm_weight, FKDAI_FLOATS | FKDAI_ABSENT, "none, bf16, f32"));
    TRY(fkdai_check_dtype("conv_bias", d->conv_bias, FKDAI_FLOATS | FKDAI_ABSENT, "none, bf16, f32"));
    if (!fkdai_has_conv(d)) {
        REQUIRE(d->conv_bias == FKDA_NONE, FKDA_ERR_BAD_VALUE, "desc.conv_bias has dtype %d, but without conv_weight it must be absent", (int)d->conv_bias);
        return FKDA_OK;
    }
    TRY(fkdai_check_tensor_dtype("conv_weight", &d->conv_weight));
    TRY(fkdai_check_tensor_dtype("conv_state", &d->conv_state));
    const struct { const char *name; fkda_dtype dtype; } rows[] = {{"q", d->q.dtype}, {"k", d->k.dtype}, {"v", d->v.dtype}};
    for (int i = 0; i < 3; ++i)
        REQUIRE(rows[i].dtype == d->conv_state.dtype, FKDA_ERR_DTYPE, "desc.%s has dtype %d, but desc.conv_state, which takes its elements as they are, "
                "has dtype %d", rows[i].name, (int)rows[i].dtype, (int)d->conv_state.dtype);
    return FKDA_OK;
}

static fkda_status check_widths(const fkda_decode_fused_desc *d)
{
    int64_t channels;
    if (!fkdai_has_conv(d)) return FKDA_OK;
    REQUIRE(d->V == d->K, FKDA_ERR_SHAPE, "desc.V = %" PRId64 " differs from K = %" PRId64 ", but the convolution takes one width", d->V, d->K);
    REQUIRE(!__builtin_mul_overflow(d->H, d->K, &channels) && channels < INT64_MAX / 64, FKDA_ERR_OVERFLOW, "desc.H = %" PRId64
            ": 3*H*K channels do not fit 63 bits", d->H);
    return FKDA_OK;
}

/* The fields that resolving a forward pass fills in. */
static void take_resolved(const fkda_fwd_desc *f, fkda_decode_fused_desc *d)
{
    d->beta_multiplier = f->beta_multiplier;
    d->q = f->q, d->k = f->k, d->v = f->v, d->g = f->g, d->beta = f->beta, d->out = f->out;
}

static fkda_status resolve_more(fkda_decode_fused_desc *d)
{
    if (fkdai_has_norm(d)) TRY(fkdai_resolve_tensor("output_gate", &d->output_gate, gate_shape(d)));
    if (fkdai_has_conv(d)) TRY(fkdai_resolve_tensor("conv_weight", &d->conv_weight, weight_shape(d)));
    if (fkdai_has_conv(d)) TRY(fkdai_resolve_tensor("conv_state", &d->conv_state, taps_shape(d)));
    return fkdai_resolve_state("state", &d->state, state_shape(d));
}

static fkda_status resolve(fkdai_desc *desc)
{
    fkda_decode_fused_desc *const d = &desc->decode_fused;
    fkda_fwd_desc f;
    fkdai_fused_as_fwd(d, &f);
    TRY(fkdai_fwd_check_meaning(&f));
    fkdai_fwd_fill_tokens(&f);
    TRY(fkdai_fwd_check_token_dtypes(&f));
    take_resolved(&f, d);
    fill(d);
    TRY(check_dtypes(d));
    TRY(check_numbers(d));
    TRY(fkdai_fwd_check_heads(&f));
    TRY(check_widths(d));
    TRY(fkdai_fwd_resolve_tokens(&f));
    take_resolved(&f, d);
    TRY(resolve_more(d));
    return fkdai_fwd_check_elements(&f);
}

static fkda_status refuse(const fkdai_desc *desc)
{
    const fkda_decode_fused_desc *const d = &desc->decode_fused;
    fkda_fwd_desc f;
    fkdai_fused_as_fwd(d, &f);
    TRY(fkdai_fwd_refuse_f16(&f));
    f.q.dtype = d->conv_weight.dtype, f.k.dtype = d->conv_bias, f.v.dtype = d->norm_weight, f.g.dtype = d->output_gate.dtype;
    return fkdai_fwd_refuse_f16(&f);
}

static int is_empty(const fkdai_desc *desc) { return desc->decode_fused.N == 0; }

/* ---------------------------------------------------------------- as a forward pass */

void fkdai_fused_as_fwd(const fkda_decode_fused_desc *d, fkda_fwd_desc *f)
{
    *f = (fkda_fwd_desc){
        .struct_size = sizeof *f, .backend = d->backend, .memory = d->memory, .device = d->device, .threads = d->threads, .flags = d->flags,
        .B = d->N, .T = 1, .N = d->N, .H = d->H, .HV = d->H, .K = d->K, .V = d->V, .q = d->q, .k = d->k, .v = d->v, .g = d->g, .beta = d->beta,
        .out = d->out, .A_log = d->A_log, .dt_bias = d->dt_bias, .gate = d->gate, .lower_bound = d->lower_bound, .beta_kind = d->beta_kind,
        .beta_multiplier = d->beta_multiplier, .qk_norm = d->qk_norm, .scale = d->scale, .initial_state = d->state, .final_state = d->state,
    };
}

void fkdai_fused_args_as_fwd(const fkda_decode_fused_args *a, fkda_fwd_args *f)
{
    *f = (fkda_fwd_args){
        .struct_size = sizeof *f, .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .initial_state = a->state, .final_state = a->state, .initial_slots = a->slots, .final_slots = a->slots,
        .initial_mask = a->initial_mask, .device_status = a->device_status,
    };
}

/* ---------------------------------------------------------------- the row */

const fkdai_operation fkdai_op_decode_fused = {
    .id = FKDAI_OP_DECODE_FUSED,
    .name = "decode_fused",
    .desc = {"fkda_decode_fused_desc", desc_sizes, sizeof desc_sizes / sizeof *desc_sizes},
    .args = {"fkda_decode_fused_args", args_sizes, sizeof args_sizes / sizeof *args_sizes},
    .flags = FKDA_FLAG_INITIAL_MASK,
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

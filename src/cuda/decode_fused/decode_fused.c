/* The kernel as the backend sees it: what it takes, and from a public call to a launch. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cuda_kernel.h"
#include "decode_fused/decode_fused_launch.h"
#include "op_decode_fused.h"
#include "status.h"

_Static_assert((int)FKDAI_FUSED_SLOT_BROKEN == (int)FKDA_DEVICE_SLOT_BROKEN, "one bit, two names");
_Static_assert((int)FKDAI_FUSED_BOUNDED == (int)FKDA_GATE_BOUNDED && (int)FKDAI_FUSED_SOFTPLUS == (int)FKDA_GATE_SOFTPLUS &&
               (int)FKDAI_FUSED_PRECOMPUTED == (int)FKDA_GATE_PRECOMPUTED, "one gate, two names");
_Static_assert(FKDA_CONV_WIDTH == 4, "the kernel has three taps and the newest input");
_Static_assert(sizeof(fkdai_fused_grid) <= sizeof(fkdai_cuda_kernel_plan), "fkdai_cuda_kernel_plan is too small");

#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, __VA_ARGS__)

enum { FOUR = 4, STATE_BYTES = 16 };    /* elements and bytes that are moved at once */

/* As machine code, or as PTX of compute_80 (CMakeLists.txt). */
static int runs_on(const fkdai_cuda_device *device) { return device->major >= 8; }

/* ---------------------------------------------------------------- what it takes */

static fkda_status check_fours(const char *name, const fkda_tensor_desc *t, const fkda_decode_fused_desc *d)
{
    REFUSE_UNLESS(d->N <= 1 || t->batch_stride % FOUR == 0, "%s.batch_stride = %" PRId64 " is not a multiple of %d elements", name, t->batch_stride, FOUR);
    REFUSE_UNLESS(d->H <= 1 || t->head_stride % FOUR == 0, "%s.head_stride = %" PRId64 " is not a multiple of %d elements", name, t->head_stride, FOUR);
    return FKDA_OK;
}

static fkda_status check_parts(const fkda_decode_fused_desc *d)
{
    const fkda_tensor_desc *const w = &d->conv_weight;
    if (fkdai_has_norm(d)) TRY(check_fours("output_gate", &d->output_gate, d));
    if (!fkdai_has_conv(d)) return FKDA_OK;
    REFUSE_UNLESS(w->token_stride % FOUR == 0, "conv_weight.token_stride = %" PRId64 " is not a multiple of %d elements", w->token_stride, FOUR);
    REFUSE_UNLESS(d->H <= 1 || w->head_stride % FOUR == 0, "conv_weight.head_stride = %" PRId64 " is not a multiple of %d elements", w->head_stride, FOUR);
    return FKDA_OK;
}

static fkda_status check_desc(const fkda_decode_fused_desc *d)
{
    REFUSE_UNLESS(d->K == 128, "K = %" PRId64 ", kernels exist for K = 128", d->K);
    REFUSE_UNLESS(d->V == 128, "V = %" PRId64 ", kernels exist for V = 128", d->V);
    REFUSE_UNLESS(d->H <= FKDAI_FUSED_MAX_STATES && d->N <= FKDAI_FUSED_MAX_STATES / d->H, "N*H = %" PRId64 " * %" PRId64 " is above 2^30", d->N, d->H);
    TRY(check_fours("q", &d->q, d));
    TRY(check_fours("k", &d->k, d));
    TRY(check_fours("v", &d->v, d));
    TRY(check_fours("g", &d->g, d));
    TRY(check_fours("out", &d->out, d));
    TRY(check_parts(d));
    const int64_t unit = STATE_BYTES / (d->state.dtype == FKDA_F32 ? 4 : 2);
    REFUSE_UNLESS(d->state.row_stride % unit == 0, "state.row_stride = %" PRId64 " is not a multiple of %" PRId64 " elements (16 bytes)",
                  d->state.row_stride, unit);
    return FKDA_OK;
}

static fkda_status check_address(const char *name, const void *data, unsigned bytes)
{
    REQUIRE((uintptr_t)data % bytes == 0, FKDA_ERR_MISALIGNED, "args.%s = %p is not aligned to the %u bytes that are moved at once", name, data,
            bytes);
    return FKDA_OK;
}

static unsigned four_of(fkda_dtype dtype) { return dtype == FKDA_F32 ? 4 * FOUR : 2 * FOUR; }

static fkdai_fused_taps taps_of(const fkda_decode_fused_desc *d)
{
    return fkdai_fused_choose_taps(d->conv_state.batch_stride, d->conv_state.token_stride, d->conv_state.head_stride);
}

static fkda_status check_args(const fkdai_desc *desc, const void *args)
{
    const fkda_decode_fused_desc *const d = &desc->decode_fused;
    const fkda_decode_fused_args *const a = args;
    const int taps_in_fours = taps_of(d) != FKDAI_FUSED_TAPS_SINGLE;
    const struct { const char *name; const void *data; unsigned bytes; } all[] = {
        {"q", a->q, four_of(d->q.dtype)}, {"k", a->k, four_of(d->k.dtype)}, {"v", a->v, four_of(d->v.dtype)}, {"g", a->g, four_of(d->g.dtype)},
        {"out", a->out, four_of(d->out.dtype)}, {"dt_bias", a->dt_bias, four_of(d->dt_bias)}, {"output_gate", a->output_gate, four_of(d->output_gate.dtype)},
        {"norm_weight", a->norm_weight, four_of(d->norm_weight)}, {"conv_weight_q", a->conv_weight_q, four_of(d->conv_weight.dtype)},
        {"conv_weight_k", a->conv_weight_k, four_of(d->conv_weight.dtype)}, {"conv_weight_v", a->conv_weight_v, four_of(d->conv_weight.dtype)},
        {"conv_bias_q", a->conv_bias_q, four_of(d->conv_bias)}, {"conv_bias_k", a->conv_bias_k, four_of(d->conv_bias)},
        {"conv_bias_v", a->conv_bias_v, four_of(d->conv_bias)}, {"conv_state", a->conv_state, taps_in_fours ? four_of(d->conv_state.dtype) : 1},
        {"state", a->state, STATE_BYTES},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) TRY(check_address(all[i].name, all[i].data, all[i].bytes));
    return FKDA_OK;
}

/* ---------------------------------------------------------------- one call */

static fkda_status plan(const fkdai_cuda_device *on, fkdai_plan *plan, fkdai_cuda_kernel_plan *to)
{
    const fkda_decode_fused_desc *const d = &plan->desc.decode_fused;
    TRY(check_desc(d));
    const fkdai_fused_grid grid = fkdai_fused_make_grid(d->N, d->H, d->state.dtype == FKDA_BF16, d->state.layout == FKDA_STATE_NHKV, on->major);
    memcpy(to, &grid, sizeof grid);
    plan->workspace_bytes = 0;
    snprintf(plan->choice, sizeof plan->choice, "decode%s%s, one token, %" PRIu32 " states, one a block", fkdai_has_conv(d) ? " with convolution" : "",
             !fkdai_has_norm(d) ? "" : fkdai_has_conv(d) ? " and norm" : " with norm", grid.blocks);
    return FKDA_OK;
}

static fkdai_fused_tensor tensor(const fkda_tensor_desc *t, const void *data)
{
    return (fkdai_fused_tensor){(void *)(uintptr_t)data, t->batch_stride, t->head_stride, t->dtype == FKDA_F32};
}

static fkdai_fused_vector vector(fkda_dtype dtype, const void *data) { return (fkdai_fused_vector){data, dtype == FKDA_F32}; }

static fkdai_fused_conv conv(const fkda_decode_fused_desc *d, const fkda_decode_fused_args *a)
{
    return (fkdai_fused_conv){
        .weight = {a->conv_weight_q, a->conv_weight_k, a->conv_weight_v}, .is_weight_f32 = d->conv_weight.dtype == FKDA_F32,
        .weight_tap = d->conv_weight.token_stride, .weight_head = d->conv_weight.head_stride,
        .bias = {vector(d->conv_bias, a->conv_bias_q), vector(d->conv_bias, a->conv_bias_k), vector(d->conv_bias, a->conv_bias_v)},
        .taps = a->conv_state, .row = d->conv_state.batch_stride, .tap = d->conv_state.token_stride, .channel = d->conv_state.head_stride, .lie = taps_of(d),
    };
}

static int64_t first_slot(const fkda_state_desc *s)
{
    return s->slot_null == FKDA_SLOT_NULL_NONE ? INT64_MIN : s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE;
}

static int run(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)workspace;
    const fkda_decode_fused_desc *const d = &desc->decode_fused;
    const fkda_decode_fused_args *const a = args;
    fkdai_fused_grid grid;
    memcpy(&grid, plan, sizeof grid);
    const fkdai_fused_call call = {
        .x = {tensor(&d->q, a->q), tensor(&d->k, a->k), tensor(&d->v, a->v)}, .g = tensor(&d->g, a->g), .beta = tensor(&d->beta, a->beta),
        .out = tensor(&d->out, a->out), .output_gate = tensor(&d->output_gate, a->output_gate), .A_log = vector(d->A_log, a->A_log),
        .dt_bias = vector(d->dt_bias, a->dt_bias), .norm_weight = vector(d->norm_weight, a->norm_weight), .conv = conv(d, a), .state = a->state,
        .row_stride = d->state.row_stride, .slots = a->slots, .is_slot_i64 = d->state.slot_dtype == FKDA_I64, .slot_count = d->state.slot_count,
        .first_slot = first_slot(&d->state), .initial_mask = a->initial_mask, .device_status = a->device_status, .gate = (fkdai_fused_gate)d->gate,
        .H = (int)d->H, .is_normalised = d->qk_norm == FKDA_QK_NORM_L2, .is_beta_activated = d->beta_kind == FKDA_BETA_ACTIVATED,
        .beta_multiplier = (float)d->beta_multiplier, .lower_bound = d->lower_bound, .scale = d->scale, .norm_eps = d->norm_eps, .grid = grid,
    };
    return fkdai_decode_fused_launch(&call, stream);
}

const fkdai_cuda_kernel fkdai_decode_fused = {
    .name = "decode_fused", .architectures = "sm_80 and newer", .operation = FKDAI_OP_DECODE_FUSED,
    .runs_on = runs_on, .plan = plan, .check_args = check_args, .load = fkdai_decode_fused_load, .run = run,
};

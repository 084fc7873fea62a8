/* The decode kernel as the backend sees it: what it takes, and from a public call to a launch. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cuda_kernel.h"
#include "decode/decode_launch.h"
#include "op_decode.h"
#include "status.h"

_Static_assert((int)FKDAI_DECODE_SEQLENS_BROKEN == (int)FKDA_DEVICE_SEQLENS_BROKEN && (int)FKDAI_DECODE_SLOT_BROKEN == (int)FKDA_DEVICE_SLOT_BROKEN &&
               (int)FKDAI_DECODE_ACCEPTED_BROKEN == (int)FKDA_DEVICE_ACCEPTED_BROKEN && (int)FKDAI_DECODE_PARENT_BROKEN == (int)FKDA_DEVICE_PARENT_BROKEN,
               "one bit, two names");
_Static_assert((int)FKDAI_DECODE_LAST == (int)FKDA_COMMIT_LAST && (int)FKDAI_DECODE_NONE == (int)FKDA_COMMIT_NONE &&
               (int)FKDAI_DECODE_ACCEPTED == (int)FKDA_COMMIT_ACCEPTED && (int)FKDAI_DECODE_EACH == (int)FKDA_COMMIT_EACH, "one commit, two names");
_Static_assert((int)FKDAI_DECODE_BOUNDED == (int)FKDA_GATE_BOUNDED && (int)FKDAI_DECODE_SOFTPLUS == (int)FKDA_GATE_SOFTPLUS &&
               (int)FKDAI_DECODE_PRECOMPUTED == (int)FKDA_GATE_PRECOMPUTED, "one gate, two names");
_Static_assert((int)FKDAI_DECODE_MAX_TOKENS == (int)FKDA_DECODE_MAX_TOKENS, "one number, two names");
_Static_assert(sizeof(fkdai_decode_grid) <= sizeof(fkdai_cuda_kernel_plan), "fkdai_cuda_kernel_plan is too small");

#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, __VA_ARGS__)

enum { FOUR = 4, STATE_BYTES = 16, MOST_SLOTS = 32 };    /* elements and bytes that are moved at once; lanes that read a sequence's slots */

/* As machine code, or as PTX of compute_80 (CMakeLists.txt). */
static int runs_on(const fkdai_cuda_device *device) { return device->major >= 8; }

/* ---------------------------------------------------------------- what it takes */

static fkda_status check_fours(const char *name, const fkda_tensor_desc *t, fkdai_shape shape)
{
    const struct { const char *name; int64_t stride, size; } axes[3] = {
        {"batch", t->batch_stride, shape.B}, {"token", t->token_stride, shape.T}, {"head", t->head_stride, shape.heads}};
    for (int i = 0; i < 3; ++i)
        REFUSE_UNLESS(axes[i].size <= 1 || axes[i].stride % FOUR == 0, "%s.%s_stride = %" PRId64 " is not a multiple of %d elements", name,
                      axes[i].name, axes[i].stride, FOUR);
    return FKDA_OK;
}

static fkda_status check_rows(const char *name, const fkda_state_desc *s)
{
    const int64_t unit = STATE_BYTES / (s->dtype == FKDA_F32 ? 4 : 2);
    REFUSE_UNLESS(s->row_stride % unit == 0, "%s.row_stride = %" PRId64 " is not a multiple of %" PRId64 " elements (16 bytes)", name, s->row_stride,
                  unit);
    return FKDA_OK;
}

static fkda_status check_desc(const fkda_decode_desc *d)
{
    fkda_fwd_desc f;
    fkdai_decode_as_fwd(d, &f);
    REFUSE_UNLESS(d->K == 128, "K = %" PRId64 ", kernels exist for K = 128", d->K);
    REFUSE_UNLESS(d->V == 128, "V = %" PRId64 ", kernels exist for V = 128", d->V);
    REFUSE_UNLESS(d->HV <= FKDAI_DECODE_MAX_STATES, "HV = %" PRId64 " is above 2^27", d->HV);
    REFUSE_UNLESS(d->N <= FKDAI_DECODE_MAX_STATES / d->HV, "N*HV = %" PRId64 " * %" PRId64 " is above 2^27", d->N, d->HV);
    TRY(check_fours("q", &d->q, fkdai_fwd_shape(&f, FKDA_ARG_Q)));
    TRY(check_fours("k", &d->k, fkdai_fwd_shape(&f, FKDA_ARG_K)));
    TRY(check_fours("g", &d->g, fkdai_fwd_shape(&f, FKDA_ARG_G)));
    TRY(check_rows("state", &d->state));
    REFUSE_UNLESS(d->state.slot_count <= INT32_MAX, "state.slot_count = %" PRId64 " is above 2^31 - 1", d->state.slot_count);
    REFUSE_UNLESS(d->commit != FKDA_COMMIT_EACH || d->slots_per_sequence <= MOST_SLOTS, "slots_per_sequence = %" PRId64 " is above %d",
                  d->slots_per_sequence, MOST_SLOTS);
    return d->step_states.dtype == FKDA_NONE ? FKDA_OK : check_rows("step_states", &d->step_states);
}

static fkda_status check_address(const char *name, const void *data, unsigned bytes)
{
    REQUIRE((uintptr_t)data % bytes == 0, FKDA_ERR_MISALIGNED, "args.%s = %p is not aligned to the %u bytes that are moved at once", name, data,
            bytes);
    return FKDA_OK;
}

static unsigned four_of(fkda_dtype dtype) { return dtype == FKDA_F32 ? 4 * FOUR : 2 * FOUR; }

static fkda_status check_args(const fkdai_desc *desc, const void *args)
{
    const fkda_decode_desc *const d = &desc->decode;
    const fkda_decode_args *const a = args;
    TRY(check_address("q", a->q, four_of(d->q.dtype)));
    TRY(check_address("k", a->k, four_of(d->k.dtype)));
    TRY(check_address("g", a->g, four_of(d->g.dtype)));
    TRY(check_address("dt_bias", a->dt_bias, four_of(d->dt_bias)));
    TRY(check_address("state", a->state, STATE_BYTES));
    return check_address("step_states", a->step_states, STATE_BYTES);
}

/* ---------------------------------------------------------------- one call */

static int is_plain(const fkda_tensor_desc *t)
{
    const int64_t below = INT64_C(1) << 30;
    return t->dtype == FKDA_BF16 && t->batch_stride < below && t->token_stride < below && t->head_stride < below;
}

static int has_plain_input(const fkda_decode_desc *d)
{
    return is_plain(&d->q) && is_plain(&d->k) && is_plain(&d->v) && is_plain(&d->g) && is_plain(&d->beta) && is_plain(&d->out) &&
           d->A_log != FKDA_BF16 && d->dt_bias != FKDA_BF16 && d->T < INT64_C(1) << 30;
}

static const char *words_of(const fkda_decode_desc *d, fkdai_decode_shape shape)
{
    if (shape == FKDAI_DECODE_STEPS) return d->parent != FKDA_NONE ? "a tree of up to 8 tokens" : "up to 8 tokens, every state kept";
    return shape == FKDAI_DECODE_ONE || shape == FKDAI_DECODE_ONE_SMALL || shape == FKDAI_DECODE_ONE_SOME ? "one token" : "up to 8 tokens";
}

static fkda_status plan(const fkdai_cuda_device *on, fkdai_plan *plan, fkdai_cuda_kernel_plan *to)
{
    const fkda_decode_desc *const d = &plan->desc.decode;
    TRY(check_desc(d));
    const fkdai_decode_request request = {
        .N = d->N, .HV = d->HV, .S = (int)d->S, .writes_steps = d->commit == FKDA_COMMIT_EACH || d->step_states.dtype != FKDA_NONE,
        .is_read_only = d->commit == FKDA_COMMIT_NONE, .writes_last = d->commit == FKDA_COMMIT_LAST, .is_bf16_state = d->state.dtype == FKDA_BF16,
        .is_k_first = d->state.layout == FKDA_STATE_NHKV, .has_plain_input = has_plain_input(d),
    };
    const fkdai_decode_grid grid = fkdai_decode_make_grid(&request, on->major, on->multiprocessors);
    memcpy(to, &grid, sizeof grid);
    plan->workspace_bytes = 0;
    snprintf(plan->choice, sizeof plan->choice, "decode, %s, %" PRId64 " states on %" PRIu32 " blocks",
             words_of(d, grid.shape), d->N * d->HV, grid.blocks);
    return FKDA_OK;
}

static fkdai_decode_tensor tensor(const fkda_tensor_desc *t, const void *data)
{
    return (fkdai_decode_tensor){(void *)(uintptr_t)data, t->batch_stride, t->token_stride, t->head_stride, t->dtype == FKDA_F32};
}

static int64_t null_below(const fkda_state_desc *s)
{
    return s->slot_null == FKDA_SLOT_NULL_NONE ? INT64_MIN : s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE;
}

static uint32_t first_slot(const fkda_state_desc *s) { return s->slot_count > 0 && s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE; }

static uint32_t slot_span(const fkda_state_desc *s) { return s->slot_count > 0 ? (uint32_t)s->slot_count - first_slot(s) : UINT32_MAX; }

/* A call in which the tokens behind the accepted ones are not needed. */
static int needs_only_accepted(const fkda_decode_desc *d)
{
    return d->flags & FKDA_FLAG_NO_OUT && d->commit == FKDA_COMMIT_ACCEPTED && d->step_states.dtype == FKDA_NONE;
}

static int run(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)workspace;
    const fkda_decode_desc *const d = &desc->decode;
    const fkda_decode_args *const a = args;
    fkdai_decode_grid grid;
    memcpy(&grid, plan, sizeof grid);
    const fkdai_decode_call call = {
        .q = a->q != NULL ? tensor(&d->q, a->q) : tensor(&d->k, a->k), .k = tensor(&d->k, a->k), .g = tensor(&d->g, a->g),
        .v = tensor(&d->v, a->v), .beta = tensor(&d->beta, a->beta),
        .out = tensor(&d->out, a->out), .A_log = {a->A_log, d->A_log == FKDA_F32}, .dt_bias = {a->dt_bias, d->dt_bias == FKDA_F32},
        .cu_seqlens = {a->cu_seqlens, d->cu_seqlens == FKDA_I64}, .state = a->state, .row_stride = d->state.row_stride,
        .slots = {a->slots, d->state.slot_dtype == FKDA_I64}, .first_slot = first_slot(&d->state),
        .slot_span = slot_span(&d->state), .null_below = null_below(&d->state), .null_is_padding = (d->flags & FKDA_FLAG_NULL_IS_PADDING) != 0, .initial_mask = a->initial_mask, .device_status = a->device_status,
        .gate = (fkdai_decode_gate)d->gate, .T = d->T, .S = (int)d->S, .HV = (int)d->HV, .by_heads = fkdai_decode_make_divisor((uint32_t)d->HV),
        .by_group = fkdai_decode_make_divisor((uint32_t)(d->HV / d->H)), .is_normalised = d->qk_norm == FKDA_QK_NORM_L2,
        .is_beta_activated = d->beta_kind == FKDA_BETA_ACTIVATED, .beta_multiplier = (float)d->beta_multiplier, .lower_bound = d->lower_bound,
        .scale = d->scale, .num_accepted = {a->num_accepted, d->num_accepted == FKDA_I64}, .commit = (fkdai_decode_commit)d->commit,
        .only_accepted = needs_only_accepted(d), .slots_stride = d->slots_stride, .slots_per_sequence = (int)d->slots_per_sequence,
        .is_bf16_step = d->step_states.dtype == FKDA_BF16, .step_states = a->step_states, .step_row_stride = d->step_states.row_stride,
        .steps_per_sequence = d->step_states_per_sequence, .parent = {a->parent, d->parent == FKDA_I64}, .parent_stride = d->parent_stride, .grid = grid,
    };
    return fkdai_decode_launch(&call, stream);
}

const fkdai_cuda_kernel fkdai_decode = {
    .name = "decode", .architectures = "sm_80 and newer", .operation = FKDAI_OP_DECODE,
    .runs_on = runs_on, .plan = plan, .check_args = check_args, .load = fkdai_decode_load, .run = run,
};

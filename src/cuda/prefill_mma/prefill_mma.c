/* The portable prefill kernel as the backend sees it: what it takes, and from a public call to a launch. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cuda_forward.h"
#include "cuda_spans.h"
#include "prefill_mma/prefill_mma_launch.h"
#include "status.h"

_Static_assert(sizeof(fkdai_mma_grid) <= sizeof(fkdai_cuda_span_plan), "fkdai_cuda_span_plan is too small");

#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, __VA_ARGS__)

/* What prefill_mma_launch.cu is compiled for (CMakeLists.txt). */
static int runs_on(const fkdai_cuda_device *device) { return device->major >= 8; }

static fkda_status check_desc(const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->K == 64 || d->K == 128, "K = %" PRId64 ", the kernel exists for K = 64 and 128", d->K);
    REFUSE_UNLESS(d->V == 64 || d->V == 128, "V = %" PRId64 ", the kernel exists for V = 64 and 128", d->V);
    TRY(fkdai_forward_check_desc(d));
    REFUSE_UNLESS(d->N <= FKDAI_MMA_MOST_JOBS / d->HV, "N*HV = %" PRId64 " * %" PRId64 " is above 2^27", d->N, d->HV);
    return FKDA_OK;
}

static fkda_status plan(const fkdai_cuda_device *on, fkdai_plan *plan, fkdai_cuda_kernel_plan *to)
{
    const fkda_fwd_desc *const d = &plan->desc.fwd;
    TRY(check_desc(d));
    REFUSE_UNLESS(on->shared_bytes >= fkdai_mma_shared_bytes(), "device %d offers %d bytes of shared memory per block, the kernel needs %d",
                  (int)d->device, on->shared_bytes, fkdai_mma_shared_bytes());
    const fkdai_mma_grid grid = fkdai_mma_make_grid(d->N, d->HV, d->V, on->multiprocessors, 0);
    memcpy(to, &grid, sizeof grid);
    plan->workspace_bytes = 0;
    snprintf(plan->choice, sizeof plan->choice, "mma prefill, 32 tokens per chunk, %" PRId64 " heads of sequences in %d slice%s of %d columns",
             d->N * d->HV, grid.slices, grid.slices > 1 ? "s" : "", grid.chain_warps * FKDAI_MMA_COLUMNS);
    return FKDA_OK;
}

static int run_spans(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, const fkdai_spans *spans, void *workspace,
                     fkda_stream stream)
{
    (void)workspace;
    const fkda_fwd_desc *const d = &desc->fwd;
    const fkda_fwd_args *const a = args;
    fkdai_mma_grid grid;
    memcpy(&grid, plan, sizeof grid);
    const fkdai_mma_call call = {
        .q = fkdai_forward_tensor(d, FKDA_ARG_Q, a->q), .k = fkdai_forward_tensor(d, FKDA_ARG_K, a->k), .v = fkdai_forward_tensor(d, FKDA_ARG_V, a->v),
        .g = fkdai_forward_tensor(d, FKDA_ARG_G, a->g), .beta = fkdai_forward_tensor(d, FKDA_ARG_BETA, a->beta),
        .is_beta_activated = d->beta_kind == FKDA_BETA_ACTIVATED, .beta_multiplier = (float)d->beta_multiplier, .out = a->out,
        .out_stride = fkdai_forward_strides(d, FKDA_ARG_OUT), .A_log = {a->A_log, fkdai_forward_element(d->A_log)},
        .dt_bias = {a->dt_bias, fkdai_forward_element(d->dt_bias)}, .cu_seqlens = {a->cu_seqlens, fkdai_forward_element(d->cu_seqlens)}, .spans = *spans,
        .initial_state = a->initial_state, .initial_rows = fkdai_forward_state_rows(&d->initial_state, a->initial_slots),
        .initial_mask = a->initial_mask, .final_state = a->final_state, .final_rows = fkdai_forward_state_rows(&d->final_state, a->final_slots),
        .checkpoint_state = a->checkpoint_state, .checkpoint_rows = fkdai_forward_state_rows(&d->checkpoints, a->checkpoint_slots),
        .checkpoint_count = d->checkpoint_count, .checkpoints_per_sequence = d->checkpoints_per_sequence, .checkpoint_every = d->checkpoint_every,
        .checkpoint_offsets = {a->checkpoint_offsets, fkdai_forward_element(d->checkpoint_offset_dtype)},
        .B = d->B, .T = d->T, .N = d->N, .H = d->H, .HV = d->HV, .K = d->K, .V = d->V, .gate = fkdai_forward_gate(d->gate), .scale = d->scale,
        .lower_bound = d->lower_bound, .is_raw = d->qk_norm == FKDA_QK_NORM_NONE, .grid = grid, .device_status = a->device_status,
    };
    return fkdai_mma_launch(&call, stream);
}

static int run(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    return run_spans(desc, plan, args, &(fkdai_spans){0}, workspace, stream);
}

/* The bits of a call follow from it, so only what every call of a model has alike may decide. */
static fkdai_span_rule span_rule(const fkdai_cuda_device *device, const fkdai_desc *desc)
{
    return desc->fwd.HV * FKDAI_MMA_SPAN_SHARE <= device->multiprocessors ? (fkdai_span_rule){FKDAI_MMA_FIRST_SPAN, FKDAI_MMA_NEXT_SPAN}
                                                                           : (fkdai_span_rule){0, 0};
}

static const fkdai_cuda_span_kernel span_kernel = {.rule = span_rule, .plan = plan, .run = run_spans};

const fkdai_cuda_kernel fkdai_prefill_mma = {
    .name = "prefill_mma", .architectures = "sm_80 and newer", .operation = FKDAI_OP_FWD,
    .runs_on = runs_on, .plan = plan, .check_args = fkdai_forward_check_args, .suit = fkdai_forward_suit, .load = fkdai_mma_load, .run = run,
    .spans = &span_kernel,
};

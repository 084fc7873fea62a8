/* The Hopper prefill kernel as the backend sees it: what it takes, and from a public call to a launch. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cuda_forward.h"
#include "cuda_kernel.h"
#include "prefill_sm90/prefill_launch.h"
#include "prefill_sm90/prefill_tuning.h"
#include "status.h"

_Static_assert(sizeof(fkdai_prefill_grid) <= sizeof(fkdai_cuda_kernel_plan), "fkdai_cuda_kernel_plan is too small");

#define REFUSE_UNLESS(condition, ...) REQUIRE(condition, FKDA_ERR_UNSUPPORTED, __VA_ARGS__)

static int runs_on(const fkdai_cuda_device *device) { return device->major == 9 && device->minor == 0; }

/* ---------------------------------------------------------------- what it takes */

static fkda_status check_meaning(const fkda_fwd_desc *d)
{
    REFUSE_UNLESS(d->K == 128, "K = %" PRId64 ", kernels exist for K = 128", d->K);
    REFUSE_UNLESS(d->V == 128, "V = %" PRId64 ", kernels exist for V = 128", d->V);
    return FKDA_OK;
}

static fkda_status check_desc(const fkda_fwd_desc *d)
{
    TRY(check_meaning(d));
    return fkdai_forward_check_desc(d);
}

/* ---------------------------------------------------------------- one call */

static fkdai_prefill_stops stops(const fkda_fwd_desc *d)
{
    return d->checkpoints.dtype == FKDA_NONE ? (fkdai_prefill_stops){0, 0} : (fkdai_prefill_stops){d->checkpoints_per_sequence, d->checkpoint_every};
}

static fkda_status plan(const fkdai_cuda_device *on, fkdai_plan *plan, fkdai_cuda_kernel_plan *to)
{
    const fkda_fwd_desc *const d = &plan->desc.fwd;
    TRY(check_desc(d));
    REFUSE_UNLESS(on->shared_bytes >= fkdai_prefill_shared_bytes(), "device %d offers %d bytes of shared memory per block, the kernel needs %d",
                  (int)d->device, on->shared_bytes, fkdai_prefill_shared_bytes());
    static const struct { const char *mapping, *workers; } names[] = {
        [FKDAI_OCTET] = {"octet", "clusters of 8"}, [FKDAI_SEXTET] = {"sextet", "clusters of 6"}, [FKDAI_QUINT] = {"quint", "clusters of 5"},
        [FKDAI_QUAD] = {"quad", "clusters of 4"}, [FKDAI_DUO] = {"duo", "clusters of 2"},
        [FKDAI_SOLO] = {"solo", "blocks"}, [FKDAI_EITHER] = {"duo or solo", "blocks"}};
    const fkdai_prefill_mapping wanted = d->qk_norm == FKDA_QK_NORM_NONE ? FKDAI_SOLO : FKDAI_EITHER;
    const fkdai_prefill_jobs jobs = {d->B * d->T, d->N, d->HV, d->cu_seqlens != FKDA_NONE};
    const fkdai_prefill_grid grid = fkdai_prefill_make_grid(wanted, jobs, stops(d), on->multiprocessors);
    memcpy(to, &grid, sizeof grid);
    plan->workspace_bytes = fkdai_prefill_workspace_bytes(jobs, grid, stops(d));
    const int length = snprintf(plan->choice, sizeof plan->choice, "sm90 prefill %s, 32 tokens per chunk, %" PRId64 " heads of sequences on %d %s",
                                names[grid.mapping].mapping, d->N * d->HV, grid.workers, names[grid.mapping].workers);
    if (grid.quads > 0 && length > 0 && (size_t)length < sizeof plan->choice)
        snprintf(plan->choice + length, sizeof plan->choice - (size_t)length, ", or quads on %d clusters of 4 if one is long", grid.quads);
    return FKDA_OK;
}

static fkdai_checkpoints checkpoints(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    return (fkdai_checkpoints){.state = a->checkpoint_state, .rows = fkdai_forward_state_rows(&d->checkpoints, a->checkpoint_slots), .count = d->checkpoint_count,
                               .stops = stops(d), .offsets = {a->checkpoint_offsets, fkdai_forward_element(d->checkpoint_offset_dtype)}};
}

static int run(const fkdai_desc *desc, const fkdai_cuda_kernel_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    const fkda_fwd_args *const a = args;
    fkdai_prefill_grid grid;
    memcpy(&grid, plan, sizeof grid);
    const fkdai_prefill_call call = {
        .q = fkdai_forward_tensor(d, FKDA_ARG_Q, a->q), .k = fkdai_forward_tensor(d, FKDA_ARG_K, a->k), .v = fkdai_forward_tensor(d, FKDA_ARG_V, a->v), .g = fkdai_forward_tensor(d, FKDA_ARG_G, a->g),
        .beta = fkdai_forward_tensor(d, FKDA_ARG_BETA, a->beta), .is_beta_activated = d->beta_kind == FKDA_BETA_ACTIVATED,
        .beta_multiplier = (float)d->beta_multiplier, .out = a->out, .out_stride = fkdai_forward_strides(d, FKDA_ARG_OUT),
        .A_log = {a->A_log, fkdai_forward_element(d->A_log)}, .dt_bias = {a->dt_bias, fkdai_forward_element(d->dt_bias)},
        .cu_seqlens = {a->cu_seqlens, fkdai_forward_element(d->cu_seqlens)},
        .initial_state = a->initial_state, .initial_rows = fkdai_forward_state_rows(&d->initial_state, a->initial_slots), .initial_mask = a->initial_mask,
        .final_state = a->final_state, .final_rows = fkdai_forward_state_rows(&d->final_state, a->final_slots), .checkpoints = checkpoints(d, a),
        .B = d->B, .T = d->T, .N = d->N, .H = d->H, .HV = d->HV, .gate = fkdai_forward_gate(d->gate), .scale = d->scale, .lower_bound = d->lower_bound,
        .is_raw = d->qk_norm == FKDA_QK_NORM_NONE,
        .cu_seqlens_host = a->cu_seqlens_host, .grid = grid, .workspace = workspace, .device_status = a->device_status,
    };
    return fkdai_prefill_launch(&call, stream);
}

const fkdai_cuda_kernel fkdai_prefill_sm90 = {
    .name = "prefill_sm90", .architectures = "sm_90", .preferred = FKDAI_PREFILL_PREFERRED, .operation = FKDAI_OP_FWD,
    .runs_on = runs_on, .plan = plan, .check_args = fkdai_forward_check_args, .suit = fkdai_forward_suit, .load = fkdai_prefill_load, .run = run,
};

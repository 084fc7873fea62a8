/*
 * A CUDA backend without CUDA: one device, the host side of the real one (plans, copies, what the kernels take), and the reference in the place of
 * the kernels (of decode: decode_in_host_memory.c, decode_fused_in_host_memory.c). The memory that is called CUDA memory is the host's. Who links it brings fkdai_copy_in and
 * fkdai_copy_out: plain_copies.c, or the emulated kernels.
 */
#include <stdlib.h>
#include <string.h>

#include "cuda_copies.h"
#include "cuda_copy.h"
#include "cuda_plan.h"
#include "prefill_mma/prefill_mma_launch.h"
#include "prefill_sm90/prefill_launch.h"
#include "status.h"

const fkdai_cuda_machine *fkdai_cuda_the_machine(void)
{
    static const fkdai_cuda_machine machine = {.status = FKDA_OK, .device_count = 1, .devices = {{"host memory", 9, 0, 132, 232448}}};
    return &machine;
}

fkda_status fkdai_cuda_fail(const char *call, int error) { return fkdai_fail(FKDA_ERR_CUDA, "%s: %d", call, error); }

/* ---------------------------------------------------------------- the prefill kernels, by the reference */

int fkdai_prefill_shared_bytes(void) { return 220000; }
int fkdai_prefill_load(void) { return 0; }
int fkdai_mma_shared_bytes(void) { return FKDAI_MMA_SHARED_BYTES; }
int fkdai_mma_load(void) { return 0; }

static fkda_dtype dtype(fkdai_element element)
{
    static const fkda_dtype dtypes[] = {[FKDAI_ABSENT] = FKDA_NONE, [FKDAI_BF16] = FKDA_BF16, [FKDAI_F32] = FKDA_F32, [FKDAI_I32] = FKDA_I32,
                                        [FKDAI_I64] = FKDA_I64};
    return dtypes[element];
}

static fkda_tensor_desc tensor(fkdai_strides s, fkdai_element element) { return (fkda_tensor_desc){s.batch, s.token, s.head, dtype(element), 0}; }

static fkda_state_desc state(const fkdai_state_rows *r)
{
    return (fkda_state_desc){.dtype = dtype(r->element), .layout = r->is_k_first ? FKDA_STATE_NHKV : FKDA_STATE_NHVK, .row_stride = r->row_stride,
                             .slot_count = r->slot_count, .slot_dtype = dtype(r->slots.element),
                             .slot_null = r->first_slot == 1 ? FKDA_SLOT_NULL_NOT_POSITIVE : FKDA_SLOT_NULL_NEGATIVE};
}

static fkda_gate gate(fkdai_gate gate)
{
    return gate == FKDAI_GATE_SOFTPLUS ? FKDA_GATE_SOFTPLUS : gate == FKDAI_GATE_PRECOMPUTED ? FKDA_GATE_PRECOMPUTED : FKDA_GATE_BOUNDED;
}

static fkda_fwd_desc desc_of(const fkdai_prefill_call *c, int64_t K, int64_t V)
{
    return (fkda_fwd_desc){
        .struct_size = sizeof(fkda_fwd_desc), .backend = FKDA_BACKEND_REF, .flags = c->initial_mask != NULL ? FKDA_FLAG_INITIAL_MASK : 0,
        .B = c->B, .T = c->T, .N = c->N, .H = c->H, .HV = c->HV, .K = K, .V = V,
        .q = tensor(c->q.stride, c->q.element), .k = tensor(c->k.stride, c->k.element), .v = tensor(c->v.stride, c->v.element),
        .g = tensor(c->g.stride, c->g.element), .beta = tensor(c->beta.stride, c->beta.element), .out = tensor(c->out_stride, FKDAI_BF16),
        .cu_seqlens = dtype(c->cu_seqlens.element), .A_log = dtype(c->A_log.element), .dt_bias = dtype(c->dt_bias.element),
        .gate = gate(c->gate), .qk_norm = c->is_raw ? FKDA_QK_NORM_NONE : FKDA_QK_NORM_L2, .lower_bound = c->lower_bound,
        .beta_kind = c->is_beta_activated ? FKDA_BETA_ACTIVATED : FKDA_BETA_LOGIT,
        .beta_multiplier = (int32_t)c->beta_multiplier, .scale = c->scale,
        .initial_state = state(&c->initial_rows), .final_state = state(&c->final_rows), .checkpoints = state(&c->checkpoints.rows),
        .checkpoint_every = c->checkpoints.stops.every, .checkpoint_count = c->checkpoints.count,
        .checkpoints_per_sequence = c->checkpoints.stops.per_sequence, .checkpoint_offset_dtype = dtype(c->checkpoints.offsets.element),
    };
}

static int run_reference(const fkdai_prefill_call *c, int64_t K, int64_t V, void *stream)
{
    const fkda_fwd_desc d = desc_of(c, K, V);
    const fkda_fwd_args a = {
        .struct_size = sizeof a, .q = c->q.data, .k = c->k.data, .v = c->v.data, .g = c->g.data, .beta = c->beta.data, .out = c->out,
        .A_log = c->A_log.data, .dt_bias = c->dt_bias.data, .cu_seqlens = c->cu_seqlens.data, .initial_state = c->initial_state,
        .final_state = c->final_state, .initial_slots = c->initial_rows.slots.data, .final_slots = c->final_rows.slots.data,
        .initial_mask = c->initial_mask, .checkpoint_state = c->checkpoints.state, .checkpoint_offsets = c->checkpoints.offsets.data,
        .checkpoint_slots = c->checkpoints.rows.slots.data,
    };
    size_t bytes;
    if (fkda_fwd_workspace_size(&d, &bytes) != FKDA_OK) return 1;
    void *const workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes + FKDA_WORKSPACE_ALIGN);
    const fkda_status status = workspace == NULL ? FKDA_ERR_NO_MEMORY : fkda_fwd(&d, &a, workspace, bytes, stream);
    free(workspace);
    return (int)status;
}

int fkdai_prefill_launch(const fkdai_prefill_call *c, void *stream) { return run_reference(c, 128, 128, stream); }

int fkdai_mma_launch(const fkdai_mma_call *c, void *stream)
{
    const fkdai_prefill_call same = {
        .q = c->q, .k = c->k, .v = c->v, .g = c->g, .beta = c->beta, .is_beta_activated = c->is_beta_activated,
        .beta_multiplier = c->beta_multiplier, .A_log = c->A_log, .dt_bias = c->dt_bias, .cu_seqlens = c->cu_seqlens,
        .initial_state = c->initial_state, .final_state = c->final_state, .out = c->out, .initial_rows = c->initial_rows,
        .final_rows = c->final_rows, .initial_mask = c->initial_mask, .out_stride = c->out_stride, .B = c->B, .T = c->T, .N = c->N, .H = c->H,
        .HV = c->HV, .gate = c->gate, .scale = c->scale, .lower_bound = c->lower_bound, .is_raw = c->is_raw,
        .checkpoints = {.state = c->checkpoint_state, .rows = c->checkpoint_rows, .count = c->checkpoint_count,
                        .stops = {c->checkpoints_per_sequence, c->checkpoint_every}, .offsets = c->checkpoint_offsets},
    };
    return run_reference(&same, c->K, c->V, stream);
}

/* ---------------------------------------------------------------- the backend */

static fkda_status present(char *text, size_t size)
{
    if (size > 0) text[0] = 0;
    return FKDA_OK;
}

static fkda_status plan_any(fkdai_plan *plan) { return fkdai_cuda_plan(fkdai_cuda_the_machine(), plan); }

static fkda_status suit_any(fkdai_plan *plan, const void *args, uint32_t *copies)
{
    return fkdai_cuda_suit(fkdai_cuda_the_machine(), plan, args, copies);
}

static fkda_status run_any(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    uint32_t copies;
    fkdai_cuda_own own;
    memcpy(&own, plan->own, sizeof own);
    TRY(fkdai_cuda_choose_copies(plan, &own, args, workspace, &copies));
    return fkdai_cuda_run(plan, &own, copies, args, workspace, stream);
}

const fkdai_backend fkdai_cuda = {
    .present = present, .offers = {[FKDAI_OP_FWD] = {plan_any, run_any, suit_any}, [FKDAI_OP_DECODE] = {plan_any, run_any, NULL},
                                   [FKDAI_OP_DECODE_FUSED] = {plan_any, run_any, NULL}}};

const fkdai_backend_entry fkdai_backends[] = {
    {FKDA_BACKEND_CUDA, "cuda", &fkdai_cuda}, {FKDA_BACKEND_REF, "ref", &fkdai_ref}, {FKDA_BACKEND_AUTO, "auto", NULL}};

#include "problem_operation.h"

const char *const operation_names[] = {"prefill", "decode", NULL};

int64_t operation_layers(operation op) { return op.layers > 0 ? op.layers : 1; }

static fkda_decode_desc decode_desc(operation op, const fkda_fwd_desc *d)
{
    const int is_packed = d->cu_seqlens != FKDA_NONE;
    const int64_t most = op.most_tokens > 0 ? op.most_tokens : d->T > FKDA_DECODE_MAX_TOKENS ? FKDA_DECODE_MAX_TOKENS : d->T > 0 ? d->T : 1;
    fkda_state_desc state = d->final_state;
    state.slot_dtype = d->initial_state.slot_dtype;
    return (fkda_decode_desc){
        .struct_size = sizeof(fkda_decode_desc), .backend = d->backend, .memory = d->memory, .device = d->device, .threads = d->threads, .flags = d->flags,
        .N = is_packed ? d->N : d->B, .S = is_packed ? most : d->T, .T = is_packed ? d->T : 0, .H = d->H, .HV = d->HV, .K = d->K, .V = d->V,
        .q = d->q, .k = d->k, .v = d->v, .g = d->g, .beta = d->beta, .out = d->out, .cu_seqlens = d->cu_seqlens, .A_log = d->A_log, .dt_bias = d->dt_bias,
        .gate = d->gate, .lower_bound = d->lower_bound, .beta_kind = d->beta_kind, .beta_multiplier = d->beta_multiplier, .qk_norm = d->qk_norm,
        .scale = d->scale, .state = state,
    };
}

static fkda_decode_args decode_args(const fkda_fwd_args *a)
{
    return (fkda_decode_args){
        .struct_size = sizeof(fkda_decode_args), .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .cu_seqlens = a->cu_seqlens, .state = a->final_state, .slots = a->final_slots, .initial_mask = a->initial_mask,
        .device_status = a->device_status,
    };
}

fkda_status operation_query(operation op, const fkda_fwd_desc *desc, fkda_backend *backend)
{
    if (op.kind == OPERATION_PREFILL) return fkda_fwd_query(desc, backend);
    const fkda_decode_desc decode = decode_desc(op, desc);
    return fkda_decode_query(&decode, backend);
}

fkda_status operation_workspace_size(operation op, const fkda_fwd_desc *desc, size_t *bytes)
{
    if (op.kind == OPERATION_PREFILL) return fkda_fwd_workspace_size(desc, bytes);
    const fkda_decode_desc decode = decode_desc(op, desc);
    return fkda_decode_workspace_size(&decode, bytes);
}

fkda_status operation_plan(operation op, const fkda_fwd_desc *desc, fkda_plan *plan)
{
    if (op.kind == OPERATION_PREFILL) return fkda_fwd_plan(desc, plan);
    const fkda_decode_desc decode = decode_desc(op, desc);
    return fkda_decode_plan(&decode, plan);
}

fkda_status operation_run(operation op, const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    if (op.kind == OPERATION_PREFILL) return fkda_fwd_run(plan, args, workspace, workspace_bytes, stream);
    const fkda_decode_args decode = decode_args(args);
    return fkda_decode_run(plan, &decode, workspace, workspace_bytes, stream);
}

// gpu_call.cuh: a case of the kernel tests through the public API, with whatever kernels and launches its plan chooses: the word `call`.
#pragma once

#include "flashkda.h"
#include "gpu_case.cuh"

namespace public_call {

inline void check(fkda_status status) {
    if (status == FKDA_OK) return;
    fprintf(stderr, "%s\n", fkda_last_error());
    exit(1);
}

inline fkda_state_desc state_of(const fkdai_state_rows &rows, const void *state) {
    fkda_state_desc s{};
    if (state == nullptr) return s;
    s.dtype = rows.element == FKDAI_BF16 ? FKDA_BF16 : FKDA_F32, s.layout = rows.is_k_first ? FKDA_STATE_NHKV : FKDA_STATE_NHVK;
    s.row_stride = rows.row_stride;
    if (rows.slots.element != FKDAI_ABSENT) s.slot_count = rows.slot_count, s.slot_dtype = rows.slots.element == FKDAI_I64 ? FKDA_I64 : FKDA_I32;
    return s;
}

inline fkda_fwd_desc desc_of(const DeviceCase &c) {
    const fkdai_prefill_call &call = c.call;
    const auto tensor = [](const fkdai_strides &s) { return fkda_tensor_desc{s.batch, s.token, s.head, FKDA_BF16, 0}; };
    fkda_fwd_desc d{};
    d.struct_size = sizeof d, d.backend = FKDA_BACKEND_CUDA, d.memory = FKDA_MEMORY_CUDA;
    d.B = call.B, d.T = call.T, d.N = call.N, d.H = call.H, d.HV = call.HV, d.K = d.V = 128;
    d.q = tensor(call.q.stride), d.k = tensor(call.k.stride), d.v = tensor(call.v.stride), d.g = tensor(call.g.stride);
    d.beta = tensor(call.beta.stride), d.out = tensor(call.out_stride);
    if (c.is_packed()) d.cu_seqlens = call.cu_seqlens.element == FKDAI_I64 ? FKDA_I64 : FKDA_I32;
    d.A_log = call.A_log.data != nullptr ? FKDA_F32 : FKDA_NONE, d.dt_bias = call.dt_bias.data != nullptr ? FKDA_F32 : FKDA_NONE;
    d.gate = FKDA_GATE_BOUNDED, d.lower_bound = call.lower_bound, d.scale = call.scale;
    d.initial_state = state_of(call.initial_rows, call.initial_state), d.final_state = state_of(call.final_rows, call.final_state);
    const fkdai_checkpoints &cp = call.checkpoints;
    d.checkpoints = state_of(cp.rows, cp.state);
    if (cp.state != nullptr) d.checkpoint_every = cp.stops.every, d.checkpoint_count = cp.count, d.checkpoints_per_sequence = cp.stops.per_sequence;
    return d;
}

inline size_t workspace_bytes(const DeviceCase &c) {
    const fkda_fwd_desc d = desc_of(c);
    size_t bytes = 0;
    check(fkda_fwd_workspace_size(&d, &bytes));
    return bytes;
}

inline void launch(const DeviceCase &c, cudaStream_t stream) {
    const fkdai_prefill_call &call = c.call;
    const fkda_fwd_desc d = desc_of(c);
    fkda_fwd_args a{};
    a.struct_size = sizeof a, a.q = call.q.data, a.k = call.k.data, a.v = call.v.data, a.g = call.g.data, a.beta = call.beta.data, a.out = call.out;
    a.A_log = call.A_log.data, a.dt_bias = call.dt_bias.data, a.cu_seqlens = call.cu_seqlens.data, a.initial_state = call.initial_state;
    a.final_state = call.final_state, a.initial_slots = call.initial_rows.slots.data, a.final_slots = call.final_rows.slots.data;
    a.checkpoint_state = call.checkpoints.state, a.checkpoint_offsets = call.checkpoints.stops.every > 0 ? nullptr : call.checkpoints.offsets.data;
    if (call.checkpoints.state == nullptr) a.checkpoint_offsets = nullptr;
    a.device_status = call.device_status;
    check(fkda_fwd(&d, &a, c.workspace_bytes > 0 ? c.workspace : nullptr, c.workspace_bytes, stream));
}

inline const bool is_offered = (offered_call = {workspace_bytes, launch}, true);

}  // namespace public_call

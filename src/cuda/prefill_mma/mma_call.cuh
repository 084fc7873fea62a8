// On the host: from a call to the kernel's parameters.
#pragma once

#include "backend/forward_scale.h"
#include "prefill_mma/mma_params.cuh"
#include "prefill_mma/prefill_mma_launch.h"

namespace fkdai::portable {

inline Element element_of(fkdai_element e) { return e == FKDAI_BF16 ? Element::BF16 : e == FKDAI_F32 ? Element::F32 : Element::Absent; }
inline Strides strides_of(const fkdai_strides &x) { return {x.batch, x.token, x.head}; }
inline Vector vector_of(const fkdai_vector &x) { return {x.data, element_of(x.element)}; }
inline Indices indices_of(const fkdai_vector &x) { return {x.data, x.element == FKDAI_I64}; }
inline StateTable states_of(const void *data, const fkdai_state_rows &x) {
    return {const_cast<void *>(data), x.row_stride, element_of(x.element), x.is_k_first != 0, indices_of(x.slots), x.slot_count, x.first_slot};
}
inline GateKind gate_of(const fkdai_mma_call &call) {
    if (call.gate == FKDAI_GATE_BOUNDED) return GateKind::Bounded;
    if (call.gate == FKDAI_GATE_SOFTPLUS) return GateKind::Softplus;
    return call.g.element == FKDAI_F32 ? GateKind::PrecomputedF32 : GateKind::Precomputed;
}

inline Params params_of(const fkdai_mma_call &call) {
    const auto tensor = [](const fkdai_tensor &x) { return Tensor{x.data, strides_of(x.stride)}; };
    const fkdai_scale scale = fkdai_split_scale(call.scale);
    Params p{};
    p.keys_queries[0] = tensor(call.k), p.keys_queries[1] = tensor(call.q), p.v = tensor(call.v), p.g = tensor(call.g);
    p.beta = {call.beta.data, strides_of(call.beta.stride), element_of(call.beta.element), call.is_beta_activated != 0, call.beta_multiplier};
    p.out = static_cast<__nv_bfloat16 *>(call.out), p.out_strides = strides_of(call.out_stride);
    p.key_factor = key_factor_of(static_cast<uint32_t>(call.HV / call.H));
    p.A_log = vector_of(call.A_log), p.dt_bias = vector_of(call.dt_bias);
    p.initial_state = states_of(call.initial_state, call.initial_rows), p.final_state = states_of(call.final_state, call.final_rows);
    p.initial_mask = call.initial_mask;
    p.checkpoints = states_of(call.checkpoint_state, call.checkpoint_rows), p.offsets = indices_of(call.checkpoint_offsets);
    p.per_sequence = static_cast<int>(call.checkpoints_per_sequence), p.checkpoint_count = call.checkpoint_count;
    p.every = static_cast<int>(call.checkpoint_every < INT32_MAX ? call.checkpoint_every : INT32_MAX);  // longer than any sequence
    p.sequences = {call.cu_seqlens.data, call.cu_seqlens.element == FKDAI_I64, static_cast<int>(call.N), static_cast<int>(call.T)};
    p.spans = call.spans.table;
    p.span_states = {const_cast<float *>(call.spans.states), call.HV * call.K * call.V, Element::F32, false, {}, 0, 0};
    p.is_cut = call.spans.is_cut, p.wants_cut = call.spans.wants_cut != 0;
    p.heads = static_cast<int>(call.HV), p.K = static_cast<int>(call.K), p.V = static_cast<int>(call.V);
    p.slices = call.grid.slices, p.solve_warps = call.grid.solve_warps, p.chain_warps = call.grid.chain_warps;
    p.gate = gate_of(call);
    p.scale = scale.q, p.out_factor = scale.out, p.lower_bound = call.lower_bound, p.is_raw = call.is_raw != 0;
    p.status = call.device_status;
    return p;
}

}  // namespace fkdai::portable

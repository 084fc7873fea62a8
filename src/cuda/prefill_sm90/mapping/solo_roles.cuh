// Solo: a CTA works on a job alone, for calls with enough jobs.
#pragma once

#include "device/sm90/registers.cuh"
#include "prefill_sm90/mapping/solo_chain.cuh"
#include "prefill_sm90/mapping/solo_load.cuh"
#include "prefill_sm90/mapping/solo_operands.cuh"
#include "prefill_sm90/mapping/solo_solve.cuh"
#include "prefill_sm90/roles/find_segments.cuh"

namespace fkdai::prefill::solo {

template <class Memory>
__device__ __forceinline__ void init_barriers(const SharedView<Memory> &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kStages; i++) {
        if (!Memory::kAsksFirst) barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.scores_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.operands_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.solve_ready[i]), kWarpArrivals);
        barrier_init(s.at(b.chunk_done[i]), kChainWarps * kWarpArrivals);
    }
    for (int i = 0; i < kValueStages; i++) barrier_init(s.at(b.value_ready[i]), 1);
    init_segment_queue(s, 1 + kChainWarps);
}

template <GateKind kind, class Memory>
__device__ __forceinline__ GateRequest request_only_gate(const Params &p) {
    const bool prepares = thread_here() >= 32 * kChainWarps && thread_here() < 32 * kLoadWarp;
    if (!are_lone<Memory> || !prepares || static_cast<int>(blockIdx.x) >= p.kinds[kSingleKind].count) return {};
    return prefill::request_only_gate<kind>(p, blockIdx.x, thread_here() / 32);
}

// What a block does once its barriers stand. Clusters have two blocks, so there may be one more than there are workers.
template <GateKind kind, bool is_raw, class Memory>
__device__ __forceinline__ void run(const Params &p, const SharedView<Memory> &s, const GateRequest &gate) {
    if (static_cast<int>(blockIdx.x) >= p.kinds[kSingleKind].count) return;
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0);
    mark_block(mark_block_has_met, thread_here() == 0);
    if (warp == kLoadWarp && !(Memory::kAsksFirst && may_ask_first(p))) LoadRole<Memory, kind>{p, s}.run_early();
    if (warp < kChainWarps) {
        grow_registers<kChainRegisters>();
        return ChainRole<Memory>{p, s, warp / 4, warp % 4, lane_here()}.run();
    }
    if (warp < kLoadWarp) {
        shrink_registers<kPrepareRegisters>();
        return OperandRole<Memory, kind, is_raw>{p, s, (warp - kChainWarps) / 4, warp % 4}.run(gate);
    }
    shrink_registers<kSingleRegisters>();
    if (warp == kLoadWarp) LoadRole<Memory, kind>{p, s}.run();
    else if (warp == kFindWarp) FindRole<Memory>{{p, s, block_here(), 0, kHalves}}.run();
    else SolveRole{p, s, warp - kFirstSolveWarp}.run();
}

}  // namespace fkdai::prefill::solo

// Solo: a CTA works on a job alone, for calls with enough jobs.
#pragma once

#include "device/sm90/registers.cuh"
#include "prefill_sm90/mapping/solo_chain.cuh"
#include "prefill_sm90/mapping/solo_load.cuh"
#include "prefill_sm90/mapping/solo_norms.cuh"
#include "prefill_sm90/mapping/solo_operands.cuh"
#include "prefill_sm90/mapping/solo_solve.cuh"
#include "prefill_sm90/roles/find_segments.cuh"

namespace fkdai::prefill::solo {

template <class Memory>
__device__ __forceinline__ void init_barriers(const SharedView<Memory> &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kStages; i++) {
        if (!Memory::kAsksFirst) barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.norms_ready[i]), kWarpArrivals);
        barrier_init(s.at(b.scores_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.operands_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.solve_ready[i]), kWarpArrivals);
        barrier_init(s.at(b.chunk_done[i]), kChainWarps * kWarpArrivals);
    }
    barrier_init(s.at(b.first_done), kChainWarps * kWarpArrivals);
    for (int i = 0; i < kValueStages; i++) barrier_init(s.at(b.value_ready[i]), 1);
    init_segment_queue(s, (finds_for_itself<Memory> ? 0 : 1) + kChainWarps);
}

template <GateKind kind, class Memory>
__device__ __forceinline__ GateRequest request_only_gate(const Params &p) {
    const bool prepares = thread_here() >= 32 * kChainWarps && thread_here() < 32 * kLoadWarp;
    if (!are_lone<Memory> || !prepares || static_cast<int>(blockIdx.x) >= p.kinds[kSingleKind].count) return {};
    return prefill::request_only_gate<kind>(p, blockIdx.x, thread_here() / 32);
}

template <class Memory>
__device__ __forceinline__ void find_segments(const Params &p, const SharedView<Memory> &s) {
    FindRole<Memory>{{p, s, block_here(), 0, kHalves}}.run();
}
template <class Memory>
__device__ __forceinline__ void run_last(const Params &p, const SharedView<Memory> &s) {
    if constexpr (Memory::kNormsAside) NormRole<Memory>{p, s}.run();
    else find_segments(p, s);
}
template <class Memory>
__device__ __forceinline__ void run_solve(const Params &p, const SharedView<Memory> &s, int which) {
    if constexpr (Memory::kNormsAside && are_lone<Memory>)
        if (which == kSolvers - 1) find_segments(p, s);  // it has time until there are scores
    SolveRole{p, s, which}.run();
}

// What a block does once its barriers stand. Clusters have two blocks, so there may be one more than there are workers.
template <GateKind kind, bool is_raw, class Memory>
__device__ __forceinline__ void run(const Params &p, const SharedView<Memory> &s, const GateRequest &gate) {
    if (static_cast<int>(blockIdx.x) >= p.kinds[kSingleKind].count) return;
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0);
    mark_block(mark_block_has_met, thread_here() == 0);
    const LoadRole<Memory, kind> load{p, s};
    uint32_t early = 0;
    if (warp == kLoadWarp && !(Memory::kAsksFirst && may_ask_first(p))) early = load.run_early();
    if (warp < kChainWarps) {
        grow_registers<kChainRegisters>();
        return ChainRole<Memory>{p, s, warp / 4, warp % 4, lane_here()}.run();
    }
    if (warp < kLoadWarp) {
        shrink_registers<Memory::kNormsAside ? kPrepareBesideNormsRegisters : kPrepareRegisters>();
        return OperandRole<Memory, kind, is_raw>{p, s, (warp - kChainWarps) / 4, warp % 4}.run(gate);
    }
    shrink_registers<Memory::kNormsAside ? kSingleBesideNormsRegisters : kSingleRegisters>();
    if (warp == kLoadWarp) load.run(are_lone<Memory> ? load.early_chunks() : early);
    else if (warp == kLastWarp) run_last<Memory>(p, s);
    else run_solve<Memory>(p, s, warp - kFirstSolveWarp);
}

}  // namespace fkdai::prefill::solo

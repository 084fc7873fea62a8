// Duo: a cluster of two CTAs works on a job. Each CTA owns 64 of the 128 rows of V and runs the recurrence for them (ChainRole).
// The operands of a chunk do not depend on the state: the CTAs prepare alternate chunks and send them to each other through shared memory.
#pragma once

#include "device/sm90/registers.cuh"
#include "prefill_sm90/mapping/duo_chain.cuh"
#include "prefill_sm90/mapping/duo_load.cuh"
#include "prefill_sm90/mapping/duo_norms.cuh"
#include "prefill_sm90/mapping/duo_operands.cuh"
#include "prefill_sm90/mapping/duo_solve.cuh"
#include "prefill_sm90/mapping/duo_store.cuh"
#include "prefill_sm90/roles/find_segments.cuh"

namespace fkdai::prefill::duo {

template <class Memory>
__device__ __forceinline__ void init_chain_barriers(const SharedView<Memory> &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kValueStages; i++) {
        barrier_init(s.at(b.value_ready[i]), 1);
        barrier_init(s.at(b.value_free[i]), 4 * kWarpArrivals);
    }
    for (int i = 0; i < kDoneStages; i++) barrier_init(s.at(b.chunk_done[i]), 4 * kWarpArrivals);
    init_segment_queue(s, 1 + 4);
    for (int i = 0; i < kOutStages; i++) {
        barrier_init(s.at(b.out_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.out_free[i]), kWarpArrivals);
    }
}

template <class Memory>
__device__ __forceinline__ void init_barriers(const SharedView<Memory> &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kOwnStages; i++) {
        if (!Memory::kAsksFirst) barrier_init(s.at(b.raw_ready[i]), 1);
        if (Memory::kNormsAside) barrier_init(s.at(b.norms_ready[i]), Memory::kNormWarps * kWarpArrivals);
        barrier_init(s.at(b.scores_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.operands_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.solve_ready[i]), kWarpArrivals);
        barrier_init(s.at(b.stage_free[i]), kRanks);
    }
    for (int i = kOwnStages; i < kStages; i++) {
        barrier_init(s.at(b.operands_ready[i]), 1);
        barrier_init(s.at(b.solve_ready[i]), 1);
        barrier_init(s.at(b.stage_free[i]), 1);
    }
    init_chain_barriers(s);
}

template <GateKind kind, class Memory>
using Loads = LoadRole<Memory, kind, true>;

template <GateKind kind, class Memory>
__device__ __forceinline__ GateRequest request_only_gate(const Params &p) {
    if (!are_lone<Memory> || thread_here() < 128 || thread_here() >= 32 * kLoadWarp) return {};
    return prefill::request_only_gate<kind>(p, blockIdx.x / kRanks, thread_here() / 32);
}

// What is held wants registers that norms want as well, and other gates; with the code of several jobs beside it the hot loops would exceed 32 KB.
template <GateKind kind, class Memory>
inline constexpr Pace kPace =
    Memory::kNormsAside && are_lone<Memory> && kind == GateKind::Bounded ? Pace{1, 2, true, false, false} : Pace{1, 1, false, true, true};

template <GateKind kind, class Memory>
__device__ __forceinline__ void run_role(const Params &p, const SharedView<Memory> &s, const GateRequest &gate, int early) {
    // The shuffle tells the compiler that the warp index is uniform: descriptors go to uniform registers.
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0), lane = lane_here();
    const int rank = blockIdx.x % kRanks, cluster = blockIdx.x / kRanks;
    constexpr bool norms_aside = Memory::kNormsAside;
    const FindRole<Memory> find{{p, s, cluster, rank, 1}};
    if (warp < 4) {
        grow_registers<norms_aside ? kChainBesideNormsRegisters : kChainRegisters>();
        return ChainRole<Memory>{p, s, rank, cluster, warp, lane}.run();
    }
    if (warp < kLoadWarp) {
        shrink_registers<kPrepareRegisters>();
        // Kept by force, or ptxas may read it anew all the same.
        const int own_lane = Memory::kKeepsLane ? static_cast<int>(kept(lane, lane)) : lane;
        return OperandRole<Memory, kind, kPace<kind, Memory>, !norms_aside>{p, s, warp / 4 - 1, rank, cluster, warp % 4, own_lane}.run(gate);
    }
    if (warp >= kFindWarp) {
        shrink_registers<norms_aside ? kNormRegisters : kFindRegisters>();
        constexpr int finder = norms_aside ? kFindWarp + Memory::kNormWarps : kFindWarp;
        if constexpr (!are_lone<Memory>)
            if (warp == finder) return find.run();  // in lone duos the store warp does
        if constexpr (norms_aside) NormRole<Memory>{p, s, rank, warp - kFindWarp, lane}.run();
        return;
    }
    shrink_registers<kSingleRegisters>();
    // The order of their code was measured: 4 % of H=96 fixed (2026-11-28-starts.md).
    if (warp >= kFirstSolveWarp) {
        SolveRole<Memory>{{p, s, warp - kFirstSolveWarp, rank, lane}}.run();
    } else if (warp == kStoreWarp) {
        if (are_lone<Memory>) find.run();  // it has time until there is an O
        StoreRole<Memory>{{p, s, rank, lane}}.run();
    } else {
        const Loads<kind, Memory> load{p, s, rank, cluster, lane};
        load.run(ChunkIterator<QueueReader<Memory>>{{s}}, are_lone<Memory> ? load.early_chunks() : early);
    }
}

// What a block does once its barriers stand. The cluster meets before the first arrival at the peer, and at the end, as nobody leaves while the
// peer may still write here. All warps meet, those without a part too, in one place: compute-sanitizer's racecheck does not end otherwise.
template <GateKind kind, class Memory>
__device__ __forceinline__ void run(const Params &p, const SharedView<Memory> &s, const GateRequest &gate) {
    const int warp = thread_here() / 32, rank = blockIdx.x % kRanks, cluster = blockIdx.x / kRanks;
    int early = 0;
    cluster_arrive();
    if (warp == kLoadWarp && !(Memory::kAsksFirst && may_ask_first(p))) early = Loads<kind, Memory>{p, s, rank, cluster, lane_here()}.load_first();
    cluster_wait();
    mark_block(mark_block_has_met, thread_here() == 0);
    run_role<kind, Memory>(p, s, gate, early);
    __syncwarp();
    // Whoever arrives at the peer, unless all such arrivals have been waited for there. It waits for stores.
    if (!has_the_only<Memory> && warp >= kStoreWarp && warp < kFindWarp) fence_cluster();
    mark_block(mark_block_ends, thread_here() == 0);
    if (!leaves_early<Memory> || warp >= 4) cluster_arrive();
    cluster_wait();
    mark_block(mark_block_has_parted, thread_here() == 0);
}

}  // namespace fkdai::prefill::duo

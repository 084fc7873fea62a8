// Quad: a cluster of four CTAs works on a job, where few jobs leave most SMs without work. Two run the recurrence, for one half of V
// each, and do nothing else; two prepare alternate chunks and send them to both.
#pragma once

#include "device/sm90/registers.cuh"
#include "prefill_sm90/mapping/duo_chain.cuh"
#include "prefill_sm90/mapping/duo_load.cuh"
#include "prefill_sm90/mapping/duo_operands.cuh"
#include "prefill_sm90/mapping/duo_roles.cuh"
#include "prefill_sm90/mapping/duo_store.cuh"
#include "prefill_sm90/mapping/quad_norms.cuh"
#include "prefill_sm90/mapping/quad_send.cuh"

namespace fkdai::prefill::quad {

__device__ __forceinline__ void init_chain(const duo::View &s) {
    for (int i = 0; i < duo::kStages; i++) {
        barrier_init(s.at(s->barriers.operands_ready[i]), 1);
        barrier_init(s.at(s->barriers.solve_ready[i]), 1);
    }
    duo::init_chain_barriers(s);
}
__device__ __forceinline__ void init_preparer(const View &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kOwnStages; i++) {
        barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.scores_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.norms_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.operands_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.stage_free[i]), 1 + kWarpArrivals);
    }
    for (int i = 0; i < kSlots; i++) barrier_init(s.at(b.slot_free[i]), kChains);
}
__device__ __forceinline__ void init_barriers(const duo::View &chain, const View &preparer) {
    if (blockIdx.x % kRanks < kChains) init_chain(chain);
    else init_preparer(preparer);
}

template <GateKind kind>
__device__ __forceinline__ void run_chain(const Params &p, const duo::View &s, int rank, int cluster, int warp, int lane) {
    if (warp < 4) {
        grow_registers<duo::kChainRegisters>();
        return duo::ChainRole<FKDAI_QUAD>{p, s, rank, cluster, warp, lane}.run();
    }
    if (warp < duo::kLoadWarp || warp >= duo::kWarps) return shrink_registers<duo::kIdleRegisters>();
    shrink_registers<duo::kSingleRegisters>();
    if (warp == duo::kLoadWarp) duo::LoadRole<duo::Smem, kind, false, true>{p, s, rank, cluster, lane}.run();
    else if (warp == duo::kStoreWarp) duo::StoreRole<FKDAI_QUAD>{p, s, rank, cluster, lane}.run();
}

template <GateKind kind>
__device__ __forceinline__ void run_preparer(const Params &p, const View &s, int preparer, int cluster, int warp, int lane) {
    if (warp >= kFirstNormWarp) {
        shrink_registers<kNormRegisters>();
        return NormRole{p, s, preparer, warp - kFirstNormWarp, lane}.run();
    }
    if (warp < duo::kLoadWarp) {
        grow_registers<kPrepareRegisters>();
        return duo::OperandRole<Smem, kind, 2, false, false>{p, s, warp / 4, preparer, warp % 4, lane}.run();
    }
    shrink_registers<duo::kSingleRegisters>();
    if (warp == duo::kLoadWarp) duo::LoadRole<Smem, kind, true, false>{p, s, preparer, cluster, lane}.run();
    else if (warp == kSendWarp) SendRole{p, s, preparer, cluster, lane}.run();
    else SolveRole{{p, s, warp - duo::kFirstSolveWarp, preparer, lane}}.run();
}

// What a block does once its barriers stand; the cluster meets as in duo.
template <GateKind kind>
__device__ __forceinline__ void run(const Params &p, const duo::View &chain, const View &preparer) {
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0), lane = lane_here();
    const int rank = blockIdx.x % kRanks, cluster = blockIdx.x / kRanks;
    cluster_arrive();
    if (warp == duo::kLoadWarp && rank >= kChains) duo::LoadRole<Smem, kind, true, false>{p, preparer, rank - kChains, cluster, lane}.run_early();
    cluster_wait();
    mark_block(mark_block_has_met, thread_here() == 0);
    if (rank < kChains) run_chain<kind>(p, chain, rank, cluster, warp, lane);
    else run_preparer<kind>(p, preparer, rank - kChains, cluster, warp, lane);
    __syncwarp();
    if (warp >= duo::kStoreWarp) fence_cluster();
    mark_block(mark_block_ends, thread_here() == 0);
    cluster_arrive();
    cluster_wait();
    mark_block(mark_block_has_parted, thread_here() == 0);
}

}  // namespace fkdai::prefill::quad

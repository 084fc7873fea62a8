// The quad: a cluster of four CTAs per (sequence, head), where few of them leave most SMs without work. Two run the recurrence, for one half of V
// each, and do nothing else; two prepare alternate chunks and send them to both.
#pragma once

#include "../device/registers.cuh"
#include "pair_chain.cuh"
#include "pair_load.cuh"
#include "pair_operands.cuh"
#include "pair_roles.cuh"
#include "pair_store.cuh"
#include "quad_send.cuh"

namespace fkdai::prefill::quad {

__device__ __forceinline__ void init_barriers(const View &s) {
    const pair::Barriers &b = s->barriers;
    if (blockIdx.x % kRanks < kChains) {
        for (int i = 0; i < pair::kStages; i++) {
            barrier_init(s.at(b.own_early[0]) + i * sizeof(uint64_t), 1);
            barrier_init(s.at(b.own_solved[0]) + i * sizeof(uint64_t), 1);
        }
        return pair::init_chain_barriers(s);
    }
    for (int i = 0; i < pair::kOwnStages; i++) {
        barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.own_early[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.own_free[i]), 1 + kWarpArrivals);
    }
    for (int i = 0; i < kSlots; i++) barrier_init(s.at(b.slot_free[i]), kChains);
}

__device__ __forceinline__ void run_chain(const Params &p, const View &s, int rank, int cluster, int warp, int lane) {
    if (warp < 4) {
        grow_registers<pair::kChainRegisters>();
        return pair::ChainRole<pair::Places::Quad>{p, s, rank, cluster, warp, lane}.run();
    }
    if (warp < pair::kLoadWarp || warp >= pair::kWarps) return shrink_registers<pair::kIdleRegisters>();
    shrink_registers<pair::kSingleRegisters>();
    if (warp == pair::kLoadWarp) pair::LoadRole<false, true>{p, s, rank, cluster, lane}.run();
    else if (warp == pair::kStoreWarp) pair::StoreRole<pair::Places::Quad>{p, s, rank, cluster, lane}.run();
}

__device__ __forceinline__ void run_preparer(const Params &p, const View &s, int preparer, int cluster, int warp, int lane) {
    if (warp < 4 || warp >= pair::kWarps) return shrink_registers<pair::kIdleRegisters>();
    if (warp < pair::kLoadWarp) {
        shrink_registers<pair::kPrepareRegisters>();
        return pair::OperandRole{p, s, warp / 4 - 1, preparer, warp % 4, lane}.run();
    }
    shrink_registers<pair::kSingleRegisters>();
    if (warp == pair::kLoadWarp) pair::LoadRole<true, false>{p, s, preparer, cluster, lane}.run();
    else if (warp == kSendWarp) SendRole{p, s, preparer, cluster, lane}.run();
    else SolveRole{{p, s, warp - pair::kFirstSolveWarp, preparer, lane}}.run();
}

// What a block does once its barriers stand; the cluster meets as in the pair.
__device__ __forceinline__ void run(const Params &p, const View &s) {
    cluster_sync();
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0), lane = lane_here();
    const int rank = blockIdx.x % kRanks, cluster = blockIdx.x / kRanks;
    if (rank < kChains) run_chain(p, s, rank, cluster, warp, lane);
    else run_preparer(p, s, rank - kChains, cluster, warp, lane);
    __syncwarp();
    cluster_sync();
}

}  // namespace fkdai::prefill::quad

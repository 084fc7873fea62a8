// pair_kernel.cuh: one fused kernel, a cluster of two CTAs per (sequence, head). See prefill.md.
//
//     S <- Diag(alpha) S;  u = beta (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
//
// Each CTA owns 64 of the 128 rows of V and runs the recurrence for them (ChainRole). The operands of a chunk do
// not depend on the state: the CTAs prepare alternate chunks and send them to each other through shared memory.
#pragma once

#include "../device/registers.cuh"
#include "pair_chain.cuh"
#include "pair_load.cuh"
#include "pair_operands.cuh"
#include "pair_solve.cuh"
#include "pair_store.cuh"
#include "prefill_begin.cuh"

namespace fkdai::prefill::pair {

__device__ __forceinline__ void init_barriers(const View &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kOwnStages; i++) {
        barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.akk_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.own_ready[i]), kWarpArrivals);
        barrier_init(s.at(b.own_free[i]), kRanks);
    }
    for (int i = 0; i < kReceivedStages; i++) {
        barrier_init(s.at(b.received_ready[i]), 1);
        barrier_init(s.at(b.received_free[i]), 1);
    }
    for (int i = 0; i < kValueStages; i++) {
        barrier_init(s.at(b.value_ready[i]), 1);
        barrier_init(s.at(b.value_free[i]), 4 * kWarpArrivals);
    }
    for (int i = 0; i < kDoneStages; i++) barrier_init(s.at(b.chunk_done[i]), 4 * kWarpArrivals);
    for (int i = 0; i < kOutStages; i++) {
        barrier_init(s.at(b.out_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.out_free[i]), kWarpArrivals);
    }
    fence_barrier_init();
}

__device__ __forceinline__ void run_role(const Params &p, const View &s) {
    // The shuffle tells the compiler that the warp index is uniform: descriptors go to uniform registers.
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    const int rank = blockIdx.x % kRanks, cluster = blockIdx.x / kRanks;
    if (warp < 4) {
        grow_registers<kChainRegisters>();
        ChainRole{p, s, rank, cluster, warp, lane}.run();
    } else if (warp < kLoadWarp) {
        shrink_registers<kPrepareRegisters>();
        OperandRole{p, s, warp / 4 - 1, rank, warp % 4, lane}.run();
    } else {
        shrink_registers<kSingleRegisters>();
        if (warp != kLoadWarp) cluster_wait();  // the peer's barriers exist before anyone arrives on them
        if (warp == kLoadWarp) LoadRole{p, s, rank, cluster, lane}.run();
        else if (warp == kStoreWarp) StoreRole{p, s, rank, cluster, lane}.run();
        else SolveRole{p, s, warp - kFirstSolveWarp, rank, lane}.run();
    }
    __syncwarp();
    if (warp <= kLoadWarp) cluster_wait();
}

__global__ void __cluster_dims__(kRanks, 1, 1) __launch_bounds__(kThreads, 1)
pair_kernel(const __grid_constant__ Params p) {
    Smem &memory = dynamic_shared<Smem>();
    const View s{&memory, uniform(shared_address(&memory))};
    if (threadIdx.x == 32 * kLoadWarp) prefetch_map(p.q), prefetch_map(p.k), prefetch_map(p.g), prefetch_map(p.v);
    if (threadIdx.x == 0) init_barriers(s);
    clear_triangles<kOwnStages, kThreads>(s);
    if (!has_work<kThreads>(p, false, &s->akk[0][0][0])) return;  // all blocks do
    __syncthreads();
    cluster_arrive();
    run_role(p, s);
    cluster_sync();  // nobody leaves while the peer may still write here
}

}  // namespace fkdai::prefill::pair

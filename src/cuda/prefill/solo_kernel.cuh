// solo_kernel.cuh: one fused kernel, a CTA per (sequence, head), for calls with enough of them. See prefill.md.
//
//     S <- Diag(alpha) S;  u = beta (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
//
// The same steps in the same order as the pair's (pair_kernel.cuh), so the same bits; who does them differs.
#pragma once

#include "../device/registers.cuh"
#include "prefill_begin.cuh"
#include "solo_chain.cuh"
#include "solo_operands.cuh"

namespace fkdai::prefill::solo {

__device__ __forceinline__ void init_barriers(const View &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kRawBarriers; i++) barrier_init(s.at(b.raw_ready[i]), 1);
    for (int i = 0; i < kPrepareGroups; i++) {
        barrier_init(s.at(b.norms_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.akk_ready[i]), 2 * kWarpArrivals);
    }
    for (int i = 0; i < kStages; i++) {
        barrier_init(s.at(b.own_ready[i]), 3 * kWarpArrivals);
        barrier_init(s.at(b.chunk_done[i]), kChainWarps * kWarpArrivals);
    }
    for (int i = 0; i < kValueStages; i++) barrier_init(s.at(b.value_ready[i]), 1);
    fence_barrier_init();
}

__device__ __forceinline__ void run_role(const Params &p, const View &s) {
    const int warp = __shfl_sync(~0u, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    if (warp < kChainWarps) {
        grow_registers<kChainRegisters>();
        ChainRole{p, s, warp / 4, warp % 4, lane}.run();
    } else {
        shrink_registers<kPrepareRegisters>();
        OperandRole{p, s, (warp - kChainWarps) / 4, warp % 4, lane}.run();
    }
}

__global__ void __launch_bounds__(kThreads, 1) solo_kernel(const __grid_constant__ Params p) {
    Smem &memory = dynamic_shared<Smem>();
    const View s{&memory, uniform(shared_address(&memory))};
    if (threadIdx.x == 32 * kChainWarps) prefetch_map(p.q), prefetch_map(p.k), prefetch_map(p.g), prefetch_map(p.v), prefetch_map(p.o);
    if (threadIdx.x == 0) init_barriers(s);
    clear_triangles<kStages, kThreads>(s);
    if (!has_work<kThreads>(p, true, &s->akk[0][0][0])) return;  // all blocks do
    if (p.workers.pair > 0) release_next_kernel();  // that of the pairs, which finds nothing to do: it may as well be there already
    __syncthreads();
    run_role(p, s);
}

}  // namespace fkdai::prefill::solo

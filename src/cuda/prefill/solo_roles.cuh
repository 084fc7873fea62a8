// Solo: a CTA per (sequence, head), for calls with enough of them.
#pragma once

#include "../device/registers.cuh"
#include "solo_chain.cuh"
#include "solo_load.cuh"
#include "solo_operands.cuh"
#include "solo_solve.cuh"

namespace fkdai::prefill::solo {

__device__ __forceinline__ void init_barriers(const View &s) {
    const Barriers &b = s->barriers;
    for (int i = 0; i < kStages; i++) {
        barrier_init(s.at(b.raw_ready[i]), 1);
        barrier_init(s.at(b.early[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.solved[i]), kWarpArrivals);
        barrier_init(s.at(b.chunk_done[i]), kChainWarps * kWarpArrivals);
    }
    for (int i = 0; i < kValueStages; i++) barrier_init(s.at(b.value_ready[i]), 1);
}

// What a block does once its barriers stand. Clusters have two blocks, so there may be one more than there are workers.
__device__ __forceinline__ void run(const Params &p, const View &s) {
    if (static_cast<int>(blockIdx.x) >= p.workers.solo) return;
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0);
    if (warp < kChainWarps) {
        grow_registers<kChainRegisters>();
        return ChainRole{p, s, warp / 4, warp % 4, lane_here()}.run();
    }
    if (warp < kLoadWarp) {
        shrink_registers<kPrepareRegisters>();
        return OperandRole{p, s, (warp - kChainWarps) / 4, warp % 4}.run();
    }
    shrink_registers<kSingleRegisters>();
    if (warp == kLoadWarp) LoadRole{p, s}.run();
    else if (warp >= kFirstSolveWarp) SolveRole{p, s, warp - kFirstSolveWarp}.run();
}

}  // namespace fkdai::prefill::solo

// One fused kernel for every GPU since sm_80; a block has one (sequence, value head), or a slice of its columns of V. See prefill_mma.md.
//
//     S <- Diag(alpha) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
#pragma once

#include "device/dependent_launch.cuh"
#include "prefill_mma/mma_chain.cuh"
#include "prefill_mma/mma_prepare.cuh"
#include "prefill_mma/mma_refuse.cuh"

namespace fkdai::portable {

__device__ __forceinline__ void clear(uint32_t at, uint32_t bytes, int threads) {
    for (uint32_t i = static_cast<uint32_t>(thread_here()) * 16; i < bytes; i += static_cast<uint32_t>(threads) * 16) store_uint4(at + i, 0, 0, 0, 0);
}

// What is written here and never again: channels beyond K, the barriers, where the block's work lies.
template <bool with_checkpoints>
__device__ __forceinline__ void begin(const Params &p, const View &s, int threads) {
    if (p.K < kWidth) clear(s.at(s->raw), sizeof(Smem::raw), threads);
    if (thread_here() >= 32) return;
    const Work work = Work::of(p, static_cast<int>(blockIdx.x));
    const Steps<with_checkpoints> steps{p, work, lane_here()};
    const int64_t first_checkpoint = steps.begin();
    const Step first = steps.first(), second = steps.behind(first);
    if (thread_here() > 0) return;
    s->work = work, s->first_checkpoint = first_checkpoint, s->steps[0] = first, s->steps[1] = second;
    for (int i = 0; i < kStages; i++) {
        operands_ready(s.stage(i)).init(kPrepareWarps);
        scores_ready(s.stage(i)).init(kPrepareWarps);
        solve_ready(s.stage(i)).init(1);
        chunk_done(s.stage(i)).init(static_cast<uint32_t>(p.chain_warps));
    }
}

// Made anew by every role: what lives from the start of the kernel on costs a register in all of them.
__device__ __forceinline__ View view_here() {
    Smem &memory = dynamic_shared<Smem, kAlignment>();
    return {&memory, uniform(shared_address(&memory))};
}

template <bool is_bounded, bool with_checkpoints>
__global__ void __launch_bounds__(kMostThreads, 1) mma_prefill_kernel(const __grid_constant__ Params p) {
    const int threads = 32 * (kPrepareWarps + p.solve_warps + p.chain_warps), warp = uniform(thread_here() / 32);
    release_next_kernel();
    await_previous_kernel();
    if (p.is_cut != nullptr && (*p.is_cut != 0) != p.wants_cut) return;  // another launch does the call
    if (seqlens_are_broken(p, threads)) return refuse(p, threads);  // all blocks do
    if (p.spans != nullptr && (p.spans[static_cast<int>(blockIdx.x) / p.slices / p.heads].flags & FKDAI_SPAN_UNWANTED) != 0) return;
    begin<with_checkpoints>(p, view_here(), threads);
    __syncthreads();
    if (warp < p.chain_warps) return ChainRole<with_checkpoints>{p, view_here()}.run();
    if (warp < p.chain_warps + kPrepareWarps)
        return PrepareRole<is_bounded, with_checkpoints>{PrepareWarp::of(p, view_here(), warp - p.chain_warps)}.run();
    SolveRole::of(p, view_here()).run(warp - p.chain_warps - kPrepareWarps);
}

}  // namespace fkdai::portable

// A call whose cu_seqlens is not 0 = c[0] <= ... <= c[N] <= T: out and the states become NaN. Every block finds out for itself.
#pragma once

#include "prefill_mma/mma_params.cuh"

namespace fkdai::portable {

inline constexpr uint32_t kNaN32 = 0x7fffffff;
inline constexpr uint16_t kNaN16 = 0x7fff;

// All threads of the block.
__device__ __forceinline__ bool seqlens_are_broken(const Params &p, int threads) {
    const Sequences &of = p.sequences;
    if (p.spans != nullptr) return p.spans[0].length < 0;
    if (of.cu_seqlens == nullptr) return false;
    bool is_broken = false;
#pragma unroll 1
    for (int n = thread_here(); n <= of.count; n += threads) is_broken |= of.is_broken_at(n);
    return __syncthreads_or(is_broken);
}

// `count` states become NaN, but for those that have no row or are not wanted.
template <class IsWanted>
__device__ __forceinline__ void refuse_states(const Params &p, const StateTable &of, int64_t count, int64_t thread, int64_t step,
                                              const IsWanted &is_wanted) {
    const int64_t matrices = static_cast<int64_t>(p.heads) * p.K * p.V;
    if (of.element == Element::Absent) return;
#pragma unroll 1
    for (int64_t i = thread; i < count * matrices; i += step) {
        if (!is_wanted(i / matrices)) continue;
        const int64_t row = of.row_of(i / matrices, p.status), at = row * of.row_stride + i % matrices;
        if (row == kNoRow) continue;
        if (of.element == Element::F32) static_cast<uint32_t *>(of.data)[at] = kNaN32;
        else static_cast<uint16_t *>(of.data)[at] = kNaN16;
    }
}

// All threads of the grid. Packed: no batch axis.
__device__ __forceinline__ void refuse(const Params &p, int threads) {
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * threads + thread_here(), step = static_cast<int64_t>(gridDim.x) * threads;
    const int64_t rows = static_cast<int64_t>(p.sequences.tokens) * p.heads;
    if (thread == 0) report(p.status, kBrokenSeqlens);
#pragma unroll 1
    for (int64_t i = thread; i < rows * p.V; i += step) {
        const int64_t row = i / p.V, at = p.out_strides.offset(0, row / p.heads, row % p.heads) + i % p.V;
        reinterpret_cast<uint16_t *>(p.out)[at] = kNaN16;
    }
    refuse_states(p, p.final_state, p.sequences.count, thread, step, [](int64_t) { return true; });
    const int64_t most = p.every > 0 ? p.sequences.tokens / p.every : static_cast<int64_t>(p.sequences.count) * p.per_sequence;
    refuse_states(p, p.checkpoints, most < p.checkpoint_count ? most : p.checkpoint_count, thread, step,
                  [&](int64_t i) { return p.every > 0 || p.offsets.at(i) > 0; });
}

}  // namespace fkdai::portable

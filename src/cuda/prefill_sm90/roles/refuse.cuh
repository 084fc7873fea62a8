// A call whose cu_seqlens is not 0 = c[0] <= ... <= c[N] <= T.
//
// Only the device reads the array, after the call has returned. All blocks find the same answer before any of them starts a role,
// and then fill out, final states and checkpoints with NaN instead. A good array costs no pass of its own: the roles read the same
// entries next, and find them in L1.
#pragma once

#include "prefill_sm90/problem/params.cuh"

namespace fkdai::prefill {

inline constexpr uint32_t kNaN32 = 0x7fffffff;
inline constexpr uint16_t kNaN16 = 0x7fff;

// All threads of the block call it. A schedule says so, in two words that are read side by side because the roles need both next; without
// one N <= workers, and the block looks itself.
template <int threads, bool is_lone>
__device__ __forceinline__ bool seqlens_are_broken(const Params &p) {
    const Sequences &of = p.sequences;
    if (of.cu_seqlens == nullptr) return false;
    if (!is_lone && p.schedule.cut != nullptr) {
        const Schedule schedule = p.schedule_here();
        return (schedule.cut->span == 0) | (schedule.prefix[of.count] == 0);
    }
    bool is_broken = false;
#pragma unroll 1
    for (int n = thread_here(); n <= of.count; n += threads) is_broken |= of.is_broken_at(n);
    return __syncthreads_or(is_broken);
}

// State i of so many becomes NaN if is_wanted(i), but for those that have no row. A block has every gridDim.x-th. Little code, without division: it
// stands before that of the roles.
template <int threads, class IsWanted>
__device__ __forceinline__ void refuse_states(const Params &p, const States &of, int64_t count, const IsWanted &is_wanted) {
    const bool is_wide = of.element == Element::F32;
    const int64_t words = int64_t{p.heads} * (kWidth * kWidth) / (is_wide ? 1 : 2);
    if (of.element == Element::Absent) return;
#pragma unroll 1
    for (int64_t i = blockIdx.x; i < count; i += gridDim.x) {
        const int64_t row = is_wanted(i) ? of.row_of(i, p.status) : kNoRow;
        if (row == kNoRow) continue;
        auto *const to = static_cast<uint32_t *>(of.address(row, 0, 0));
#pragma unroll 1
        for (int64_t word = thread_here(); word < words; word += threads) to[word] = is_wide ? kNaN32 : kNaN16 * 0x10001u;
    }
}

// out [T,HV,V] and the states become NaN; the status word gets its bit. All threads of the grid. Packed: no batch axis.
template <int threads>
__device__ __forceinline__ void refuse(const Params &p) {
    constexpr uint32_t kPair = kNaN16 * 0x10001u;
    constexpr int kUnits = kWidth * sizeof(__nv_bfloat16) / sizeof(uint4);  // of one row of out
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * threads + thread_here(), step = static_cast<int64_t>(gridDim.x) * threads;
    const int64_t rows = static_cast<int64_t>(p.sequences.tokens) * p.heads;
    if (thread == 0) report(p.status, kBrokenSeqlens);
#pragma unroll 1
    for (int64_t i = thread; i < rows * kUnits; i += step) {
        const int64_t row = i / kUnits, at = p.out_strides.offset(0, row / p.heads, row % p.heads) + i % kUnits * 8;
        *reinterpret_cast<uint4 *>(p.out + at) = make_uint4(kPair, kPair, kPair, kPair);
    }
    refuse_states<threads>(p, p.final_state, p.sequences.count, [](int64_t) { return true; });
    const Checkpoints &checkpoints = p.checkpoints;
    const int64_t most = p.mark_every > 0 ? p.marks_of(p.sequences.tokens) : int64_t{p.sequences.count} * p.per_sequence;
    refuse_states<threads>(p, checkpoints.states, most < checkpoints.count ? most : checkpoints.count,
                           [&](int64_t i) { return p.mark_every > 0 || p.offsets.at(i) > 0; });
}

}  // namespace fkdai::prefill

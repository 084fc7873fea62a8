// A call whose cu_seqlens is not 0 = c[0] <= ... <= c[N] <= T.
//
// Only the device reads the array, after the call has returned. All blocks find the same answer before any of them starts a role,
// and then fill out, final states and checkpoints with NaN instead. A good array costs no pass of its own: the roles read the same
// entries next, and find them in L1.
#pragma once

#include "device/sm90/barrier.cuh"
#include "prefill_sm90/problem/params.cuh"

namespace fkdai::prefill {

inline constexpr uint32_t kNaN32 = 0x7fffffff;
inline constexpr uint16_t kNaN16 = 0x7fff;

// A schedule says so, in two words that are read side by side because the roles need both next; without one N <= workers, and the block looks itself:
// all of its threads, or all but those of a load warp that asks first, which looks for itself.
template <int threads, bool is_lone>
__device__ __forceinline__ bool seqlens_are_broken(const Params &p, int load_warp) {
    const Sequences &of = p.sequences;
    if (of.cu_seqlens == nullptr) return false;
    if (!is_lone && p.schedule.cut != nullptr) {
        const Schedule schedule = p.schedule_here();
        return (schedule.cut->span == 0) | (schedule.prefix[of.count] == 0);
    }
    const bool skips = load_warp >= 0, is_behind = skips && thread_here() >= 32 * load_warp;
    const int lookers = skips ? threads - 32 : threads;
    bool is_broken = false;
#pragma unroll 1
    for (int n = thread_here() - (is_behind ? 32 : 0); n <= of.count; n += lookers) is_broken |= of.is_broken_at(n);
    return block_or(lookers, is_broken);
}
// By one warp.
__device__ __forceinline__ bool warp_finds_broken(const Params &p) {
    bool is_broken = false;
    if (p.sequences.cu_seqlens == nullptr) return false;
#pragma unroll 1
    for (int n = lane_here(); n <= p.sequences.count; n += 32) is_broken |= p.sequences.is_broken_at(n);
    return __any_sync(~0u, is_broken);
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
template <int threads, bool is_plain>
__device__ __forceinline__ void refuse(const Params &p) {
    constexpr uint32_t kPair = kNaN16 * 0x10001u;
    constexpr int kUnits = kWidth * sizeof(__nv_bfloat16) / sizeof(uint4);  // of one row of out
    if (blockIdx.x == 0 && thread_here() == 0) report(p.status, kBrokenSeqlens);
#pragma unroll 1
    for (int64_t token = blockIdx.x; token < p.sequences.tokens; token += gridDim.x)
#pragma unroll 1
        for (int head = thread_here() / kUnits; head < p.heads; head += threads / kUnits)
            *reinterpret_cast<uint4 *>(p.out + p.out_strides.offset(0, token, head) + thread_here() % kUnits * 8) = make_uint4(kPair, kPair, kPair, kPair);
    refuse_states<threads>(p, p.final_state, p.sequences.count, [](int64_t) { return true; });
    if (is_plain) return;
    const Checkpoints &checkpoints = p.checkpoints;
    const int64_t most = p.mark_every > 0 ? p.marks_of(p.sequences.tokens) : int64_t{p.sequences.count} * p.per_sequence;
    refuse_states<threads>(p, checkpoints.states, most < checkpoints.count ? most : checkpoints.count,
                           [&](int64_t i) { return p.mark_every > 0 || p.offsets.at(i) > 0; });
}

}  // namespace fkdai::prefill

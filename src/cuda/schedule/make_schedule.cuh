// The schedule of a call that needs one, made by every block for itself or, for many sequences, once before.
#pragma once

#include <cmath>

#include "device/scalar_math.cuh"
#include "schedule/jobs.cuh"

namespace fkdai {

inline constexpr int kBrokenWeight = 0x7fffffff;    // a job that no span holds: a broken entry travels with the longest one

// Jobs: how many, and units of the longest one and of all of them, but for job_cost.
struct JobSums {
    int64_t count, longest, total;
};

// The workers that end first.
__host__ __device__ inline Cut best_cut(const WorkerKind (&kinds)[kWorkerKinds], const JobSums &jobs) {
    int best = 0;
    float least = INFINITY;    // 24 bits will do: two that are as near as that end together
    for (int i = 0; i < kWorkerKinds; i++) {
        const WorkerKind &kind = kinds[i];
        if (kind.count == 0) continue;
        const float equal = static_cast<float>(jobs.total + jobs.count * kind.job_cost) / static_cast<float>(kind.count);
        const float longest = static_cast<float>(jobs.longest + kind.job_cost), span = equal > longest ? equal : longest;
        const float cost = static_cast<float>(kind.chunk_cost) * span + static_cast<float>(kind.start_cost);
        if (cost < least) least = cost, best = i;
    }
    WorkerKind kind = kinds[0];
    for (int i = 1; i < kWorkerKinds; i++) kind = best == i ? kinds[i] : kind;
    const int64_t equal = (jobs.total + jobs.count * kind.job_cost + kind.count - 1) / kind.count, longest = jobs.longest + kind.job_cost;
    return {equal > longest ? equal : longest, best};
}

// Of a dense call without offsets of checkpoints, whose units an int holds in sum.
template <int kChunk>
inline EqualJobs equal_jobs(const Timeline &timeline) {
    const int length = timeline.sequences.tokens, units = chunk_count<kChunk>(length) + timeline.mark_units<kChunk>(length);
    const int64_t jobs = static_cast<int64_t>(timeline.sequences.count) * timeline.heads;
    const Cut cut = best_cut(timeline.kinds, {jobs, units, units * jobs});
    return {units + timeline.job_cost, static_cast<int>(cut.span), cut.kind};
}

// The kind of the workers that end first, before anybody makes a schedule: of few sequences. 0 if cu_seqlens is broken. Whole warps. is_plain: there
// are no checkpoints.
template <int kChunk, bool is_plain>
__device__ __forceinline__ int best_kind(const Timeline &timeline) {
    const int count = timeline.sequences.count;
    uint32_t units = 0, longest = 0;
    bool is_broken = timeline.sequences.is_broken_at(count);
#pragma unroll 1
    for (int n = lane_here(); n < count; n += 32) {
        bool is_broken_here;
        const int length = timeline.sequences.span(n, is_broken_here).length;
        const auto weight = static_cast<uint32_t>(is_plain ? chunk_count<kChunk>(length) : timeline.units<kChunk>(n, length));
        units += weight, longest = max(longest, weight), is_broken |= is_broken_here;
    }
    if (__any_sync(~0u, is_broken)) return 0;
    const int64_t heads = timeline.heads;
    return best_cut(timeline.kinds, {count * heads, warp_max(longest), warp_sum(units) * heads}).kind;
}

// Inclusive prefix sum and maximum over the block. scratch: a word a warp, twice.
template <int threads>
__device__ __forceinline__ void block_scan(int &sum, int &longest, int *scratch) {
    constexpr int kWarps = threads / 32;
    int *const sums = scratch, *const maxima = scratch + kWarps;
    const int lane = thread_here() % 32, warp = thread_here() / 32;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        const int other = __shfl_up_sync(~0u, sum, d);
        if (lane >= d) sum += other;
        longest = max(longest, __shfl_xor_sync(~0u, longest, d));
    }
    if (lane == 31) sums[warp] = sum, maxima[warp] = longest;
    __syncthreads();
    int before = lane < warp ? sums[lane] : 0;
    longest = lane < kWarps ? maxima[lane] : 0;
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
        before += __shfl_xor_sync(~0u, before, d);
        longest = max(longest, __shfl_xor_sync(~0u, longest, d));
    }
    sum += before;
}

// The marks of the sequences before each. All threads of a block, with its own range of sequences; scratch as above.
template <int threads>
__device__ __forceinline__ void count_marks(const Timeline &timeline, const Schedule &out, int first, int last, int *scratch) {
    int marks = 0, unused = 0;
    for (int n = first; n < last; n++) marks += timeline.marks_of(out.sequence[n].y);
    __syncthreads();
    int end = marks;
    block_scan<threads>(end, unused, scratch);
    int at_n = end - marks;
    for (int n = first; n < last; n++) {
        out.marks[n] = at_n;
        at_n += timeline.marks_of(out.sequence[n].y);
    }
}

// All threads of a block, which then see it. `scratch` lies in shared memory, 16-byte aligned. is_plain: as above.
template <int kChunk, int threads, bool is_plain = false>
__device__ void make_schedule(const Timeline &timeline, const Schedule &out, void *scratch) {
    const Sequences &sequences = timeline.sequences;
    const int each = (sequences.count + threads - 1) / threads;
    const int first = min(thread_here() * each, sequences.count), last = min(first + each, sequences.count);
    int units = 0, longest = 0;
    for (int n = first; n < last; n++) {
        bool is_broken;
        const SequenceSpan at_n = sequences.span(n, is_broken);
        const int weight = timeline.job_cost + (is_plain ? chunk_count<kChunk>(at_n.length) : timeline.units<kChunk>(n, at_n.length));
        out.sequence[n] = make_int2(at_n.start, at_n.length), out.prefix[n] = weight;
        units += weight, longest = max(longest, is_broken ? kBrokenWeight : weight);
    }
    if (thread_here() == 0 && sequences.is_broken_at(sequences.count)) longest = kBrokenWeight;
    int end = units;
    block_scan<threads>(end, longest, static_cast<int *>(scratch));
    int at_n = end - units;
    for (int n = first; n < last; n++) {
        const int weight = out.prefix[n];
        out.prefix[n] = at_n;
        at_n += weight;
    }
    if (!is_plain && out.marks != nullptr) count_marks<threads>(timeline, out, first, last, static_cast<int *>(scratch));
    if (thread_here() == threads - 1) {
        const int64_t jobs = static_cast<int64_t>(sequences.count) * timeline.heads, total = static_cast<int64_t>(end) * timeline.heads;
        const bool is_broken = longest == kBrokenWeight;
        out.prefix[sequences.count] = is_broken ? 0 : end;
        *out.cut = is_broken ? Cut{} : best_cut(timeline.kinds, {jobs, longest - timeline.job_cost, total - jobs * timeline.job_cost});
    }
    __syncthreads();
}

}  // namespace fkdai

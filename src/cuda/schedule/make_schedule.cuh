// The schedule of a call that needs one, made by every block for itself or, for many sequences, once before.
#pragma once

#include "device/scalar_math.cuh"
#include "schedule/jobs.cuh"

namespace fkdai {

inline constexpr int kBrokenWeight = 0x7fffffff;    // a job that no span holds: a broken entry travels with the longest one

// The workers that end first: `total` units on the timeline, `longest` of them in one job.
__host__ __device__ inline Cut best_cut(const WorkerKind (&kinds)[2], int64_t longest, int64_t total) {
    const auto span = [&](const WorkerKind &kind) {
        const int64_t equal = (total + kind.count - 1) / kind.count;
        return equal > longest ? equal : longest;
    };
    if (kinds[0].count == 0) return {span(kinds[1]), 1};
    const bool is_second = kinds[1].count > 0 && kinds[1].chunk_cost * span(kinds[1]) < kinds[0].chunk_cost * span(kinds[0]);
    return {is_second ? span(kinds[1]) : span(kinds[0]), is_second};
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

// All threads of a block, which then see it. `scratch` lies in shared memory, 16-byte aligned.
template <int kChunk, int threads>
__device__ void make_schedule(const Timeline &timeline, const Schedule &out, void *scratch) {
    const Sequences &sequences = timeline.sequences;
    const int each = (sequences.count + threads - 1) / threads;
    const int first = min(thread_here() * each, sequences.count), last = min(first + each, sequences.count);
    int units = 0, longest = 0;
    for (int n = first; n < last; n++) {
        bool is_broken;
        const SequenceSpan at_n = sequences.span(n, is_broken);
        const int weight = chunk_count<kChunk>(at_n.length) + kJobCost + timeline.stop_units<kChunk>(n, at_n.length);
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
    if (out.marks != nullptr) count_marks<threads>(timeline, out, first, last, static_cast<int *>(scratch));
    if (thread_here() == threads - 1) {
        const int64_t total = static_cast<int64_t>(end) * timeline.heads;
        const bool is_broken = longest == kBrokenWeight;
        out.prefix[sequences.count] = is_broken ? 0 : end;
        *out.cut = is_broken ? Cut{} : best_cut(timeline.kinds, longest, total);
    }
    __syncthreads();
}

}  // namespace fkdai

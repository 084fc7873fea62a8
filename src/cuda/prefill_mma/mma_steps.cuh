// The steps of a block: its chunks, and before a chunk one silent step for each checkpoint inside it.
//
// A checkpoint after `o` tokens is the state that a run of these o tokens alone would end with, bit for bit. At a border of chunks, or at the end of
// the sequence, that is the state as it passes. Inside a chunk it is the end of a chunk of fewer tokens: a silent step sees these alone, writes no
// out, and leaves the state as it was.
#pragma once

#include "prefill_mma/mma_params.cuh"

namespace fkdai::portable {

// By whole warps, which go through the same steps. with_checkpoints: the call has some; else their code, which is rarely wanted, is not there to be
// jumped over.
template <bool with_checkpoints>
struct Steps {
    const Params &p;
    const Work &work;
    int lane;

    __device__ __forceinline__ Step first() const { return from(0, 0); }
    __device__ __forceinline__ Step behind(const Step &step) const {
        const bool is_silent = with_checkpoints && step.is_silent();
        return from(step.chunk() + (is_silent ? 0 : 1), is_silent ? step.rows() : 0);
    }

    // The next one behind `inside` tokens of a chunk.
    __device__ __forceinline__ Step from(int chunk, int inside) const {
        if (chunk >= work.chunks) return Step::none();
        const int start = chunk * kChunk, rows = work.rows(chunk);
        if constexpr (with_checkpoints)
            if (const int tokens = checkpoint_between(start + inside, start + rows); tokens > 0) return {chunk, tokens - start, true};
        return {chunk, rows};
    }
    // The first one after more than `low` and less than `high` tokens; 0: none.
    __device__ __forceinline__ int checkpoint_between(int low, int high) const {
        if (p.every > 0) {
            const int64_t tokens = (int64_t{low / p.every} + 1) * p.every;
            return tokens < high ? static_cast<int>(tokens) : 0;
        }
        uint32_t first = 0x7fffffff;
#pragma unroll 1
        for (int i = lane; i < p.per_sequence; i += 32) {
            const int64_t tokens = offset(i);
            if (tokens > low && tokens < high) first = min(first, static_cast<uint32_t>(tokens));
        }
        first = warp_min(first);
        return first == 0x7fffffff ? 0 : static_cast<int>(first);
    }
    __device__ __forceinline__ int64_t offset(int i) const { return p.offsets.at(static_cast<int64_t>(work.sequence) * p.per_sequence + i); }

    // Calls f(row of the table) for each checkpoint after so many tokens.
    template <class F>
    __device__ __forceinline__ void at(int tokens, int64_t first_checkpoint, const F &f) const {
        if (p.every > 0) {
            if (tokens % p.every == 0) visit(first_checkpoint + tokens / p.every - 1, f);
            return;
        }
#pragma unroll 1
        for (int i = 0; i < p.per_sequence; i++)
            if (offset(i) == tokens) visit(static_cast<int64_t>(work.sequence) * p.per_sequence + i, f);
    }
    template <class F>
    __device__ __forceinline__ void visit(int64_t number, const F &f) const {
        if (number >= p.checkpoint_count) return report(p.status, kBrokenCheckpoint);
        const int64_t row = p.checkpoints.row_of(number, p.status);
        if (row != kNoRow) f(row);
    }

    // Before the first step, by one warp of the block: reports checkpoints beyond the sequence; how many those before it have.
    __device__ __forceinline__ int64_t begin() const {
        if (!with_checkpoints) return 0;
        if (p.every > 0) {
            if (!p.is_packed()) return static_cast<int64_t>(work.sequence) * (p.sequences.tokens / p.every);
            uint32_t marks = 0;
#pragma unroll 1
            for (int n = lane; n < work.sequence; n += 32) marks += static_cast<uint32_t>(p.span(n).length / p.every);
            return warp_sum(marks);
        }
        bool is_broken = false;
#pragma unroll 1
        for (int i = lane; i < p.per_sequence; i += 32) is_broken |= offset(i) > work.span.length;
        if (is_broken) report(p.status, kBrokenCheckpoint);
        return 0;
    }
};

}  // namespace fkdai::portable

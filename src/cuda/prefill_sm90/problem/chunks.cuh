// What the roles of the prefill kernels share: how they see shared memory, and which chunks come next.
#pragma once

#include "device/sm90/barrier.cuh"
#include "device/scalar_math.cuh"
#include "device/shared_access.cuh"
#include "prefill_sm90/problem/params.cuh"
#include "prefill_sm90/problem/prefill_marks.cuh"

namespace fkdai::prefill {

// The block's shared memory, and its 32-bit address: computed once and kept, since the compiler would otherwise
// derive it anew, from a special register, at every use.
template <class Smem>
struct SharedView {
    Smem *memory;
    uint32_t base;
    __device__ __forceinline__ Smem *operator->() const { return memory; }
    template <class T>
    __device__ __forceinline__ uint32_t at(const T &member) const {
        return base + static_cast<uint32_t>(reinterpret_cast<const uint8_t *>(&member) - reinterpret_cast<const uint8_t *>(memory));
    }
};

// Where turn n of a ring lies, and the parity of the phase that its barriers are waited for.
struct RingSlot {
    uint32_t index, phase;
};
template <int count>
__device__ __forceinline__ RingSlot ring_slot(uint32_t n) { return {n % count, (n / count) & 1}; }

// The blocks of T and M above the diagonal are written here and never again. All threads of the block.
template <int stages, int threads, class Smem>
__device__ __forceinline__ void clear_triangles(const SharedView<Smem> &s) {
    constexpr int kUnits = sizeof(Stage::mqk) / sizeof(uint4);
    for (int unit = thread_here(); unit < 2 * kUnits * stages; unit += threads) {
        const Stage &stage = s->stages[unit / (2 * kUnits)];
        store_uint4((unit & kUnits ? s.at(stage.mqk) : s.at(stage.solve)) + unit % kUnits * uint32_t{sizeof(uint4)}, 0, 0, 0, 0);
    }
    fence_async_proxy();
}

// All chunks of a worker, one at a time: a whole warp iterates, and the compiler knows that its lanes agree.
struct ChunkIterator {
    PieceIterator<kChunk> pieces;
    Piece piece;
    int chunk;        // inside the sequence
    uint32_t number;  // on the worker's timeline, from 0
    bool valid;

    __device__ ChunkIterator(const Timeline &timeline, int worker) : pieces(timeline, worker), chunk(0), number(0) { open_piece(timeline); }
    __device__ void open_piece(const Timeline &timeline) {
        do valid = uniform(pieces.next(timeline, piece));
        while (valid && uniform(piece.begin == piece.end));
        chunk = valid ? piece.begin : 0;
    }
    __device__ void advance(const Timeline &timeline) {
        number++;
        if (uniform(++chunk == piece.end)) open_piece(timeline);
    }
    // rows: 0 behind the last chunk.
    __device__ ChunkInfo info() const {
        const int left = piece.sequence.length - chunk * kChunk;
        return {uniform(static_cast<int>(piece.sequence.start) + chunk * kChunk), uniform(piece.head), uniform(piece.sequence.batch),
                static_cast<uint8_t>(!valid ? 0 : left < kChunk ? left : kChunk), false};
    }
};

// Elements from the start of a state tensor to one half of the rows of V of a job.
__device__ __forceinline__ int64_t matrix_offset(const Piece &piece, int64_t row_stride, int half) {
    return piece.sequence_index * row_stride + static_cast<int64_t>(piece.head * kHalves + half) * (kHalf * kWidth);
}

}  // namespace fkdai::prefill

// What the roles of the prefill kernels share: how they see shared memory, and which chunks come next.
#pragma once

#include "../device/barrier.cuh"
#include "../device/scalar_math.cuh"
#include "../device/shared_access.cuh"
#include "prefill_config.cuh"
#include "prefill_marks.cuh"

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

// The blocks of T and M above the diagonal are written here and never again.
template <int stages, int threads, class Smem>
__device__ __forceinline__ void clear_triangles(const SharedView<Smem> &s) {
    for (int i = 0; i < stages; i++)
        for (int byte = threadIdx.x * 16; byte < static_cast<int>(sizeof(Stage::mqk)); byte += threads * 16) {
            store_uint4(s.at(s->own[i].mqk) + byte, 0, 0, 0, 0);
            store_uint4(s.at(s->own[i].solve) + byte, 0, 0, 0, 0);
        }
    fence_async_proxy();
}

// Walks all chunks of a worker, one at a time: by a whole warp, whose lanes the compiler then knows to agree, or by one lane.
template <bool by_warp>
struct ChunkWalk {
    PieceWalk<kChunk> pieces;
    Piece piece;
    int chunk;        // inside the sequence
    uint32_t number;  // on the worker's line, from 0
    bool valid;

    template <class T>
    __device__ static T agreed(T x) {
        if constexpr (by_warp) return uniform(x);
        else return x;
    }
    __device__ ChunkWalk(const Timeline &line, int worker) : pieces(line, worker), chunk(0), number(0) { open_piece(line); }
    __device__ void open_piece(const Timeline &line) {
        do valid = agreed(pieces.next(line, piece));
        while (valid && agreed(piece.begin == piece.end));
        chunk = valid ? piece.begin : 0;
    }
    __device__ void advance(const Timeline &line) {
        number++;
        if (agreed(++chunk == piece.end)) open_piece(line);
    }
    // rows: 0 behind the last chunk.
    __device__ Note note() const {
        const int left = piece.sequence.length - chunk * kChunk;
        return {agreed(static_cast<int>(piece.sequence.start) + chunk * kChunk), agreed(piece.head), agreed(piece.sequence.batch),
                static_cast<uint8_t>(!valid ? 0 : left < kChunk ? left : kChunk), false};
    }
};

// Elements from the start of a state tensor to one half of the rows of V of a (sequence, head).
__device__ __forceinline__ int64_t matrix_offset(const Piece &piece, int64_t row_stride, int half) {
    return piece.sequence_index * row_stride + (static_cast<int64_t>(piece.head) * kWidth + half * kHalf) * kWidth;
}

}  // namespace fkdai::prefill

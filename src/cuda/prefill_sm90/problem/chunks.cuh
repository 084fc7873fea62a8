// What the roles of the prefill kernels share: how they see shared memory, and which chunks come next.
#pragma once

#include "device/sm90/barrier.cuh"
#include "device/scalar_math.cuh"
#include "device/shared_access.cuh"
#include "device/shared_view.cuh"
#include "prefill_sm90/problem/params.cuh"
#include "prefill_sm90/problem/prefill_marks.cuh"
#include "prefill_sm90/problem/segments.cuh"

namespace fkdai::prefill {

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

// Valid tokens of a chunk, so many (at least 1) before the end of what its segment sees.
__device__ __forceinline__ uint8_t rows_of_chunk(int left) { return static_cast<uint8_t>(left < kChunk ? left : kChunk); }

// All chunks of a worker, segment by segment: a whole warp iterates, and the compiler knows that its lanes agree. open_segment comes before the
// first chunk; inside a segment the caller counts `chunk` and `number` on, in a loop that holds no look-up.
//
// What is wanted at the end of a segment only, waits in shared memory where registers are few: there one lane finds the next.
template <bool is_shared>
struct ChunkIterator {
    SegmentIterator &segments;
    Segment segment{};
    int head = 0, start = 0, batch = 0;  // start: the sequence's first token
    int chunk = 0;                       // inside the sequence
    uint32_t number = 0;                 // on the worker's timeline
    bool valid = false;

    __device__ ChunkIterator(const Params &p, int worker, SegmentIterator &place) : segments(place) {
        if (is_finder()) segments = SegmentIterator(p, worker);
    }
    __device__ bool is_finder() const { return !is_shared || lane_here() == 0; }
    // The first chunk of the next segment that has any.
    __device__ void open_segment(const Params &p) {
        if (is_shared) __syncwarp();
        if (is_finder()) {
            do valid = segments.next(p);
            while (valid && segments.segment.begin == segments.segment.end);
        }
        if (is_shared) __syncwarp();
        valid = uniform(valid), segment = segments.segment, chunk = segment.begin;
        head = segments.piece.head, start = segments.piece.sequence.start, batch = segments.piece.sequence.batch;
    }
    // Goes on where `next` has looked ahead.
    __device__ void take(const ChunkIterator &next) {
        segment = next.segment, head = next.head, start = next.start, batch = next.batch, chunk = next.chunk, valid = next.valid;
    }
    // The first state of all is wanted now: asking where it lies would only delay the first tiles.
    __device__ bool wants_initial_state(const Params &p) const {
        return segment.from == Place::Caller && (number > 0 || p.initial_state.slots.data == nullptr);
    }
    // Valid tokens of the chunk so many on, 0 behind the segment.
    __device__ uint8_t rows_ahead(int chunks) const {
        return chunk + chunks < segment.end ? rows_of_chunk(segment.length - (chunk + chunks) * kChunk) : uint8_t{0};
    }
    // rows: 0 behind the last chunk.
    __device__ ChunkInfo info() const {
        const uint8_t rows = valid ? rows_of_chunk(segment.length - chunk * kChunk) : uint8_t{0};
        return {uniform(start + chunk * kChunk), uniform(head), uniform(batch), rows, false,
                segment.is_silent ? uint8_t{0} : rows};
    }
};

// Has the worker any chunk?
__device__ __forceinline__ bool has_chunks(const Timeline &timeline, int worker) {
    PieceIterator<kChunk> pieces(timeline, worker);
    Piece piece{};
    while (uniform(pieces.next(timeline, piece)))
        if (uniform(piece.begin < piece.end)) return true;
    return false;
}

// For all who work on chunk `number`. One lane; in one access, where the compiler would write byte after byte.
template <class Smem>
__device__ __forceinline__ void leave_chunk_info(const SharedView<Smem> &s, uint32_t number, const ChunkInfo &info) {
    static_assert(offsetof(ChunkInfo, batch) == 8 && offsetof(ChunkInfo, rows) == 12 && offsetof(ChunkInfo, is_last) == 13);
    static_assert(offsetof(ChunkInfo, rows_out) == 14 && offsetof(ChunkInfo, rows_ahead) == 15);
    constexpr uint32_t kInfos = sizeof(Smem::chunk_infos) / sizeof(ChunkInfo);
    const auto word = [](auto x) { return static_cast<uint32_t>(x); };
    store_uint4(s.at(s->chunk_infos[number % kInfos]), word(info.token), word(info.head), word(info.batch),
                info.rows | word(info.is_last) << 8 | word(info.rows_out) << 16 | word(info.rows_ahead) << 24);
}

// How many rows of a chunk's O are wanted.
template <class Smem>
__device__ __forceinline__ int rows_out(const SharedView<Smem> &s, uint32_t number) {
    constexpr uint32_t kInfos = sizeof(Smem::chunk_infos) / sizeof(ChunkInfo);
    return s->chunk_infos[number % kInfos].rows_out;
}

}  // namespace fkdai::prefill

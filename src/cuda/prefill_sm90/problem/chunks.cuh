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

// The blocks of T and M above the diagonal are written here and never again. By 8 warps, 16 bytes of each stage a lane.
inline constexpr int kClearingThreads = 256;
template <int stages, class Smem>
__device__ __forceinline__ void clear_triangles(const SharedView<Smem> &s, int thread) {
    static_assert(sizeof(Stage::mqk) == kClearingThreads / 2 * sizeof(uint4) && sizeof(Stage::solve) == sizeof(Stage::mqk));
    const uint32_t unit = thread % (kClearingThreads / 2), tile = thread < kClearingThreads / 2 ? s.at(s->stages[0].mqk) : s.at(s->stages[0].solve);
    const uint32_t first = tile + unit * uint32_t{sizeof(uint4)};
#pragma unroll
    for (int i = 0; i < stages; i++) store_uint4(first + i * uint32_t{sizeof(Stage)}, 0, 0, 0, 0);
    fence_async_proxy();
}

// Valid tokens of a chunk, so many (at least 1) before the end of what its segment sees.
__device__ __forceinline__ uint8_t rows_of_chunk(int left) { return static_cast<uint8_t>(left < kChunk ? left : kChunk); }

// Who reads a segment queue that another warp fills.
template <class Smem>
struct QueueReader {
    SharedView<Smem> s;
    static constexpr int kPlaces = decltype(Smem::segment_queue)::kPlaces;
    static constexpr bool kArePlain = are_plain<Smem>;

    // before_waiting: what others may want before a place becomes free. A whole warp.
    template <class BeforeWaiting>
    __device__ __forceinline__ const QueuedSegment &await(uint32_t i, const BeforeWaiting &before_waiting) const {
        const RingSlot slot = ring_slot<kPlaces>(i);
        const uint32_t ready = s.at(s->segment_queue.ready[slot.index]);
        if (!uniform(has_flipped(ready, slot.phase))) before_waiting();
        wait(ready, slot.phase);
        return s->segment_queue.segment[slot.index];
    }
    __device__ __forceinline__ const QueuedSegment &await(uint32_t i) const { return await(i, [] {}); }
    // Of one that has been awaited, and not been released.
    __device__ __forceinline__ const QueuedSegment &at(uint32_t i) const { return s->segment_queue.segment[i % kPlaces]; }
    // A whole warp, once it has read all that it wants.
    __device__ __forceinline__ void release(uint32_t i) const {
        warp_arrive(s.at(s->segment_queue.free[i % kPlaces]), lane_here());
    }
    // Has the worker any chunk?
    __device__ __forceinline__ bool has_chunks() const {
        wait(s.at(s->segment_queue.begun), 0);
        return uniform(s->segment_queue.has_chunks);
    }
};
// By one thread. readers: warps that read every segment.
template <class Smem>
__device__ __forceinline__ void init_segment_queue(const SharedView<Smem> &s, int readers) {
    const auto &queue = s->segment_queue;
    for (int i = 0; i < QueueReader<Smem>::kPlaces; i++) {
        barrier_init(s.at(queue.ready[i]), kWarpArrivals);
        barrier_init(s.at(queue.free[i]), readers * kWarpArrivals);
    }
    barrier_init(s.at(queue.begun), kWarpArrivals);
}

// All chunks of a worker, segment by segment: a whole warp iterates, and the compiler knows that its lanes agree. open_segment comes before the
// first chunk; inside a segment the caller counts `chunk` and `number` on, in a loop that holds no look-up. What a fork does again is a segment here.
template <class Segments>
struct ChunkIterator {
    Segments segments;
    int head = 0, start = 0, batch = 0;         // start: the sequence's first token
    int chunk = 0, end = 0, length = 0;         // inside the sequence: chunks; tokens that the segment sees
    uint32_t number = 0;                        // of the chunk, on the worker's timeline
    uint32_t place = 0;                         // in the queue, of the segment behind this one
    bool valid = false, is_silent = false;      // is_silent: it writes no out, as what comes next does

    // The first chunk of the next segment that has any. False: there is none. before_waiting: for the queue.
    template <class BeforeWaiting>
    __device__ __forceinline__ bool open_segment(const BeforeWaiting &before_waiting) {
        do {
            if (const int forked = place == 0 || is_silent ? 0 : rows_forked(); forked > 0) {
                is_silent = true, length = end * kChunk + forked, end++;
                return true;
            }
            if (place > 0) segments.release(place - 1);
            const QueuedSegment &next = segments.await(place++, before_waiting);
            is_silent = false;
            if (!take<Segments::kArePlain>(next)) return false;
        } while (chunk == end);
        return true;
    }
    // False: there are no more.
    template <bool is_plain>
    __device__ __forceinline__ bool take(const QueuedSegment &next) {
        valid = uniform(next.is_valid);
        if (!valid) return false;
        head = uniform(next.head), start = uniform(next.start), batch = uniform(next.batch), chunk = uniform(next.first);
        length = uniform(next.rows) + chunk * kChunk, end = chunk + uniform(is_plain || next.rows_forked > 0 ? next.chunks : next.chunks * next.parts);
        return true;
    }
    __device__ __forceinline__ int rows_forked() { return Segments::kArePlain ? 0 : uniform(static_cast<int>(segments.at(place - 1).rows_forked)); }
    // Do chunks come behind this segment?
    template <class BeforeWaiting>
    __device__ __forceinline__ bool is_followed(const BeforeWaiting &before_waiting) {
        if (!is_silent && rows_forked() > 0) return true;
        return uniform(segments.await(place, before_waiting).has_chunks);
    }
    // Valid tokens of the chunk so many on, 0 behind the segment.
    __device__ uint8_t rows_ahead(int chunks) const {
        return chunk + chunks < end ? rows_of_chunk(length - (chunk + chunks) * kChunk) : uint8_t{0};
    }
    // rows: 0 behind the last chunk.
    __device__ ChunkInfo info() const {
        const uint8_t rows = valid ? rows_of_chunk(length - chunk * kChunk) : uint8_t{0};
        return {start + chunk * kChunk, head, batch, rows, false, is_silent ? uint8_t{0} : rows};
    }
};

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

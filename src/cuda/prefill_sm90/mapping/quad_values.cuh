// The value role of a CTA that chunks are sent to (quad, octet): what a chunk is, and in a chain CTA V of every chunk.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/loads.cuh"

namespace fkdai::prefill::quad {

// One warp.
template <class Shape, bool is_chain>
struct ValueRole {
    const Params &p;
    ChainView<Shape> s;
    int half, cluster, lane;

    __device__ __forceinline__ void run() const {
        SegmentIterator segments(p, cluster);
        ChunkIterator<false> chunks(p, cluster, segments);
        for (chunks.open_segment(p); chunks.valid;) {
            if (lane == 0 && chunks.wants_initial_state(p)) prefetch_state(p, chunks.segments.piece, half, 1);
            ChunkIterator<false> next = chunks;  // the segment behind this one, as in duo::LoadRole
            next.open_segment(p);
            for (; chunks.chunk != chunks.segment.end; chunks.chunk++, chunks.number++) {
                ChunkInfo info = chunks.info();
                info.is_last = chunks.chunk + 1 == chunks.segment.end && !next.valid;
                load(info, chunks.number);
            }
            chunks.take(next);
        }
    }

    __device__ __forceinline__ void load(const ChunkInfo &at, uint32_t number) const {
        const RingSlot slot = ring_slot<Shape::kStages>(number);
        wait_together(s.at(s->barriers.chunk_done[slot.index]), slot.phase ^ 1);
        if (lane == 0) leave_chunk_info(s, number, at);
        __syncwarp();
        if (elect_one()) {
            const uint32_t ready = s.at(s->barriers.chunk_ready[slot.index]);
            if (!is_chain) arrive_expecting(ready, kUpdateBytes);
            else arrive_expecting(ready, kValueBytes), load_tile(s.at(s->value[slot.index]), p.v, half * kHalf, at.head, at.token, at.batch, ready);
        }
        __syncwarp();
    }
};

}  // namespace fkdai::prefill::quad

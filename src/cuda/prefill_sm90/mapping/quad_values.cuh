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
    int half, lane;

    __device__ __forceinline__ void run() const {
        ChunkIterator<QueueReader<ChainSmem<Shape>>> chunks{{s}};
        while (chunks.open_segment([] {})) {
            const bool ends = !chunks.is_followed([] {});
            for (; chunks.chunk != chunks.end; chunks.chunk++, chunks.number++) {
                ChunkInfo info = chunks.info();
                info.is_last = ends && chunks.chunk + 1 == chunks.end;
                load(info, chunks.number);
            }
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

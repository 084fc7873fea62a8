// The store and release roles of a CTA that chunks are sent to (quad, octet): where O is made, it goes from shared memory to the caller's tensor;
// and what has been read is free again.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/store_rows.cuh"

namespace fkdai::prefill::quad {

// One warp, where O is made.
template <class Shape>
struct StoreRole : StoreRows<ChainSmem<Shape>> {
    using Rows = StoreRows<ChainSmem<Shape>>;
    using Rows::p, Rows::s, Rows::lane;

    __device__ __forceinline__ void run() const {
        if (!QueueReader<ChainSmem<Shape>>{s}.has_chunks()) return;
        const uint32_t unit = this->unit();
        for (uint32_t number = 0; number < kOutStages; number++) release_tile(number);
        for (uint32_t number = 0;; number++) {
            mark(mark_store_waits, number, lane == 0);
            const RingSlot out = ring_slot<kOutStages>(number);
            wait(s.at(s->barriers.out_ready[out.index]), out.phase);
            const ChunkInfo at = s->chunk_infos[number % ChainSmem<Shape>::kChunkInfos];
            mark(mark_store_has_o, number, lane == 0);
            this->store(out.index, unit, at);
            mark(mark_store_has_stored, number, lane == 0);
            if (at.is_last) return;
            release_tile(number + kOutStages);
        }
    }

    // The tile that O of this chunk will be in has been read.
    __device__ __forceinline__ void release_tile(uint32_t number) const {
        warp_arrive(s.at(s->barriers.chunk_ready[ring_slot<Shape::kStages>(number).index]), lane);
    }
};

// One warp.
template <class Shape>
struct ReleaseRole {
    const Params &p;
    ChainView<Shape> s;
    int lane;

    __device__ __forceinline__ void run() const {
        const QueueReader<ChainSmem<Shape>> segments{s};
        if (!segments.has_chunks()) return;
        if constexpr (has_the_only<ChainSmem<Shape>>) run_the_only(uniform(segments.at(0).chunks));
        else run_all();
    }
    __device__ __forceinline__ void run_all() const {
        for (uint32_t number = 0;; number++) {
            const RingSlot done = ring_slot<Shape::kStages>(number);
            wait_together(s.at(s->barriers.chunk_done[done.index]), done.phase);
            const ChunkInfo at = s->chunk_infos[number % ChainSmem<Shape>::kChunkInfos];
            if (lane == 0) release(number);
            if (at.is_last) return;
        }
    }

    // Of so many chunks: those that another comes behind. So every arrival is waited for where it arrives, and none is on its way when that CTA ends.
    __device__ __forceinline__ void run_the_only(int chunks) const {
        for (uint32_t number = 0; static_cast<int>(number) < chunks - Shape::kStages; number++) {
            const RingSlot done = ring_slot<Shape::kStages>(number);
            wait_together(s.at(s->barriers.chunk_done[done.index]), done.phase);
            if (lane == 0) release(number);
        }
    }

    // This CTA reads the chunk's operands no more: the next one in its stage may come.
    __device__ __forceinline__ void release(uint32_t number) const {
        const View<Shape> there = preparer_view<Shape>(s);
        const uint32_t next = number + Shape::kStages;
        const uint32_t released = there.at(there->barriers.stage_released[release_of<Shape>(next).index]);
        arrive_remote(peer_address(released, kReceivers<Shape> + next % Shape::kPreparers));
    }
};

}  // namespace fkdai::prefill::quad

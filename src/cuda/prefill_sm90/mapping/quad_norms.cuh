// The norms of the chunks that a preparer has.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/norms.cuh"

namespace fkdai::prefill::quad {

// The norm role: a warpgroup that has no other part, every chunk of its CTA.
template <class Shape>
struct NormRole {
    const Params &p;
    View<Shape> s;
    int preparer, warp, lane;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = duo::own_slot<Smem<Shape>>(i);
            wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
            const int rows = s->chunk_infos[(i * Shape::kPreparers + preparer) % Smem<Shape>::kChunkInfos].rows;
            if (rows == 0) return;
            RowNorms<Smem<Shape>, false>{p, s, lane}.make(slot.index, rows, warp);
            warp_arrive(s.at(s->barriers.norms_ready[slot.index]), lane);
        }
    }
};

}  // namespace fkdai::prefill::quad

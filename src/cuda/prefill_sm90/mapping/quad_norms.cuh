// The norms of the chunks that a preparer has.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/roles/norms.cuh"

namespace fkdai::prefill::quad {

// The norm role: a warpgroup that has no other part, every chunk of its CTA; and b, where the solve comes aside.
template <class Shape>
struct NormRole {
    const Params &p;
    View<Shape> s;
    int preparer, warp, lane;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = duo::own_slot<Smem<Shape>>(i);
            wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
            const ChunkInfo at = s->chunk_infos[(i * Shape::kPreparers + preparer) % Smem<Shape>::kChunkInfos];
            if (at.rows == 0) return;
            uint32_t beta = 0;
            if constexpr (Shape::kSolvesAside) beta = load_beta(p, at, lane, warp == 0);  // it travels while the norms are made
            RowNorms<Smem<Shape>, false>{p, s, lane}.make(slot.index, at.rows, warp);
            if (Shape::kSolvesAside && warp == 0) s->beta[i % Smem<Shape>::kSteps][lane] = step_size(p, at, lane, beta);
            warp_arrive(s.at(s->barriers.norms_ready[slot.index]), lane);
        }
    }
};

}  // namespace fkdai::prefill::quad

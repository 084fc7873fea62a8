// The norms of the chunks that a CTA prepares, where warps have no other part: of a preparer (quad, octet), and of a duo whose workers have one job.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/roles/norms.cuh"

namespace fkdai::prefill::duo {

// The norm role: a warpgroup or three warps of it, every chunk of its CTA; and b, where the solve comes aside.
template <class Memory>
struct NormRole {
    const Params &p;
    SharedView<Memory> s;
    int rank, warp, lane;  // warp of the group

    __device__ __forceinline__ void run() const {
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = own_slot<Memory>(i);
            wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
            const ChunkInfo at = s->chunk_infos[(i * Memory::kPreparers + rank) % Memory::kChunkInfos];
            if (at.rows == 0) return;
            uint32_t beta = 0;
            if constexpr (Memory::kSolvesAside) beta = load_beta(p, at, lane, warp == 0);  // it travels while the norms are made
            const RowNorms<Memory, false> norms{p, s, lane};
            if constexpr (Memory::kNormWarps == 4) {
                norms.make(slot.index, at.rows, warp);
            } else {
#pragma unroll 1
                for (int eight = warp; eight < 4; eight += Memory::kNormWarps) norms.make(slot.index, at.rows, eight);
            }
            if (Memory::kSolvesAside && warp == 0) s->beta[i % Memory::kSteps][lane] = step_size(p, at, lane, beta);
            warp_arrive(s.at(s->barriers.norms_ready[slot.index]), lane);
        }
    }
};

}  // namespace fkdai::prefill::duo

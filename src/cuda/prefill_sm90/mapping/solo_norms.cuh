// The norm role of solo: one warp, every chunk, while the operand warps sum the gates. It also tells the next worker that a state has been handed over:
// a release, which waits for the state's stores, would hold up the chain.
#pragma once

#include "prefill_sm90/mapping/solo_config.cuh"
#include "prefill_sm90/roles/find_segments.cuh"
#include "prefill_sm90/roles/norms.cuh"

namespace fkdai::prefill::solo {

template <class Memory>
struct NormRole {
    const Params &p;
    SharedView<Memory> s;

    static_assert(kSmallestPiece > kTurns);
    __device__ __forceinline__ void run() const {
        bool owes = false;
        for (uint32_t number = 0;; number++) {
            const RingSlot slot = stage_slot(number);
            wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
            const int rows = chunk_info_of(s, number).rows;
            if (rows == 0) break;
            // The load warp has found the first segment before it asked for tiles of this chunk, and a job that is cut has it.
            if (!are_lone<Memory> && number == kTurns) owes = uniform(s->segment_queue.hands_over);
            RowNorms<Memory, false>{p, s, lane_here()}.make_all(slot.index, rows);
            warp_arrive(s.at(s->barriers.norms_ready[slot.index]), lane_here());
            if (owes && uniform(has_flipped(s.at(s->barriers.first_done), 0))) owes = false, tell();
        }
        if (!owes) return;
        wait(s.at(s->barriers.first_done), 0);
        tell();
    }

    __device__ __forceinline__ void tell() const {
        if (lane_here() == 0) tell_next_worker(p, block_here(), 0, kHalves);
    }
};

}  // namespace fkdai::prefill::solo

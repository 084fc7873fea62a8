// The solve role of solo: T = (I + A)^-1 Diag(beta) of every third chunk, by one warp.
#pragma once

#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/roles/solve.cuh"
#include "prefill_sm90/mapping/solo_config.cuh"

namespace fkdai::prefill::solo {

struct SolveRole {
    const Params &p;
    View s;
    int which;

    __device__ __forceinline__ void run() const {
        for (uint32_t number = which;; number += kSolvers) {
            const RingSlot slot = stage_slot(number);
            const uint32_t stage = slot.index;
            const int lane = lane_here();
            wait(s.at(s->barriers.raw_ready[stage]), slot.phase);
            const ChunkInfo at = chunk_info_of(s, number);
            if (at.rows == 0) return;
            const float beta = load_beta(p, at, lane);  // it travels while the operands are made
            wait(s.at(s->barriers.operands_ready[stage]), slot.phase);
            s->beta[which][lane] = step_size(p, at, lane, beta);
            __syncwarp();
            solve_chunk(p, s, stage, s->akk[number % kAkks], s->beta[which], lane);
            fence_async_proxy();
            warp_arrive(s.at(s->barriers.solve_ready[stage]), lane);
        }
    }
};

}  // namespace fkdai::prefill::solo

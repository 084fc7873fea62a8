// The solve role of solo: T = (I + A)^-1 Diag(beta) of every second chunk, by one warp.
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
            float b = 0.f;
            for (;; number += kSolvers) {
                if (!await_scores(number, b)) return;
                if (!solve_of(number).is_usual(b)) break;
                solve_of(number).run_usual([] {});
                announce(number);
            }
            solve_of(number).run_unusual(b);
            announce(number);
        }
    }

    // Until the scores of a chunk are there, and its b beside them. False behind the last chunk.
    __device__ __forceinline__ bool await_scores(uint32_t number, float &b) const {
        const RingSlot slot = stage_slot(number);
        const int lane = lane_here();
        wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
        const ChunkInfo at = chunk_info_of(s, number);
        if (at.rows == 0) return false;
        const uint32_t beta = load_beta(p, at, lane);  // it travels while the operands are made
        mark(mark_solve_waits, number, lane == 0);
        wait(s.at(s->barriers.scores_ready[slot.index]), slot.phase);
        mark(mark_solve_has_scores, number, lane == 0);
        b = s->beta[which][lane] = step_size(p, at, lane, beta);
        __syncwarp();
        return true;
    }
    __device__ __forceinline__ ChunkSolve<Smem> solve_of(uint32_t number) const {
        return {p, s, stage_slot(number).index, s->akk[number % kAkks], s->beta[which], lane_here()};
    }
    __device__ __forceinline__ void announce(uint32_t number) const {
        fence_async_proxy();
        warp_arrive(s.at(s->barriers.solve_ready[stage_slot(number).index]), lane_here());
        mark(mark_solve_has_solved, number, lane_here() == 0);
        mark(mark_solve_has_sent, number, lane_here() == 0);
    }
};

}  // namespace fkdai::prefill::solo

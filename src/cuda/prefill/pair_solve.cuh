// The solve role of the pair, which also sends a finished stage to the peer.
#pragma once

#include "../device/tril_solve.cuh"
#include "pair_config.cuh"
#include "prefill_tiles.cuh"

namespace fkdai::prefill::pair {

// What a solve role does wherever its stages go: one warp per chunk, two take turns.
struct SolveParts {
    const Params &p;
    View s;
    int which, rank, lane;

    // Until the scores of a chunk are there; its sigmoid(beta) stands beside them then, for the lanes that meet next. False behind the last chunk.
    __device__ __forceinline__ bool await_scores(OwnChunk own) const {
        const uint32_t stage = own.stage();
        wait(s.at(s->barriers.raw_ready[stage]), own.parity());
        const Note at = s->notes[(own.index * kRanks + rank) % kNotes];
        if (at.rows == 0) return false;
        const float beta = load_beta(p, at, lane);  // it travels while the operands are made
        mark(mark_solve_waits, own.index * kRanks, lane == 0);
        wait(s.at(s->barriers.own_early[stage]), own.parity());
        mark(mark_solve_has_scores, own.index * kRanks, lane == 0);
        s->beta[stage][lane] = lane < at.rows ? sigmoid(beta) : 0.f;
        return true;
    }
};

// T = (I + A)^-1 Diag(beta), and the finished stage goes to the peer.
struct SolveRole : SolveParts {
    __device__ __forceinline__ void run() const {
        for (OwnChunk own{static_cast<uint32_t>(which)}; await_scores(own); own.index += 2) {
            const uint32_t stage = own.stage();
            __syncwarp();
            const bool is_early = uniform(has_flipped(s.at(s->barriers.received_free[own.received_slot()]), own.received_parity() ^ 1));
            if (is_early && elect_one()) send_early(own);
            const TrilSolve<kAkkPitch> solve{s->akk[stage], s->own[stage].solve, s->beta[stage], lane};
            solve.run();
            mark(mark_solve_has_solved, own.index * kRanks, lane == 0);
            fence_async_proxy();
            warp_arrive(s.at(s->barriers.own_solved[stage]), lane);
            if (!is_early) wait_together(s.at(s->barriers.received_free[own.received_slot()]), own.received_parity() ^ 1);
            if (elect_one()) {
                if (!is_early) send_early(own);
                send(own, kEarlyBytes, sizeof(Stage) - kEarlyBytes, s->barriers.received_solved);
            }
            __syncwarp();
            mark(mark_solve_has_sent, own.index * kRanks, lane == 0);
        }
    }

    // Everything but T: early if the peer has room before the solve, else with T.
    __device__ __forceinline__ void send_early(OwnChunk own) const { send(own, 0, kEarlyBytes, s->barriers.received_early); }

    // Part of the stage; the peer's barrier of the slot counts it.
    __device__ __forceinline__ void send(OwnChunk own, uint32_t offset, uint32_t bytes, const uint64_t (&received)[kReceivedStages]) const {
        const uint32_t slot = own.received_slot(), ready = peer_address(s.at(received[slot]), rank ^ 1);
        arrive_expecting_remote(ready, bytes);
        copy_to_peer(peer_address(s.at(s->received[slot]) + offset, rank ^ 1), s.at(s->own[own.stage()]) + offset, bytes, ready);
    }
};

}  // namespace fkdai::prefill::pair

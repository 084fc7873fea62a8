// The solve role of duo, which also sends a finished stage to the peer.
#pragma once

#include <type_traits>

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/roles/solve.cuh"

namespace fkdai::prefill::duo {

// What a solve role does wherever its stages go: one warp per chunk, two take turns.
template <class Memory>
struct SolveParts {
    const Params &p;
    SharedView<Memory> s;
    int which, rank, lane;

    // Until the scores of a chunk are there; its b stand beside them then, for the lanes that meet next, and this lane's in `b`. False behind the
    // last chunk.
    __device__ __forceinline__ bool await_scores(uint32_t i, float &b) const {
        const RingSlot scores = ring_slot<Memory::kAkks>(i);
        if constexpr (Memory::kSolvesAside) {
            mark(mark_solve_waits, i * Memory::kPreparers, lane == 0);
            // Or those before them in their place, whose phase has the same parity as the one after these, might not be there yet.
            if (Memory::kAkks % Memory::kSolvers != 0) wait(s.at(s->barriers.scores_free[scores.index]), scores.phase ^ 1);
            wait(s.at(s->barriers.scores_ready[scores.index]), scores.phase);
            mark(mark_solve_has_scores, i * Memory::kPreparers, lane == 0);
            if (info_of(i).rows == 0) return false;
            b = s->beta[i % Memory::kSteps][lane];
        } else {
            const RingSlot slot = own_slot<Memory>(i);
            wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
            const ChunkInfo at = info_of(i);
            if (at.rows == 0) return false;
            const uint32_t beta = load_beta(p, at, lane);  // it travels while the operands are made
            mark(mark_solve_waits, i * Memory::kPreparers, lane == 0);
            wait(s.at(s->barriers.scores_ready[scores.index]), scores.phase);
            mark(mark_solve_has_scores, i * Memory::kPreparers, lane == 0);
            b = s->beta[i % Memory::kSteps][lane] = step_size(p, at, lane, beta);
        }
        return true;
    }
    __device__ __forceinline__ ChunkSolve<Memory> solve_of(uint32_t i) const {
        const uint32_t stage = own_slot<Memory>(i).index;
        return {p, s, stage, s->akk[i % Memory::kAkks], s->beta[i % Memory::kSteps], lane};
    }
    __device__ __forceinline__ ChunkInfo info_of(uint32_t i) const { return s->chunk_infos[(i * Memory::kPreparers + rank) % Memory::kChunkInfos]; }

    // All chunks of this warp: make_and_send(i, b, is_usual).
    template <class MakeAndSend>
    __device__ __forceinline__ void run_chunks(const MakeAndSend &make_and_send) const {
        for (uint32_t i = which;; i += Memory::kSolvers) {
            float b = 0.f;
            for (;; i += Memory::kSolvers) {
                if (!await_scores(i, b)) return;
                if (!solve_of(i).is_usual(b)) break;
                make_and_send(i, b, std::true_type{});
            }
            make_and_send(i, b, std::false_type{});
        }
    }
    template <bool is_usual, class Meanwhile>
    __device__ __forceinline__ void solve(uint32_t i, float b, const Meanwhile &meanwhile) const {
        if constexpr (is_usual) solve_of(i).run_usual(meanwhile);
        else meanwhile(), solve_of(i).run_unusual(b);
    }
};

// T = (I + A)^-1 Diag(beta), and the finished stage goes to the peer.
template <class Memory>
struct SolveRole : SolveParts<Memory> {
    using Parts = SolveParts<Memory>;
    using Parts::s, Parts::rank, Parts::lane;

    __device__ __forceinline__ void run() const {
        this->run_chunks([&](uint32_t i, float b, auto is_usual) {
            const RingSlot slot = own_slot<Memory>(i), to = received_slot(i);
            const uint32_t stage = slot.index;
            bool has_room;
            __syncwarp();
            this->template solve<is_usual>(i, b, [&] {
                wait_together(s.at(s->barriers.operands_ready[stage]), slot.phase);
                has_room = uniform(has_flipped(s.at(s->barriers.stage_free[to.index]), to.phase ^ 1));
                if (has_room && elect_one()) send_operands(stage, to);
            });
            mark(mark_solve_has_solved, i * kRanks, lane == 0);
            fence_async_proxy();
            warp_arrive(s.at(s->barriers.solve_ready[stage]), lane);
            if (!has_room) wait_together(s.at(s->barriers.stage_free[to.index]), to.phase ^ 1);
            if (elect_one()) {
                if (!has_room) send_operands(stage, to);
                send(stage, to, kOperandBytes, sizeof(Stage) - kOperandBytes, s->barriers.solve_ready);
            }
            __syncwarp();
            mark(mark_solve_has_sent, i * kRanks, lane == 0);
        });
    }

    // Everything but T: half-way through the solve if the peer has room, else with T.
    __device__ __forceinline__ void send_operands(uint32_t stage, RingSlot to) const { send(stage, to, 0, kOperandBytes, s->barriers.operands_ready); }

    // Part of the stage; the peer's barrier of its stage counts it.
    __device__ __forceinline__ void send(uint32_t stage, RingSlot to, uint32_t offset, uint32_t bytes, const uint64_t (&barriers)[kStages]) const {
        const uint32_t ready = peer_address(s.at(barriers[to.index]), rank ^ 1);
        arrive_expecting_remote(ready, bytes);
        copy_to_peer(peer_address(s.at(s->stages[to.index]) + offset, rank ^ 1), s.at(s->stages[stage]) + offset, bytes, ready);
    }
};

}  // namespace fkdai::prefill::duo

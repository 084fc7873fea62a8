// What leaves a preparer: T straight into both chain CTAs, the rest of a stage through L2 into all receivers at once.
#pragma once

#include "prefill_sm90/mapping/duo_solve.cuh"
#include "prefill_sm90/mapping/quad_config.cuh"

namespace fkdai::prefill::quad {

// One warp: a stage but for T. Copies between CTAs run at 17 to 21 bytes a clock, so two of 27 KB would take longer than a step of the chain.
template <class Shape>
struct SendRole {
    const Params &p;
    View<Shape> s;
    int preparer, cluster, lane;

    __device__ __forceinline__ void run() const {
        uint8_t *const relay = p.relay + (cluster * Shape::kPreparers + preparer) * kRelayBytesOfPreparer;
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = duo::own_slot<Smem<Shape>>(i);
            const uint32_t stage = slot.index;
            wait(s.at(s->barriers.raw_ready[stage]), slot.phase);
            if (s->chunk_infos[(i * Shape::kPreparers + preparer) % Smem<Shape>::kChunkInfos].rows == 0) return;
            wait_together(s.at(s->barriers.operands_ready[stage]), slot.phase);
            uint8_t *const place = relay + stage * kRelayBytes;
            if (elect_one()) {
                store_bytes(place, s.at(s->stages[stage]), duo::kOperandBytes);
                bulk_commit();
                bulk_wait();
                arrive(s.at(s->barriers.stage_free[stage]));
            }
            __syncwarp();
            const uint32_t number = number_of<Shape>(i, preparer);
            await_release<Shape>(s, number);
            if (elect_one()) {
                const ChainView<Shape> there = chain_view<Shape>(s);
                const uint32_t to = receiver_stage<Shape>(number);
                const uint32_t ready = there.at(there->barriers.chunk_ready[to]);
                for (int rank = 0; rank < kReceivers<Shape>; rank++) arrive_expecting_remote(peer_address(ready, rank), duo::kOperandBytes);
                load_bytes_in_each(there.at(there->stages[to]), place, duo::kOperandBytes, ready, (1 << kReceivers<Shape>) - 1);
            }
            __syncwarp();
        }
    }
};

// T = (I + A)^-1 Diag(beta), and the chain CTAs get it. Duo's rank is the number of the preparer. The copies of the T that this one overwrites here,
// six chunks older, have arrived: this warp has waited since for the release of a later chunk.
template <class Shape>
struct SolveRole : duo::SolveParts<Smem<Shape>> {
    using Parts = duo::SolveParts<Smem<Shape>>;
    using Parts::s, Parts::rank, Parts::lane;
    static_assert(Shape::kPreparers * (kOwnStages - Shape::kSolvers) >= Shape::kStages, "that chunk, kSolvers older than this one, is not before those copies'");
    __device__ __forceinline__ void run() const {
        this->run_chunks([&](uint32_t i, float b, auto is_usual) {
            const uint32_t stage = duo::own_slot<Smem<Shape>>(i).index;
            const uint32_t number = number_of<Shape>(i, rank);
            __syncwarp();  // b of all lanes
            this->template solve<is_usual>(i, b, [] {});
            if constexpr (Shape::kSolvesAside) warp_arrive(s.at(s->barriers.scores_free[i % Smem<Shape>::kAkks]), lane);
            fence_async_proxy();
            __syncwarp();
            mark(mark_solve_has_solved, i * Shape::kPreparers, lane == 0);
            await_release<Shape>(s, number);
            if (elect_one()) send(stage, receiver_stage<Shape>(number));
            mark(mark_solve_has_sent, i * Shape::kPreparers, lane == 0);
            if constexpr (Shape::kSolvesAside) __syncwarp();
            else warp_arrive(s.at(s->barriers.stage_free[stage]), lane);
        });
    }

    // An out CTA wants the factors beside T alone.
    __device__ __forceinline__ void send(uint32_t stage, uint32_t to) const {
        const ChainView<Shape> there = chain_view<Shape>(s);
        const uint32_t ready = there.at(there->barriers.chunk_ready[to]), place = there.at(there->stages[to].range);
        for (int receiver = 0; receiver < kReceivers<Shape>; receiver++) {
            const uint32_t bytes = receiver < kChains ? sizeof(Stage) - duo::kOperandBytes : sizeof(Range);
            arrive_expecting_remote(peer_address(ready, receiver), bytes);
            copy_to_peer(peer_address(place, receiver), s.at(s->stages[stage].range), bytes, peer_address(ready, receiver));
        }
    }
};

}  // namespace fkdai::prefill::quad

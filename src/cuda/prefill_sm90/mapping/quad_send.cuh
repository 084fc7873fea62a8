// What leaves a preparer of a quad: T straight into both chain CTAs, the rest of a stage through L2 into both at once.
#pragma once

#include "prefill_sm90/mapping/duo_solve.cuh"
#include "prefill_sm90/mapping/quad_config.cuh"

namespace fkdai::prefill::quad {

// One warp: a stage but for T. Copies between CTAs run at 17 to 21 bytes a clock, so two of 27 KB would take longer than a step of the chain.
struct SendRole {
    const Params &p;
    View s;
    int preparer, cluster, lane;

    __device__ __forceinline__ void run() const {
        uint8_t *const relay = p.relay + cluster * kRelayBytesOfCluster + preparer * (kOwnStages * kRelayBytes);
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = own_slot<Smem>(i);
            const uint32_t stage = slot.index;
            wait(s.at(s->barriers.raw_ready[stage]), slot.phase);
            if (s->chunk_infos[(i * kPreparers + preparer) % Smem::kChunkInfos].rows == 0) return;
            wait_together(s.at(s->barriers.operands_ready[stage]), slot.phase);
            uint8_t *const place = relay + stage * kRelayBytes;
            if (elect_one()) {
                store_bytes(place, s.at(s->stages[stage]), duo::kOperandBytes);
                bulk_commit();
                bulk_wait();
                arrive(s.at(s->barriers.stage_free[stage]));
            }
            __syncwarp();
            const Target to(i, preparer);
            wait_together(s.at(s->barriers.slot_free[to.slot.index]), to.slot.phase ^ 1);
            if (elect_one()) {
                const duo::View there = chain_view(s);
                const uint32_t ready = there.at(there->barriers.operands_ready[to.stage]);
                for (int chain = 0; chain < kChains; chain++) arrive_expecting_remote(peer_address(ready, chain), duo::kOperandBytes);
                load_bytes_in_each(there.at(there->stages[to.stage]), place, duo::kOperandBytes, ready, kChainRanks);
            }
            __syncwarp();
        }
    }
};

// T = (I + A)^-1 Diag(beta), and both chain CTAs get it. Duo's rank is the number of the preparer.
struct SolveRole : duo::SolveParts<Smem> {
    __device__ __forceinline__ void run() const {
        run_chunks([&](uint32_t i, float b, auto is_usual) {
            const uint32_t stage = own_slot<Smem>(i).index;
            const Target to(i, rank);
            // There the chunk before is done, so what this T overwrites here, one chunk older, has arrived.
            wait(s.at(s->barriers.slot_free[to.slot.index]), to.slot.phase ^ 1);
            __syncwarp();
            solve<is_usual>(stage, b, [] {});
            fence_async_proxy();
            __syncwarp();
            mark(mark_solve_has_solved, i * kPreparers, lane == 0);
            if (elect_one()) send(stage, to);
            mark(mark_solve_has_sent, i * kPreparers, lane == 0);
            warp_arrive(s.at(s->barriers.stage_free[stage]), lane);
        });
    }

    __device__ __forceinline__ void send(uint32_t stage, const Target &to) const {
        constexpr uint32_t kBytes = sizeof(Stage) - duo::kOperandBytes;
        const duo::View there = chain_view(s);
        const uint32_t ready = there.at(there->barriers.solve_ready[to.stage]), place = there.at(there->stages[to.stage].range);
        for (int chain = 0; chain < kChains; chain++) {
            arrive_expecting_remote(peer_address(ready, chain), kBytes);
            copy_to_peer(peer_address(place, chain), s.at(s->stages[stage].range), kBytes, peer_address(ready, chain));
        }
    }
};

}  // namespace fkdai::prefill::quad

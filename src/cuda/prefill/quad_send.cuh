// What leaves a preparer of a quad: T straight into both chain CTAs, the rest of a stage through L2 into both at once.
#pragma once

#include "pair_solve.cuh"
#include "quad_config.cuh"

namespace fkdai::prefill::quad {

// One warp: a stage but for T. Copies between CTAs run at 17 to 21 bytes a clock, so two of 27 KB would take longer than a step of the chain.
struct SendRole {
    const Params &p;
    View s;
    int preparer, cluster, lane;

    __device__ __forceinline__ void run() const {
        uint8_t *const relay = p.relay + cluster * kRelayBytesOfCluster + preparer * (pair::kOwnStages * kRelayBytes);
        for (OwnChunk own{0};; own.index++) {
            const uint32_t stage = own.stage();
            wait(s.at(s->barriers.raw_ready[stage]), own.parity());
            if (s->notes[(own.index * kPreparers + preparer) % pair::kNotes].rows == 0) return;
            wait_together(s.at(s->barriers.own_early[stage]), own.parity());
            uint8_t *const place = relay + stage * kRelayBytes;
            if (elect_one()) {
                store_bytes(place, s.at(s->own[stage]), kRelayBytes);
                bulk_commit();
                bulk_wait();
                arrive(s.at(s->barriers.own_free[stage]));
            }
            __syncwarp();
            const Slot to(own, preparer);
            wait_together(s.at(s->barriers.slot_free[to.index]), to.parity ^ 1);
            if (elect_one()) {
                const uint32_t ready = s.at(s->barriers.own_early[0]) + to.stage * sizeof(uint64_t);
                for (int chain = 0; chain < kChains; chain++) arrive_expecting_remote(peer_address(ready, chain), kRelayBytes);
                load_bytes_in_each(s.at(s->own[0]) + to.stage * sizeof(Stage), place, kRelayBytes, ready, kChainRanks);
            }
            __syncwarp();
        }
    }
};

// T = (I + A)^-1 Diag(beta), and both chain CTAs get it. The pair's rank is the number of the preparer.
struct SolveRole : pair::SolveParts {
    __device__ __forceinline__ void run() const {
        for (OwnChunk own{static_cast<uint32_t>(which)}; await_scores(own); own.index += 2) {
            const uint32_t stage = own.stage();
            const Slot to(own, rank);
            // There the chunk before is done, so what this T overwrites here, one chunk older, has arrived.
            wait(s.at(s->barriers.slot_free[to.index]), to.parity ^ 1);
            __syncwarp();
            TrilSolve<kAkkPitch>{s->akk[stage], s->own[stage].solve, s->beta[stage], lane}.run();
            fence_async_proxy();
            __syncwarp();
            mark(mark_solve_has_solved, own.index * kPreparers, lane == 0);
            if (elect_one()) send(stage, to);
            mark(mark_solve_has_sent, own.index * kPreparers, lane == 0);
            warp_arrive(s.at(s->barriers.own_free[stage]), lane);
        }
    }

    __device__ __forceinline__ void send(uint32_t stage, const Slot &to) const {
        constexpr uint32_t kBytes = sizeof(Stage) - kRelayBytes;
        const uint32_t ready = s.at(s->barriers.own_solved[0]) + to.stage * sizeof(uint64_t);
        const uint32_t place = s.at(s->own[0].solve) + to.stage * sizeof(Stage);
        for (int chain = 0; chain < kChains; chain++) {
            arrive_expecting_remote(peer_address(ready, chain), kBytes);
            copy_to_peer(peer_address(place, chain), s.at(s->own[stage].solve), kBytes, peer_address(ready, chain));
        }
    }
};

}  // namespace fkdai::prefill::quad

// The store role of duo: O from shared memory to the caller's tensor; and what the chain has read is free again.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/store_rows.cuh"

namespace fkdai::prefill::duo {

template <class Memory>
struct StoreRole : StoreRows<Memory> {
    using StoreRows<Memory>::s, StoreRows<Memory>::rank, StoreRows<Memory>::lane;

    __device__ __forceinline__ void run() const {
        const QueueReader<Memory> segments{s};
        if (!segments.has_chunks()) return;
        // Behind these nobody waits at the peer. Where they are known, it is not told: so nothing is on its way when the peer ends.
        const uint32_t count = has_the_only<Memory> ? uniform(segments.at(0).chunks) : UINT32_MAX - kReceivedStages * kRanks;
        uint32_t arrived = 0;  // chunks of the peer that it knows to be here
        const uint32_t unit = this->unit();
        for (uint32_t number = 0;; number++) {
            const uint32_t slot = number % kOutStages;
            mark(mark_store_waits, number, lane == 0);
            const RingSlot done = ring_slot<kDoneStages>(number), out = ring_slot<kOutStages>(number);
#pragma unroll 1
            for (int turn = 0; turn < 2; turn++) {
                const bool is_out = turn != 0;
                const uint32_t barrier = is_out ? s.at(s->barriers.out_ready[out.index]) : s.at(s->barriers.chunk_done[done.index]);
                wait_and_confirm(barrier, is_out ? out.phase : done.phase, arrived, count);
                if (!is_out && lane == 0) release(number, count);
            }
            mark(mark_store_has_o, number, lane == 0);
            const ChunkInfo at = s->chunk_infos[number % Memory::kChunkInfos];
            this->store(slot, unit, at);
            warp_arrive(s.at(s->barriers.out_free[slot]), lane);
            mark(mark_store_has_stored, number, lane == 0);
            if (at.is_last) return;
        }
    }

    // What has arrived need not stay where it was sent from: the peer wants the stage soon, so it is told while this warp waits; and
    // before the chunk is released here, or the next arrival would hide this one.
    __device__ __forceinline__ void wait_and_confirm(uint32_t barrier, uint32_t parity, uint32_t &arrived, uint32_t count) const {
        bool is_over;
        do {
            const RingSlot here = received_slot(arrived);
            const uint32_t solve = s.at(s->barriers.solve_ready[here.index]);
            const uint32_t operands = s.at(s->barriers.operands_ready[here.index]);  // before, but nobody promises that
            is_over = uniform(has_flipped(barrier, parity));
            if (uniform(has_flipped(solve, here.phase) && has_flipped(operands, here.phase))) {
                if (lane == 0 && is_wanted(arrived, count)) arrive_remote(peer_address(s.at(s->barriers.stage_free[own_slot(arrived).index]), rank ^ 1));
                arrived++;
            } else if (!is_over) {
                wait_for_either(barrier, parity, solve, here.phase);
            }
        } while (!is_over);
    }

    // The peer wants the stage of its i-th chunk for another, or to say there that there is no more.
    __device__ __forceinline__ bool is_wanted(uint32_t i, uint32_t count) const {
        const uint32_t of_peer = (count + rank) / kRanks;
        return !has_the_only<Memory> || i + kOwnStages < of_peer + kPrepareGroups;
    }

    // The chain of this CTA reads the chunk's operands no more; a chunk of the peer has been confirmed before.
    __device__ __forceinline__ void release(uint32_t number, uint32_t count) const {
        const uint32_t i = number / kRanks;  // of those that one CTA prepares
        if (number % kRanks == static_cast<uint32_t>(rank)) {
            arrive(s.at(s->barriers.stage_free[own_slot(i).index]));
        } else if (number + kReceivedStages * kRanks < count) {
            arrive_remote(peer_address(s.at(s->barriers.stage_free[received_slot(i).index]), rank ^ 1));
        }
    }
};

}  // namespace fkdai::prefill::duo

// The store role of duo and quad: O from shared memory to the caller's tensor; and what the chain has read is free again.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"

namespace fkdai::prefill::duo {

// One warp: eight lanes write one token's 128 bytes of this CTA's half of V. Plain stores: rows past a sequence belong
// to the next one.
template <fkdai_prefill_mapping mapping>
struct StoreRole {
    const Params &p;
    View s;
    int rank, cluster, lane;

    __device__ __forceinline__ void run() const {
        if (!has_chunks(p, cluster)) return;
        uint32_t arrived = 0;  // chunks of the peer that it knows to be here
        for (uint32_t number = 0;; number++) {
            const uint32_t slot = number % kOutStages;
            mark(mark_store_waits, number, lane == 0);
            wait_here(s.at(s->barriers.chunk_done[number % kDoneStages]), (number / kDoneStages) & 1, arrived);
            if (lane == 0) release(number);
            wait_here(s.at(s->barriers.out_ready[slot]), (number / kOutStages) & 1, arrived);
            mark(mark_store_has_o, number, lane == 0);
            const ChunkInfo at = s->chunk_infos[number % Smem::kChunkInfos];
            store_rows(slot, at.rows_out, p.out + p.out_strides.offset(at.batch, at.token + (lane >> 3), at.head) + rank * kHalf + (lane & 7) * 8);
            mark(mark_store_has_stored, number, lane == 0);
            if (at.is_last) return;
        }
    }

    __device__ __forceinline__ void wait_here(uint32_t barrier, uint32_t parity, uint32_t &arrived) const {
        if constexpr (mapping == FKDAI_DUO) wait_and_confirm(barrier, parity, arrived);
        else wait(barrier, parity);
    }

    // What has arrived need not stay where it was sent from: the peer wants the stage soon, so it is told while this warp waits; and
    // before the chunk is released here, or the next arrival would hide this one.
    __device__ __forceinline__ void wait_and_confirm(uint32_t barrier, uint32_t parity, uint32_t &arrived) const {
        bool is_over;
        do {
            const RingSlot here = received_slot(arrived);
            const uint32_t solve = s.at(s->barriers.solve_ready[here.index]);
            const uint32_t operands = s.at(s->barriers.operands_ready[here.index]);  // before, but nobody promises that
            is_over = uniform(has_flipped(barrier, parity));
            if (uniform(has_flipped(solve, here.phase) && has_flipped(operands, here.phase))) {
                if (lane == 0) arrive_remote(peer_address(s.at(s->barriers.stage_free[own_slot(arrived).index]), rank ^ 1));
                arrived++;
            } else if (!is_over) {
                wait_for_either(barrier, parity, solve, here.phase);
            }
        } while (!is_over);
    }

    // The chain of this CTA reads the chunk's operands no more; a chunk of the peer has been confirmed before.
    __device__ __forceinline__ void release(uint32_t number) const {
        const uint32_t i = number / kRanks;  // of those that one CTA prepares
        if (mapping == FKDAI_QUAD) {
            const quad::View there{reinterpret_cast<quad::Smem *>(s.memory), s.base};
            arrive_remote(peer_address(there.at(there->barriers.slot_free[i % quad::kSlots]), quad::kChains + number % kRanks));
        } else if (number % kRanks == static_cast<uint32_t>(rank)) {
            arrive(s.at(s->barriers.stage_free[own_slot(i).index]));
        } else {
            arrive_remote(peer_address(s.at(s->barriers.stage_free[received_slot(i).index]), rank ^ 1));
        }
    }

    __device__ __forceinline__ void store_rows(uint32_t slot, int rows, __nv_bfloat16 *row) const {
#pragma unroll 1
        for (int i2 = 0; i2 < 8; i2 += 4) {
            uint4 x[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int token = 4 * (i2 + i) + (lane >> 3);
                x[i] = load_uint4(s.at(s->out[slot]) + token * 128 + (((lane & 7) ^ (token & 7)) * 16));
            }
#pragma unroll
            for (int i = 0; i < 4; i++, row += 4 * p.out_strides.token)
                if (4 * (i2 + i) + (lane >> 3) < rows) *reinterpret_cast<uint4 *>(row) = x[i];
        }
        warp_arrive(s.at(s->barriers.out_free[slot]), lane);
    }
};

}  // namespace fkdai::prefill::duo

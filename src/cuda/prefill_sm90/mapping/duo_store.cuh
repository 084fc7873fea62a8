// The store role of duo and quad: O from shared memory to the caller's tensor; and what the chain has read is free again.
#pragma once

#include "device/requests.cuh"
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
        const uint32_t unit = kept(((lane >> 3) * 128) + ((lane & 7) ^ (lane >> 3)) * 16, lane);  // of the first four tokens
        for (uint32_t number = 0;; number++) {
            const uint32_t slot = number % kOutStages;
            mark(mark_store_waits, number, lane == 0);
            const RingSlot done = ring_slot<kDoneStages>(number), out = ring_slot<kOutStages>(number);
#pragma unroll 1
            for (int turn = 0; turn < 2; turn++) {
                const bool is_out = turn != 0;
                wait_here(is_out ? s.at(s->barriers.out_ready[out.index]) : s.at(s->barriers.chunk_done[done.index]), is_out ? out.phase : done.phase, arrived);
                if (!is_out && lane == 0) release(number);
            }
            mark(mark_store_has_o, number, lane == 0);
            const ChunkInfo at = s->chunk_infos[number % Smem::kChunkInfos];
            store_rows(slot, unit, at.rows_out, p.out + p.out_strides.offset_of(at.batch, at.token + (lane >> 3), at.head) + rank * kHalf + (lane & 7) * 8);
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

    // unit: this lane's 16 bytes in the tile; row: where they go, of the first four tokens.
    __device__ __forceinline__ void store_rows(uint32_t slot, uint32_t unit, int rows, __nv_bfloat16 *row) const {
        uint32_t from = s.at(s->out[slot]) + unit;
        int left = rows - (lane >> 3);
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            uint4 x[4];
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = load_uint4((from ^ (i & 1) * 64) + i * 512);
#pragma unroll
            for (int i = 0; i < 4; i++, row += 4 * p.out_strides.token)
                store_16(row, x[i], left > 4 * i);
            from += 4 * 512, left -= 16;
        }
        warp_arrive(s.at(s->barriers.out_free[slot]), lane);
    }
};

}  // namespace fkdai::prefill::duo

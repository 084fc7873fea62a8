// The store role of the prefill kernel: O from shared memory to the caller's tensor; and what the chain has read is free again.
#pragma once

#include "prefill_walk.cuh"

namespace fkdai::prefill {

// One warp: eight lanes write one token's 128 bytes of this CTA's half of V. Plain stores: rows past a sequence belong
// to the next one.
struct StoreRole {
    const Params &p;
    SharedView s;
    int rank, cluster, lane;

    __device__ __forceinline__ void run() const {
        if (!ChunkWalk(p, cluster).valid) return;
        for (uint32_t number = 0;; number++) {
            const uint32_t slot = number % kOutStages;
            mark(mark_store_waits, number, lane == 0);
            wait(s.at(s->barriers.chunk_done[number % kDoneStages]), (number / kDoneStages) & 1);
            release(number);
            wait(s.at(s->barriers.out_ready[slot]), (number / kOutStages) & 1);
            mark(mark_store_has_o, number, lane == 0);
            const Note at = s->notes[number % kNotes];
            store_rows(slot, at.rows, p.out + p.out_strides.offset(at.batch, at.token + (lane >> 3), at.head) + rank * kHalf + (lane & 7) * 8);
            mark(mark_store_has_stored, number, lane == 0);
            if (at.is_last) return;
        }
    }

    // The chain of this CTA reads the chunk's operands no more; their maker hears of it, here or in the peer.
    __device__ __forceinline__ void release(uint32_t number) const {
        const OwnChunk own{number / kRanks};
        const uint32_t maker = number % kRanks;
        if (lane != 0) return;
        arrive_remote(peer_address(s.at(s->barriers.own_free[own.stage()]), maker));
        if (maker != rank) arrive_remote(peer_address(s.at(s->barriers.received_free[own.received_slot()]), maker));
    }

    __device__ __forceinline__ void store_rows(uint32_t slot, int rows, __nv_bfloat16 *row) const {
        uint4 x[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int token = 4 * i + (lane >> 3);
            x[i] = load_uint4(s.at(s->out[slot]) + token * 128 + (((lane & 7) ^ (token & 7)) * 16));
        }
#pragma unroll
        for (int i = 0; i < 8; i++, row += 4 * p.out_strides.token)
            if (4 * i + (lane >> 3) < rows) *reinterpret_cast<uint4 *>(row) = x[i];
        warp_arrive(s.at(s->barriers.out_free[slot]), lane);
    }
};

}  // namespace fkdai::prefill

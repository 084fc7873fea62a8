// The load role of the prefill kernel: raw tiles, values and beta of every chunk, from the caller's tensors to shared memory.
#pragma once

#include "../device/bulk_copy.cuh"
#include "prefill_walk.cuh"

namespace fkdai::prefill {

// One warp. Raw tiles run kOwnStages chunks ahead of the values, which need less time between arrival and use.
struct LoadRole {
    const Params &p;
    SharedView s;
    int rank, cluster, lane;

    __device__ __forceinline__ void run() const {
        ChunkWalk raw(p, cluster), value(p, cluster);
        while (value.valid) {
            if (!raw.valid || raw.number > kOwnStages) {  // first: the tile of a value is free before the stage is
                load_value(value);
                value.advance();
            }
            if (raw.valid) {
                if (raw.chunk == raw.piece.begin) prefetch_state(raw.piece);
                if (raw.number % kRanks == rank) load_raw(raw, {raw.number / kRanks});
                raw.advance();
            }
        }
        const uint32_t owned = (raw.number + kRanks - 1 - rank) / kRanks;
        for (uint32_t i = 0; i < kPrepareGroups; i++) announce_end({owned + i});
    }

    // The chain will want this CTA's half of the initial state, a contiguous block, some chunks from now.
    __device__ __forceinline__ void prefetch_state(const Piece &piece) const {
        const States<const void *> &from = p.initial_state;
        if (lane != 0 || piece.takes_over || from.element == Element::Absent) return;
        const int64_t bytes = from.element == Element::F32 ? 4 : 2;
        const auto *const start = static_cast<const uint8_t *>(from.data) + bytes * matrix_offset(piece, from.row_stride, rank);
        if (reinterpret_cast<uintptr_t>(start) % 16 == 0) prefetch_l2(start, static_cast<uint32_t>(bytes) * kHalf * kWidth);
    }

    __device__ __forceinline__ void load_raw(const ChunkWalk &at_chunk, OwnChunk own) const {
        const uint32_t stage = own.stage();
        const int rows = at_chunk.rows(), token = at_chunk.token();
        const int head = at_chunk.piece.head, batch = at_chunk.piece.sequence.batch;
        Stage &to = s->own[stage];
        const uint32_t ready = s.at(s->barriers.raw_ready[stage]);
        float beta = 0.f;  // read before the stage is free: a load from memory takes as long as the tiles
        if (lane < rows) beta = __bfloat162float(p.beta[p.beta_strides.offset(batch, token + lane, head)]);
        mark(mark_load_wants_stage, at_chunk.number, lane == 0);
        wait(s.at(s->barriers.own_free[stage]), own.parity() ^ 1);
        mark(mark_load_has_stage, at_chunk.number, lane == 0);
        if (lane == 0) {
            arrive_expecting(ready, kRawBytes);
            for (int half = 0; half < 2; half++) {
                load_tile(s.at(to.kq[half]), p.k, half * kHalf, head, token, batch, ready);
                load_tile(s.at(to.kq[half]) + kQueryRows, p.q, half * kHalf, head, token, batch, ready);
                load_tile(s.at(to.ki[half]), p.g, half * kHalf, head, token, batch, ready);
            }
            s->notes[stage] = {rows, head};
        }
        s->norms[stage].beta[lane] = lane < rows ? sigmoid(beta) : 0.f;
        warp_arrive(ready, lane);
        mark(mark_load_has_asked, at_chunk.number, lane == 0);
    }

    __device__ __forceinline__ void load_value(const ChunkWalk &at_chunk) const {
        const uint32_t slot = at_chunk.number % kValueStages;
        wait(s.at(s->barriers.value_free[slot]), ((at_chunk.number / kValueStages) & 1) ^ 1);
        if (lane != 0) return;
        const uint32_t ready = s.at(s->barriers.value_ready[slot]);
        arrive_expecting(ready, kValueBytes);
        load_tile(s.at(s->value[slot]), p.v, rank * kHalf, at_chunk.piece.head, at_chunk.token(),
                  at_chunk.piece.sequence.batch, ready);
    }

    __device__ __forceinline__ void announce_end(OwnChunk own) const {
        wait(s.at(s->barriers.own_free[own.stage()]), own.parity() ^ 1);
        const uint32_t ready = s.at(s->barriers.raw_ready[own.stage()]);
        if (lane == 0) {
            s->notes[own.stage()].rows = 0;
            arrive(ready);
        }
        warp_arrive(ready, lane);
    }
};

}  // namespace fkdai::prefill

// The load role of the pair: raw tiles and values of every chunk, from the caller's tensors to shared memory.
#pragma once

#include "../device/bulk_copy.cuh"
#include "pair_config.cuh"

namespace fkdai::prefill::pair {

// One warp. Raw tiles run kValueLag chunks ahead of the values, which need less time between arrival and use.
struct LoadRole {
    const Params &p;
    View s;
    int rank, cluster, lane;

    __device__ __forceinline__ void run() const {
        ChunkWalk raw(p, cluster);
        for (uint32_t value = 0; raw.valid || value < raw.number;) {
            if (!raw.valid || raw.number >= value + kValueLag) load_value(value++);  // first: its tile is free before the stage is
            if (!raw.valid) continue;
            if (raw.chunk == raw.piece.begin) prefetch_state(raw.piece);
            Note note{uniform(raw.token()), uniform(raw.piece.head), uniform(raw.piece.sequence.batch), static_cast<uint8_t>(raw.rows()), false};
            const uint32_t number = raw.number;
            raw.advance();
            note.is_last = !raw.valid;
            if (lane == 0) s->notes[number % kNotes] = note;
            if (number % kRanks == rank) load_raw(note, number);
            else __syncwarp();
        }
        const uint32_t next = raw.number + (raw.number + rank) % kRanks;  // the next chunks that this CTA would own
        for (uint32_t i = 0; i < kPrepareGroups; i++) announce_end(next + i * kRanks);
    }

    // The chain will want this CTA's half of the initial state, a contiguous block, some chunks from now.
    __device__ __forceinline__ void prefetch_state(const Piece &piece) const {
        const States<const void *> &from = p.initial_state;
        if (lane != 0 || piece.takes_over || from.element == Element::Absent) return;
        const int64_t bytes = from.element == Element::F32 ? 4 : 2;
        const auto *const start = static_cast<const uint8_t *>(from.data) + bytes * matrix_offset(piece, from.row_stride, rank);
        if (reinterpret_cast<uintptr_t>(start) % 16 == 0) prefetch_l2(start, static_cast<uint32_t>(bytes) * kHalf * kWidth);
    }

    __device__ __forceinline__ void load_raw(const Note &at, uint32_t number) const {
        const OwnChunk own{number / kRanks};
        const uint32_t stage = own.stage(), ready = s.at(s->barriers.raw_ready[stage]);
        Stage &to = s->own[stage];
        mark(mark_load_wants_stage, number, lane == 0);
        wait(s.at(s->barriers.own_free[stage]), own.parity() ^ 1);
        mark(mark_load_has_stage, number, lane == 0);
        if (elect_one()) {
            arrive_expecting(ready, kRawBytes);
            for (int half = 0; half < 2; half++) {
                load_tile(s.at(to.kq[half]), p.k, half * kHalf, at.head, at.token, at.batch, ready);
                load_tile(s.at(to.kq[half]) + kQueryRows, p.q, half * kHalf, at.head, at.token, at.batch, ready);
                load_tile(s.at(to.ki[half]), p.g, half * kHalf, at.head, at.token, at.batch, ready);
            }
        }
        __syncwarp();
        mark(mark_load_has_asked, number, lane == 0);
    }

    __device__ __forceinline__ void load_value(uint32_t number) const {
        const uint32_t slot = number % kValueStages;
        wait(s.at(s->barriers.value_free[slot]), ((number / kValueStages) & 1) ^ 1);
        if (!elect_one()) return;
        const Note at = s->notes[number % kNotes];
        const uint32_t ready = s.at(s->barriers.value_ready[slot]);
        arrive_expecting(ready, kValueBytes);
        load_tile(s.at(s->value[slot]), p.v, rank * kHalf, at.head, at.token, at.batch, ready);
    }

    __device__ __forceinline__ void announce_end(uint32_t number) const {
        const OwnChunk own{number / kRanks};
        wait(s.at(s->barriers.own_free[own.stage()]), own.parity() ^ 1);
        const uint32_t ready = s.at(s->barriers.raw_ready[own.stage()]);
        if (lane == 0) {
            s->notes[number % kNotes].rows = 0;
            arrive(ready);
        }
    }
};

}  // namespace fkdai::prefill::pair

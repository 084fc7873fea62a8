// The operand role of the solo kernel: a warpgroup prepares every second chunk, asks for the tiles of its next one, and solves.
#pragma once

#include "../device/bulk_copy.cuh"
#include "../device/tril_solve.cuh"
#include "prefill_operands.cuh"
#include "solo_config.cuh"

namespace fkdai::prefill::solo {

struct OperandRole {
    const Params &p;
    View s;
    int group, warp, lane;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        const Operands<Smem> operands{p, s, warp, lane};
        int head = -1;
        Operands<Smem>::Gate gate{};
        Ring<kStages> at;
        at.advance(group);
        if (warp == kAskingWarp) begin(at);
        for (uint32_t number = group;; number += kPrepareGroups, at.advance(kPrepareGroups)) {
            wait(s.at(s->barriers.raw_ready[number % kRawBarriers]), (number / kRawBarriers) & 1);
            const Note note = s->notes[number % kNotes];
            if (note.rows == 0) return;
            if (note.head != head) gate = operands.load_gate(head = note.head);
            if (warp == kAskingWarp) ask_when_free(number, at);
            else if (warp != kSolvingWarp) norms(operands, at.slot, note.rows);
            warpgroup_sync(kFirstPrepareBarrier + group);
            const __nv_bfloat16 beta = warp == kSolvingWarp ? load_beta(note) : __nv_bfloat16();
            operands.decay_tiles(at.slot, group, note.rows, gate);
            fence_async_proxy();
            warpgroup_sync(kFirstPrepareBarrier + group);
            Operands<Smem>::Scores scores;
            operands.begin_scores(at.slot, scores);
            operands.finish_scores(at.slot, group, scores);
            if (warp == kSolvingWarp) solve(at.slot, (number / kPrepareGroups) & 1, note.rows, beta);
        }
    }

    // Two warps: one for k, one for q.
    __device__ __forceinline__ void norms(const Operands<Smem> &operands, uint32_t stage, int rows) const {
#pragma unroll 1
        for (int part = 2 * (warp - 1); part < 2 * warp; part++) operands.row_norms(stage, group, rows, part);
    }

    __device__ __forceinline__ __nv_bfloat16 load_beta(const Note &at) const {
        return lane < at.rows ? p.beta[p.beta_strides.offset(at.batch, at.token + lane, at.head)] : __nv_bfloat16();
    }

    // T = (I + A)^-1 Diag(beta), while the others measure the rows of the next chunk.
    __device__ __forceinline__ void solve(uint32_t stage, uint32_t parity, int rows, __nv_bfloat16 beta) const {
        s->norms[group].beta[lane] = lane < rows ? sigmoid(__bfloat162float(beta)) : 0.f;
        wait(s.at(s->barriers.akk_ready[group]), parity);
        __syncwarp();
        TrilSolve<kAkkPitch>{s->akk[group], s->own[stage].solve, s->norms[group].beta, lane}.run();
        fence_async_proxy();
        warp_arrive(s.at(s->barriers.own_ready[stage]), lane);
    }

    // The first chunk of this group.
    __device__ __forceinline__ void begin(const Ring<kStages> &at) const {
        Walk &walk = s->walks[group];
        if (lane == 0) {
            walk.pieces = PieceWalk<kChunk>(p, blockIdx.x);
            walk.open(p);
            for (int i = 0; i < group; i++) walk.advance(p);
            leave_note(walk, group);
        }
        __syncwarp();
        if (elect_one()) load_raw(s->notes[group], group, at.slot);
        __syncwarp();
    }

    __device__ __forceinline__ void ask_when_free(uint32_t number, const Ring<kStages> &at) const {
        const Ring<kStages> next = at.ahead(kLead);
        wait(s.at(s->barriers.chunk_done[next.slot]), next.parity ^ 1);
        ask(number, at);
    }

    // Values of this chunk, raw tiles of the group's next: their places were last used by the same chunk.
    __device__ __forceinline__ void ask(uint32_t number, const Ring<kStages> &at) const {
        Walk &walk = s->walks[group];
        if (lane == 0) {
            for (int i = 0; i < kLead; i++) walk.advance(p);
            leave_note(walk, number + kLead);
        }
        __syncwarp();
        if (elect_one()) {
            load_value(s->notes[number % kNotes], number % kValueStages);
            load_raw(s->notes[(number + kLead) % kNotes], number + kLead, at.ahead(kLead).slot);
        }
        __syncwarp();
    }

    __device__ __forceinline__ void leave_note(const Walk &walk, uint32_t number) const {
        s->notes[number % kNotes] = walk.note();
        if (walk.valid && walk.chunk == walk.piece.begin) prefetch_state(walk.piece);
    }

    // The chain will want the initial state, a contiguous block, some chunks from now.
    __device__ __forceinline__ void prefetch_state(const Piece &piece) const {
        const States<const void *> &from = p.initial_state;
        if (piece.takes_over || from.element == Element::Absent) return;
        const int64_t bytes = from.element == Element::F32 ? 4 : 2;
        const auto *const start = static_cast<const uint8_t *>(from.data) + bytes * matrix_offset(piece, from.row_stride, 0);
        if (reinterpret_cast<uintptr_t>(start) % 16 == 0) prefetch_l2(start, static_cast<uint32_t>(bytes) * kWidth * kWidth);
    }

    __device__ __forceinline__ void load_raw(const Note at, uint32_t number, uint32_t stage) const {
        const uint32_t ready = s.at(s->barriers.raw_ready[number % kRawBarriers]);
        if (at.rows == 0) return arrive(ready);  // the end
        const Stage &to = s->own[stage];
        arrive_expecting(ready, kRawBytes);
        for (int half = 0; half < kHalves; half++) {
            load_tile(s.at(to.kq[half]), p.k, half * kHalf, at.head, at.token, at.batch, ready);
            load_tile(s.at(to.kq[half]) + kQueryRows, p.q, half * kHalf, at.head, at.token, at.batch, ready);
            load_tile(s.at(to.ki[half]), p.g, half * kHalf, at.head, at.token, at.batch, ready);
        }
    }

    __device__ __forceinline__ void load_value(const Note at, uint32_t slot) const {
        const uint32_t ready = s.at(s->barriers.value_ready[slot]);
        arrive_expecting(ready, kHalves * kValueBytes);
        for (int half = 0; half < kHalves; half++)
            load_tile(s.at(s->value[slot][half]), p.v, half * kHalf, at.head, at.token, at.batch, ready);
    }
};

}  // namespace fkdai::prefill::solo

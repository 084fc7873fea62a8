// The operand role of the solo kernel: a warpgroup prepares every second chunk, asks for the tiles of its next one, and solves.
#pragma once

#include "../device/tril_solve.cuh"
#include "prefill_operands.cuh"
#include "prefill_tiles.cuh"
#include "solo_config.cuh"

namespace fkdai::prefill::solo {

struct OperandRole {
    const Params &p;
    View s;
    int group, warp, lane;  // warp 0..3 of the group

    // Who does what beside the decays. The groups differ, so that no sub-partition has two of a kind.
    __device__ __forceinline__ bool solves() const { return warp == group; }
    __device__ __forceinline__ bool asks() const { return warp == 3 - group; }

    __device__ __forceinline__ void run() const {
        int head = -1;
        Operands<Smem>::Gate gate{};
        if (asks()) begin();
        for (uint32_t number = group;; number += kPrepareGroups) {
            const uint32_t stage = stage_of(number), turn = (number / kPrepareGroups) & 1;
            wait(s.at(s->barriers.raw_ready[number % kRawBarriers]), (number / kRawBarriers) & 1);
            const Note note = note_of(s, number);
            const int rows = note.rows;
            if (rows == 0) return;
            const Operands<Smem> operands{p, s, warp, fresh(lane)};
            if (const int its_head = note.head; its_head != head) gate = operands.load_gate(head = its_head);
            __nv_bfloat16 beta{};  // of the group's next chunk; it travels while tiles are asked for
            bool has_asked_raw = true;
            if (asks()) {
                beta = walk_on(number + kLead);
                has_asked_raw = try_raw(number + kLead);
            } else if (!solves()) {
                norms(operands, stage, rows);
            }
            wait(s.at(s->barriers.norms_ready[group]), turn);
            if (asks()) leave_beta(number + kLead, beta);
            operands.decay_tiles(stage, group, rows, gate);
            fence_async_proxy();
            warpgroup_sync(kFirstPrepareBarrier + group);
            Operands<Smem>::Scores scores;
            operands.begin_scores(stage, scores);
            if (!has_asked_raw) has_asked_raw = try_raw(number + kLead);
            const bool has_asked_value = !asks() || try_value(number);
            operands.finish_scores(stage, group, scores);
            warp_arrive(operands.stores_akk() ? s.at(s->barriers.akk_ready[group]) : s.at(s->barriers.own_ready[stage]), lane);
            if (solves()) solve(number, stage, turn);
            if (!has_asked_raw) {
                wait(s.at(s->barriers.chunk_done[stage_of(number + kLead)]), parity_of(number + kLead) ^ 1);
                ask_raw(number + kLead);
            }
            if (!has_asked_value) {
                wait(s.at(s->barriers.chunk_done[stage_of(number - kValueStages)]), parity_of(number - kValueStages));
                ask_value(number);
            }
        }
    }

    // Two warps: one for k, one for q.
    __device__ __forceinline__ void norms(const Operands<Smem> &operands, uint32_t stage, int rows) const {
        const int first = warp & 2;
#pragma unroll 1
        for (int part = first; part < first + 2; part++) operands.row_norms(stage, group, rows, part);
        warp_arrive(s.at(s->barriers.norms_ready[group]), lane);
    }

    // T = (I + A)^-1 Diag(beta), while the others measure the rows of the next chunk.
    __device__ __forceinline__ void solve(uint32_t number, uint32_t stage, uint32_t turn) const {
        wait(s.at(s->barriers.akk_ready[group]), turn);
        TrilSolve<kAkkPitch>{s->akk[group], s->own[stage].solve, s->beta[number % kBetas], fresh(lane)}.run();
        fence_async_proxy();
        warp_arrive(s.at(s->barriers.own_ready[stage]), lane);
    }

    // To the first chunk of this group.
    __device__ __forceinline__ void begin() const {
        if (lane == 0) {
            s->walks[group] = ChunkWalk<false>(p, blockIdx.x);
            step(group);
        }
        leave_beta(group, leave_note(group));
        if (elect_one()) load_raw(group);
        __syncwarp();
    }

    // To the group's next chunk.
    __device__ __forceinline__ __nv_bfloat16 walk_on(uint32_t number) const {
        if (lane == 0) step(kLead);
        return leave_note(number);
    }
    __device__ __forceinline__ void step(int chunks) const {
        ChunkWalk<false> &walk = s->walks[group];
        for (int i = 0; i < chunks && walk.valid; i++) walk.advance(p);
    }

    // Of a chunk that is about to be asked for. Returns the logit of beta of this lane's token.
    __device__ __forceinline__ __nv_bfloat16 leave_note(uint32_t number) const {
        const ChunkWalk<false> &walk = s->walks[group];
        if (lane == 0) {
            s->notes[number % kNotes] = walk.note();
            if (walk.valid && walk.chunk == walk.piece.begin) prefetch_state(p, walk.piece, 0, kHalves);
        }
        __syncwarp();
        const Note at = note_of(s, number);
        return lane < at.rows ? p.beta[p.beta_strides.offset(at.batch, at.token + lane, at.head)] : __nv_bfloat16{};
    }

    // The solving warp reads it behind a barrier of the group.
    __device__ __forceinline__ void leave_beta(uint32_t number, __nv_bfloat16 logit) const {
        s->beta[number % kBetas][lane] = lane < note_of(s, number).rows ? sigmoid(__bfloat162float(logit)) : 0.f;
    }

    // Raw tiles are asked for one turn of the group ahead, values when the chunk is nearly prepared: if their place is free.
    __device__ __forceinline__ bool try_raw(uint32_t number) const {
        if (!uniform(has_flipped(s.at(s->barriers.chunk_done[stage_of(number)]), parity_of(number) ^ 1))) return false;
        ask_raw(number);
        return true;
    }
    __device__ __forceinline__ bool try_value(uint32_t number) const {
        const uint32_t before = number - kValueStages;
        if (number >= kValueStages && !uniform(has_flipped(s.at(s->barriers.chunk_done[stage_of(before)]), parity_of(before)))) return false;
        ask_value(number);
        return true;
    }
    __device__ __forceinline__ void ask_raw(uint32_t number) const {
        if (elect_one()) load_raw(number);
        __syncwarp();
    }
    __device__ __forceinline__ void ask_value(uint32_t number) const {
        if (elect_one()) load_value(number);
        __syncwarp();
    }

    __device__ __forceinline__ void load_raw(uint32_t number) const {
        const Note at = note_of(s, number);
        const uint32_t ready = s.at(s->barriers.raw_ready[number % kRawBarriers]);
        if (at.rows == 0) return arrive(ready);  // the end
        load_raw_tiles(p, s, number % kStages, at, ready);
    }

    __device__ __forceinline__ void load_value(uint32_t number) const {
        const Note at = note_of(s, number);
        const uint32_t slot = number % kValueStages;
        const uint32_t ready = s.at(s->barriers.value_ready[slot]);
        arrive_expecting(ready, kHalves * kValueBytes);
        for (int half = 0; half < kHalves; half++)
            load_tile(s.at(s->value[slot][half]), p.v, half * kHalf, at.head, at.token, at.batch, ready);
    }
};

}  // namespace fkdai::prefill::solo

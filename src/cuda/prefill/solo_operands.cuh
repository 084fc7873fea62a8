// The operand role of solo: a warpgroup prepares every second chunk.
#pragma once

#include "prefill_operands.cuh"
#include "solo_config.cuh"

namespace fkdai::prefill::solo {

struct OperandRole {
    const Params &p;
    View s;
    int group, warp;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        Operands<Smem>::Gate gate{};
        for (uint32_t number = group;; number += kTurns) {
            const uint32_t stage = stage_of(number);
            wait(s.at(s->barriers.raw_ready[stage]), parity_of(number));
            const Note note = note_of(s, number);
            if (note.rows == 0) return;
            const Operands<Smem> operands{p, s, warp, lane_here()};
            if (number < kTurns || note_of(s, number - kTurns).head != note.head) gate = operands.load_gate(note.head);
            operands.row_norms(stage, note.rows, warp);
            warpgroup_sync(kFirstPrepareBarrier + group);
            operands.decay_tiles(stage, note.rows, gate);
            fence_async_proxy();
            warpgroup_sync(kFirstPrepareBarrier + group);
            Operands<Smem>::Scores scores;
            operands.begin_scores(stage, scores);
            // Its place for akk is free once the chunk before there has been solved, which it hardly ever has to wait for.
            if (number >= kAkks) wait(s.at(s->barriers.solved[stage_of(number - kAkks)]), parity_of(number - kAkks));
            operands.finish_scores(stage, number % kAkks, scores);
            warp_arrive(s.at(s->barriers.early[stage]), lane_here());
        }
    }
};

}  // namespace fkdai::prefill::solo

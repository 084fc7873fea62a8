// The operand role of the pair: a warpgroup prepares every second chunk of its CTA, which has every second chunk of the line.
#pragma once

#include "pair_config.cuh"
#include "prefill_operands.cuh"

namespace fkdai::prefill::pair {

struct OperandRole {
    const Params &p;
    View s;
    int group, rank, warp, lane;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        const Operands<Smem> operands{p, s, warp, lane};
        int head = -1;
        Operands<Smem>::Gate gate{};
        for (OwnChunk own{static_cast<uint32_t>(group)};; own.index += kPrepareGroups) {
            const uint32_t stage = own.stage(), number = own.index * kRanks;  // the first CTA's
            const bool is_reader = warp == 0 && lane == 0;
            mark(mark_operand_waits, number, is_reader);
            wait(s.at(s->barriers.raw_ready[stage]), own.parity());
            mark(mark_operand_has_tiles, number, is_reader);
            const Note note = s->notes[(own.index * kRanks + rank) % kNotes];
            if (note.rows == 0) return;
            if (note.head != head) gate = operands.load_gate(head = note.head);
            operands.row_norms(stage, note.rows, warp);
            warpgroup_sync(kFirstPrepareBarrier + group);
            mark(mark_operand_has_norms, number, is_reader);
            operands.decay_tiles(stage, note.rows, gate);
            fence_async_proxy();
            warpgroup_sync(kFirstPrepareBarrier + group);
            mark(mark_operand_has_operands, number, is_reader);
            Operands<Smem>::Scores scores;
            operands.begin_scores(stage, scores);
            operands.finish_scores(stage, stage, scores);
            warp_arrive(s.at(s->barriers.own_early[stage]), lane);
            mark(mark_operand_has_scores, number, is_reader);
        }
    }
};

}  // namespace fkdai::prefill::pair

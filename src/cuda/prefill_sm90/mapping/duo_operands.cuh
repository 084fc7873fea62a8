// The operand role of duo and quad: a warpgroup prepares every second chunk of its CTA, which has every second chunk of the timeline.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/operands.cuh"

namespace fkdai::prefill::duo {

template <class Memory, GateKind kind, int kFours, bool kAhead, bool kMakesNorms>
struct OperandRole {
    const Params &p;
    SharedView<Memory> s;
    int group, rank, warp, lane;  // warp 0..3 of the group

    __device__ __forceinline__ void run() const {
        int head = -1;
        Gate<kind> gate{};
        for (uint32_t i = group;; i += Memory::kPrepareGroups) {
            const RingSlot slot = own_slot<Memory>(i);
            const uint32_t stage = slot.index, number = i * kRanks;  // the first CTA's
            const bool is_reader = warp == 0 && lane == 0;
            mark(mark_operand_waits, number, is_reader);
            wait(s.at(s->barriers.raw_ready[stage]), slot.phase);
            mark(mark_operand_has_tiles, number, is_reader);
            const ChunkInfo info = s->chunk_infos[(number + rank) % Memory::kChunkInfos];
            if (info.rows == 0) return;
            const Operands<Memory, kind, kFours, kAhead, true, kMakesNorms, false> operands{p, s, group, warp, lane_here()};  // not kept meanwhile
            if (info.head != head) gate = operands.load_gate(head = info.head);
            operands.make(stage, stage, info, gate, [&] { warpgroup_sync(kFirstPrepareBarrier + group); },
                          [&] { if constexpr (!kMakesNorms) wait(s.at(s->barriers.norms_ready[stage]), slot.phase); }, [] {},
                          [&] { warp_arrive(s.at(s->barriers.scores_ready[stage]), lane); },
                          [&](Mark moment) { mark(moment, number, is_reader); });
            warp_arrive(s.at(s->barriers.operands_ready[stage]), lane);
            mark(mark_operand_has_operands, number, is_reader);
        }
    }
};

}  // namespace fkdai::prefill::duo

// The operand role of solo: a warpgroup prepares every second chunk.
#pragma once

#include "prefill_sm90/roles/operands.cuh"
#include "prefill_sm90/mapping/solo_config.cuh"

namespace fkdai::prefill::solo {

template <class Memory, GateKind kind, bool is_raw>
struct OperandRole {
    const Params &p;
    SharedView<Memory> s;
    int group, warp;  // warp 0..3 of the group

    using Parts = Operands<Smem, kind, Pace{1, 1, false, kind == GateKind::Bounded, false}, true, is_raw>;
    __device__ __forceinline__ Parts operands() const { return {p, s, group, warp, lane_here()}; }

    // asked: are_lone: for the gate.
    __device__ __forceinline__ void run(const GateRequest &asked) const {
        Gate<kind> gate{};
        if constexpr (are_lone<Memory>) gate = operands().take_gate(asked);
        for (uint32_t number = group;; number += kTurns) {
            const RingSlot slot = stage_slot(number);
            const uint32_t stage = slot.index;
            const bool is_reader = warp == 0 && lane_here() == 0;
            mark(mark_operand_waits, number, is_reader);
            wait(s.at(s->barriers.raw_ready[stage]), slot.phase);
            mark(mark_operand_has_tiles, number, is_reader);
            const ChunkInfo info = chunk_info_of(s, number);
            if (info.rows == 0) return;
            const Parts operands = this->operands();
            if (!are_lone<Memory> && (number < kTurns || chunk_info_of(s, number - kTurns).head != info.head)) gate = operands.load_gate(info.head);
            typename Parts::Kept kept;
            operands.make(stage, number % kAkks, info, gate, kept, [&] { warpgroup_sync(kFirstPrepareBarrier + group); }, [&] { warpgroup_sync(kFirstPrepareBarrier + group); },
                          [] {}, [&] {
                // Its place for akk is free once the chunk before there has been solved, which it hardly ever has to wait for.
                const RingSlot before = stage_slot(number - kAkks);
                if (number >= kAkks) wait(s.at(s->barriers.solve_ready[before.index]), before.phase);
            }, [&] { warp_arrive(s.at(s->barriers.scores_ready[stage]), lane_here()); }, [&](Mark moment) { mark(moment, number, is_reader); });
            warp_arrive(s.at(s->barriers.operands_ready[stage]), lane_here());
            mark(mark_operand_has_operands, number, is_reader);
        }
    }
};

}  // namespace fkdai::prefill::solo

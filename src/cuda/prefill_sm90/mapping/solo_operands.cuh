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

    static constexpr bool kMakesNorms = !Memory::kNormsAside;
    using Parts = Operands<Smem, kind, Pace{1, 1, false, kind == GateKind::Bounded && kMakesNorms, false}, kMakesNorms, is_raw>;
    __device__ __forceinline__ Parts operands(int lane) const { return {p, s, group, warp, lane}; }

    // The lane, which read anew would arrive some 40 cycles later, eight times a chunk, and the head. Other gates want the registers.
    static constexpr bool kKeeps = kind == GateKind::Bounded && !is_raw;

    // A chunk of the group, and where its things lie: counted on, as remainders take some 40 cycles each.
    struct Turn {
        uint32_t number;
        RingSlot slot{number, 0};
        uint32_t place = number, info = number;  // of akk; of its ChunkInfo
        static_assert(kTurns <= kStages && kTurns <= kAkks && kChunkInfos % kTurns == 0 && kAkks <= kStages);

        __device__ __forceinline__ void go_on() {
            number += kTurns, slot.index += kTurns, place += kTurns, info += kTurns;
            if (slot.index >= kStages) slot.index -= kStages, slot.phase ^= 1;
            if (place >= kAkks) place -= kAkks;
            if (info >= kChunkInfos) info -= kChunkInfos;
        }
        // Of the chunk that had the same place before.
        __device__ __forceinline__ RingSlot slot_before() const {
            const bool is_same_lap = slot.index >= kAkks;
            return {is_same_lap ? slot.index - kAkks : slot.index + kStages - kAkks, is_same_lap ? slot.phase : slot.phase ^ 1};
        }
    };

    // head: of the group's chunk before.
    __device__ __forceinline__ bool has_other_head(const Turn &turn, const ChunkInfo &info, int head) const {
        if (kKeeps) return info.head != head;
        return turn.number < kTurns || chunk_info_of(s, turn.number - kTurns).head != info.head;
    }

    // asked: are_lone: for the gate.
    __device__ __forceinline__ void run(const GateRequest &asked) const {
        const int kept_lane = static_cast<int>(kept(lane_here(), lane_here()));
        Gate<kind> gate{};
        int head = -1;
        if constexpr (are_lone<Memory>) gate = operands(kept_lane).take_gate(asked);
        Turn turn{static_cast<uint32_t>(group)};
        for (;; turn.go_on()) {
            const int lane = kKeeps ? here_alone(kept_lane) : lane_here();
            const auto arrive = [&](const uint64_t &barrier) { warp_arrive(s.at(barrier), kKeeps ? lane : lane_here()); };
            const uint32_t number = turn.number, stage = turn.slot.index;
            const Parts operands = this->operands(lane);
            const bool is_reader = warp == 0 && lane == 0;
            mark(mark_operand_waits, number, is_reader);
            wait(s.at(s->barriers.raw_ready[stage]), turn.slot.phase);
            mark(mark_operand_has_tiles, number, is_reader);
            typename Parts::FirstGates gates;
            if constexpr (kind != GateKind::PrecomputedF32) operands.ask_gates(stage, gates);
            const ChunkInfo info = chunk_info_at(s, turn.info);
            if (info.rows == 0) return;
            if (!are_lone<Memory> && has_other_head(turn, info, head)) gate = operands.load_gate(head = info.head);
            if constexpr (kind == GateKind::PrecomputedF32) operands.ask_gates(stage, gates, info);
            typename Parts::Kept kept;
            const auto sync = [&] { warpgroup_sync(kFirstPrepareBarrier + group); };
            // What a channel decays by is known to the two warps that have its tokens. More than these meet where they make the norms, or look at all
            // channels (steep_channels.cuh).
            const auto sync_decays = [&] {
                if constexpr (kMakesNorms || kind != GateKind::Bounded) sync();
                else warp_pair_sync(kFirstPairBarrier + 2 * group + (warp >> 1));
            };
            const auto await_norms = [&] {
                if constexpr (!kMakesNorms) wait(s.at(s->barriers.norms_ready[stage]), turn.slot.phase);
            };
            const auto await_place = [&] {
                // Its place for akk is free once the chunk before there has been solved, which it hardly ever has to wait for.
                const RingSlot before = turn.slot_before();
                if (number >= kAkks) wait(s.at(s->barriers.solve_ready[before.index]), before.phase);
            };
            operands.make(stage, turn.place, info, gate, gates, kept, sync_decays, sync, await_norms, await_place,
                          [&] { arrive(s->barriers.scores_ready[stage]); }, [&](Mark moment) { mark(moment, number, is_reader); });
            arrive(s->barriers.operands_ready[stage]);
            mark(mark_operand_has_operands, number, is_reader);
        }
    }
};

}  // namespace fkdai::prefill::solo

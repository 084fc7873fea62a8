// The operand role of duo and of a preparer (quad, octet): a warpgroup prepares every second, third or fourth chunk of its CTA, which has every second,
// third or fourth chunk of the timeline.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/operands.cuh"

namespace fkdai::prefill::duo {

template <class Memory, GateKind kind, Pace pace, bool kMakesNorms>
struct OperandRole {
    const Params &p;
    SharedView<Memory> s;
    int group, rank, cluster, warp, lane;  // warp 0..3 of the group

    static constexpr bool kGateFirst = Memory::kFirstAhead || are_lone<Memory>;

    // asked: are_lone: for the gate.
    __device__ __forceinline__ void run(const GateRequest &asked) const {
        const uint32_t end = kGateFirst ? run_gate_first(first_gate(asked)) : run_chunks();
        if constexpr (Memory::kSolvesAside) await_place(end), announce_scores(end);  // that there is no more
    }

    // All chunks of the group; returns the number behind them. What a new head needs is loaded outside of the loop over chunks, which stays small so.
    __device__ __forceinline__ uint32_t run_chunks() const {
        uint32_t i = group;
        for (ChunkInfo info = await_tiles(i); info.rows > 0;) {
            const int head = info.head;
            const Gate<kind> gate = operands().load_gate(head);
            typename Parts::Kept kept;
            do {
                make(i, info, gate, kept);
                info = await_tiles(i += Memory::kPrepareGroups);
            } while (info.rows > 0 && info.head == head);
        }
        return i;
    }
    // The same; the gate of the first head was asked for while its tiles were on their way.
    __device__ __forceinline__ uint32_t run_gate_first(const Gate<kind> &first) const {
        uint32_t i = group;
        int head = first_head();
        for (Gate<kind> gate = first;; gate = operands().load_gate(head)) {
            ChunkInfo info;
            typename Parts::Kept kept;
            for (info = await_tiles(i); info.rows > 0 && info.head == head; info = await_tiles(i += Memory::kPrepareGroups)) make(i, info, gate, kept);
            if (info.rows == 0) return i;
            head = info.head;
        }
    }
    __device__ __forceinline__ Gate<kind> first_gate(const GateRequest &asked) const {
        if constexpr (are_lone<Memory>) return operands().take_gate(asked);
        else return operands().load_gate(first_head());
    }
    // Of the cluster's first chunk, or any, where that is not known yet.
    __device__ __forceinline__ int first_head() const { return first_piece<Memory, Memory::kFirstAhead>(p, cluster, 1).head; }

    using Parts = Operands<Memory, kind, pace, kMakesNorms, false>;
    __device__ __forceinline__ Parts operands() const {
        // Where it is read anew, eight times a chunk, it arrives some 40 cycles later.
        return {p, s, group, warp, Memory::kKeepsLane ? here_alone(lane) : lane_here()};
    }
    __device__ __forceinline__ bool is_reader() const { return warp == 0 && lane == 0; }
    __device__ __forceinline__ ChunkInfo await_tiles(uint32_t i) const {
        const RingSlot slot = own_slot<Memory>(i);
        mark(mark_operand_waits, i * Memory::kPreparers, is_reader());
        wait(s.at(s->barriers.raw_ready[slot.index]), slot.phase);
        mark(mark_operand_has_tiles, i * Memory::kPreparers, is_reader());
        return s->chunk_infos[(i * Memory::kPreparers + rank) % Memory::kChunkInfos];
    }
    // What a channel decays by is known to the two warps that have its tokens. More than these wait for each other where they make the norms, or where
    // all channels are looked at (steep_channels.cuh).
    __device__ __forceinline__ void sync_decays() const {
        if constexpr (kMakesNorms || kind != GateKind::Bounded) warpgroup_sync(kFirstPrepareBarrier + group);
        else warp_pair_sync(kFirstPairBarrier + 2 * group + (warp >> 1));
    }
    // Unless kSolvesAside, a stage is free only when its scores have been solved.
    __device__ __forceinline__ void await_place(uint32_t i) const {
        if constexpr (Memory::kSolvesAside) {
            const RingSlot place = ring_slot<Memory::kAkks>(i);
            wait(s.at(s->barriers.scores_free[place.index]), place.phase ^ 1);
        }
    }
    __device__ __forceinline__ void announce_scores(uint32_t i) const {
        if (operands().stores_akk()) warp_arrive(s.at(s->barriers.scores_ready[i % Memory::kAkks]), lane);
    }
    __device__ __forceinline__ void make(uint32_t i, const ChunkInfo &info, const Gate<kind> &gate, typename Parts::Kept &kept) const {
        const RingSlot slot = own_slot<Memory>(i);
        const uint32_t stage = slot.index;
        typename Parts::FirstGates gates;
        operands().ask_gates(stage, gates, info);
        operands().make(stage, i % Memory::kAkks, info, gate, gates, kept, [&] { sync_decays(); },
                        [&] { warpgroup_sync(kFirstPrepareBarrier + group); },
                        [&] { if constexpr (!kMakesNorms) wait(s.at(s->barriers.norms_ready[stage]), slot.phase); }, [&] { await_place(i); },
                        [&] { announce_scores(i); }, [&](Mark moment) { mark(moment, i * Memory::kPreparers, is_reader()); });
        warp_arrive(s.at(s->barriers.operands_ready[stage]), lane);
        operands().raw_gates().keep_next(kept, info);
        mark(mark_operand_has_operands, i * Memory::kPreparers, is_reader());
    }
};

}  // namespace fkdai::prefill::duo

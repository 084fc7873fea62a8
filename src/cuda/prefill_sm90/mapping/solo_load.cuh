// The load role of solo: raw tiles and values of every chunk, from the caller's tensors to shared memory.
#pragma once

#include "prefill_sm90/roles/find_segments.cuh"
#include "prefill_sm90/mapping/solo_config.cuh"

namespace fkdai::prefill::solo {

// Does the load warp find the segments?
template <class Memory>
inline constexpr bool finds_for_itself = Memory::kNormsAside && !are_lone<Memory>;

// One warp. Raw tiles run kValueLag chunks ahead of the values, which need less time between arrival and use.
template <class Memory, GateKind kind>
struct LoadRole {
    const Params &p;
    SharedView<Memory> s;
    static constexpr int kEarlyChunks = are_lone<Memory> ? 1 : kTurns;

    // early: of run_early.
    __device__ __forceinline__ void run(uint32_t early) const {
        if constexpr (has_the_only<Memory>) return run_the_only(early);
        ChunkIterator<QueueReader<Memory>> raw{{s}};
        uint32_t value = load_first_values(early);
        const auto load_values = [&] { load_values_before(raw.number, value); };
        if constexpr (finds_for_itself<Memory>) {
            LeadingSegments<Memory> segments{{p, s, block_here(), 0, kHalves}};
            for (;;) {
                const bool is_open = raw.chunk != raw.end;
                if (segments.found == raw.place && (!is_open || segments.has_piece || segments.has_room())) segments.find_half(load_values);
                if (!is_open) {
                    if (segments.found == raw.place) continue;
                    if (!raw.template take<true>(segments.at(raw.place++))) break;
                    prefetch_gate(p, raw.head, lane_here());
                }
                // What comes behind this segment is found between its first chunks, while a stage is not free yet.
                load_chunks(raw, segments.found > raw.place ? raw.end : min(raw.chunk + 1, raw.end), early, value);
            }
        } else {
            while (raw.open_segment(load_values)) {
                prefetch_gate(p, raw.head, lane_here());
                load_chunks(raw, raw.end, early, value);
            }
        }
        end(raw.number, value);
    }
    // Where a worker has one segment, nobody need find it.
    struct OnlyChunks {
        FirstPiece of;
        int end, chunk = 0;
        uint32_t number = 0;
        __device__ __forceinline__ ChunkInfo info() const { return of.template chunk<0>(chunk); }
    };
    __device__ __forceinline__ void run_the_only(uint32_t early) const {
        const FirstPiece of = first_piece<Memory, false>(p, block_here(), kEarlyChunks);
        OnlyChunks raw{of, uniform(of.end)};
        uint32_t value = load_first_values(early);
        load_chunks(raw, raw.end, early, value);
        end(raw.number, value);
    }
    // The chain wants them before it lets segments go.
    __device__ __forceinline__ void load_values_before(uint32_t number, uint32_t &value) const {
#pragma unroll 1
        for (; value < number; value++) load_value(value);
    }
    __device__ __forceinline__ uint32_t load_first_values(uint32_t early) const {
        uint32_t value = 0;
        if constexpr (Memory::kValuesFirst) load_values_before(early, value);
        return value;
    }
    // Chunks of a segment.
    template <class Chunks>
    __device__ __forceinline__ void load_chunks(Chunks &raw, int stop, uint32_t early, uint32_t &value) const {
        for (; raw.chunk != stop; raw.chunk++, raw.number++) {
            if (raw.number >= value + kValueLag) load_value(value++);  // first: its tile is free before the stage is
            // Tiles of the first chunks come first: later ones would delay them, and code on its way.
            if (kEarlyChunks < kTurns && raw.number == kEarlyChunks) wait(s.at(s->barriers.raw_ready[0]), 0);
            if (raw.number == kTurns) wait(s.at(s->barriers.scores_ready[0]), 0);
            if (raw.number >= early) load_raw(raw.number, raw.info());
        }
    }
    // Behind the last chunk, for whoever has every second or third one.
    __device__ __forceinline__ void end(uint32_t number, uint32_t &value) const {
        load_values_before(number, value);
        for (uint32_t i = 0; i < kSolvers; i++) load_raw(number + i, {});
    }

    // As many as there are operand groups, before the roles begin: tiles of later chunks would only delay these, and code on its way.
    // Returns how many.
    __device__ __forceinline__ uint32_t run_early() const {
        uint32_t asked = 0;
        const auto load = [&](uint32_t number, const ChunkInfo &info) { load_raw(number, info), asked++; };  // waits for nobody, as number < kStages
        load_early_chunks<Memory, 0, false>(p, blockIdx.x, 0, 1, kEarlyChunks, load);
        return asked;
    }
    // What it returned, where that was before the block had met.
    __device__ __forceinline__ uint32_t early_chunks() const {
        return static_cast<uint32_t>(uniform(first_piece<Memory, false>(p, block_here(), kEarlyChunks).early));
    }

    __device__ __forceinline__ void load_raw(uint32_t number, const ChunkInfo &at) const {
        const RingSlot stage = stage_slot(number);
        const uint32_t ready = s.at(s->barriers.raw_ready[stage.index]);
        if (lane_here() == 0) leave_chunk_info(s, number, at);
        prefetch_gates<kind>(p, at, lane_here());
        mark(mark_load_wants_stage, number, lane_here() == 0);
        if (number >= kStages) wait(s.at(s->barriers.chunk_done[stage.index]), stage.phase ^ 1);
        __syncwarp();
        mark(mark_load_has_stage, number, lane_here() == 0);
        if (elect_one()) {
            if (at.rows > 0) load_raw_tiles<kind>(p, s, stage.index, at, ready);
            else arrive(ready);
        }
        __syncwarp();
        mark(mark_load_has_asked, number, lane_here() == 0);
    }

    __device__ __forceinline__ void load_value(uint32_t number) const {
        const uint32_t slot = number % kValueStages, ready = s.at(s->barriers.value_ready[slot]);
        const RingSlot before = stage_slot(number - kValueStages);
        const ChunkInfo at = chunk_info_of(s, number);
        if (number >= kValueStages) wait_together(s.at(s->barriers.chunk_done[before.index]), before.phase);
        if (elect_one()) {
            arrive_expecting(ready, kHalves * kValueBytes);
            for (int half = 0; half < kHalves; half++)
                load_tile(s.at(s->value[slot][half]), p.v, half * kHalf, at.head, at.token, at.batch, ready);
        }
        __syncwarp();
    }
};

}  // namespace fkdai::prefill::solo

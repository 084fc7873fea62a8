// The load role of solo: raw tiles and values of every chunk, from the caller's tensors to shared memory.
#pragma once

#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/mapping/solo_config.cuh"

namespace fkdai::prefill::solo {

// One warp. Raw tiles run kValueLag chunks ahead of the values, which need less time between arrival and use.
template <class Memory, GateKind kind>
struct LoadRole {
    const Params &p;
    SharedView<Memory> s;
    static constexpr int kEarlyChunks = are_lone<Memory> ? 1 : kTurns;

    __device__ __forceinline__ void run() const {
        ChunkIterator<QueueReader<Memory>> raw{{s}};
        uint32_t value = 0;
        const auto early = static_cast<uint32_t>(uniform(first_piece<Memory, false>(p, block_here(), kEarlyChunks).early));
        // The chain wants them before it lets segments go.
        const auto load_values = [&] {
#pragma unroll 1
            for (; value < raw.number; value++) load_value(value);
        };
        while (raw.open_segment(load_values)) {
            prefetch_gate(p, raw.head, lane_here());
            for (; raw.chunk != raw.end; raw.chunk++, raw.number++) {
                if (raw.number >= value + kValueLag) load_value(value++);  // first: its tile is free before the stage is
                // Tiles of the first chunks come first: later ones would delay them, and code on its way.
                if (kEarlyChunks < kTurns && raw.number == kEarlyChunks) wait(s.at(s->barriers.raw_ready[0]), 0);
                if (raw.number == kTurns) wait(s.at(s->barriers.scores_ready[0]), 0);
                if (raw.number >= early) load_raw(raw.number, raw.info());
            }
        }
        load_values();
        for (uint32_t i = 0; i < kSolvers; i++) load_raw(raw.number + i, {});  // the end, for whoever has every second or third chunk
    }

    // As many as there are operand groups, before the roles begin: tiles of later chunks would only delay these, and code on its way.
    // Returns how many.
    __device__ __forceinline__ uint32_t run_early() const {
        uint32_t asked = 0;
        const auto load = [&](uint32_t number, const ChunkInfo &info) { load_raw(number, info), asked++; };  // waits for nobody, as number < kStages
        load_early_chunks<Memory, 0, false>(p, blockIdx.x, 0, 1, kEarlyChunks, load);
        return asked;
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

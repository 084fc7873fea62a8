// The load role of duo, and of a preparer (quad, octet): raw tiles (and values) of every chunk, from the caller's tensors to shared memory.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/loads.cuh"

namespace fkdai::prefill::duo {

// One warp. Raw tiles run kValueLag chunks ahead of the values, which need less time between arrival and use.
template <class Memory, GateKind kind, bool loads_values>
struct LoadRole {
    const Params &p;
    SharedView<Memory> s;
    int rank, cluster, lane;
    static constexpr uint32_t kTurns = Memory::kPreparers;
    static constexpr bool kHasMarks = Memory::kFirstAhead;  // of first_piece: in clusters
    static constexpr int kFirstChunks = 6;  // of a segment
    static constexpr int kInfoAhead = keeps_gates<Memory, kind> ? Memory::kGatesAhead : 0;

    // raw: before the first segment. early_chunks: of load_first; with kAsksAhead nobody reads it.
    template <class Chunks>
    __device__ __forceinline__ void run(Chunks raw, int early_chunks) const {
        if constexpr (has_the_only<Memory> && !loads_values) return run_the_only();
        const auto early = static_cast<uint32_t>(uniform(kAsksAhead ? load_early<true>(kTurns, kEarlyChunks, [] {}) : early_chunks));
        uint32_t value = 0;
        if constexpr (loads_values && Memory::kValuesFirst) value = load_first_values(early);
        // The chain wants them before it lets segments go.
        const auto load_values_behind = [&] {
            if constexpr (loads_values)
#pragma unroll 1
                for (; value < raw.number; value++) load_value(value);
        };
        while (raw.open_segment(load_values_behind)) {
            prefetch_gate(p, raw.head, lane);
            // What comes behind this segment is asked when its first chunks have been asked for, whose tiles are wanted first, and outside of the loop
            // over chunks, which stays small so; before the last one, which may be the last of all.
            const int before = raw.chunk, middle = max(min(raw.end - 1, before + kFirstChunks), before);
            bool ends = false;
#pragma unroll 1
            for (int turn = 0; turn < 2; turn++) {
                const int stop = turn == 0 ? middle : raw.end;
                for (; raw.chunk != stop; raw.chunk++, raw.number++) {
                    if constexpr (loads_values)
                        if (raw.number >= value + kValueLag) load_value(value++);  // first: its tile is free before the stage is
                    ChunkInfo info = raw.info();
                    if (keeps_gates<Memory, kind>) info.rows_ahead = raw.rows_ahead(Memory::kGatesAhead);
                    info.is_last = ends && raw.chunk + 1 == raw.end;
                    const bool is_own = raw.number % kTurns == static_cast<uint32_t>(rank);
                    if (!is_own) {
                        if (lane == 0) leave_chunk_info(s, raw.number, info);
                        __syncwarp();
                    } else if (raw.number >= early) {
                        // Unless that is done at the start: tiles of the first chunks come first, and code that nobody has run yet.
                        if (!Memory::kFirstAhead && raw.number == Memory::kPrepareGroups * kTurns + rank) wait(s.at(s->barriers.scores_ready[0]), 0);
                        if (Memory::kFirstAhead && !kAsksAhead) await_norms_before(raw.number / kTurns);
                        load_raw(info, raw.number, raw.chunk - before);
                    }
                }
                if (turn == 0) ends = !raw.is_followed(load_values_behind);
            }
        }
        load_values_behind();
        announce_end(raw.number);
    }

    // Where a worker has one segment, nobody need find it; a duo's load warp is faster as it is. Chunks before have been asked for.
    __device__ __forceinline__ void run_the_only() const {
        const FirstPiece of = first_piece<Memory, kHasMarks>(p, cluster, static_cast<int>(kEarlyChunks));
        const auto chunks = static_cast<uint32_t>(uniform(of.end));
#pragma unroll 1
        for (uint32_t number = kTurns + rank; number < chunks; number += kTurns) {
            await_norms_before(number / kTurns);
            load_raw(of.template chunk<kInfoAhead>(static_cast<int>(number)), number, static_cast<int>(number));
        }
        announce_end(chunks);
    }

    template <class Chunks>
    __device__ __forceinline__ void run(const Chunks &raw) const { run(raw, kAsksAhead ? 0 : early_chunks()); }

    // Before the roles begin, and perhaps before the block has met, so that barriers of others may not be there yet. Returns how many of this CTA's chunks
    // have been asked for. kFirstAhead: operand groups slow each other, and the first chunk is wanted first. So that one alone, and then a group gets its
    // first tiles when the norms of the one before are there. A load warp that finds segments itself asks for as many as there are stages before
    // (kAsksAhead), but where ptxas then spills registers of the operand warps: with precomputed gates and two or three preparers.
    static constexpr bool kIsPrecomputed = kind == GateKind::Precomputed || kind == GateKind::PrecomputedF32;
    static constexpr bool kAsksAhead = Memory::kFirstAhead && !Memory::kLoadsApart && !(kIsPrecomputed && kTurns < 4);
    static constexpr uint32_t kEarlyChunks = (kAsksAhead ? Memory::kOwnStages : Memory::kFirstAhead ? 1 : Memory::kPrepareGroups) * kTurns;
    __device__ __forceinline__ uint32_t run_early() const {
        uint32_t asked = 0;
        (void)load_early<false>(0, Memory::kFirstAhead ? kTurns : kEarlyChunks, [&] { asked++; });
        return asked;
    }

    __device__ __forceinline__ int load_first() const { return load_early<false>(0, kEarlyChunks, [] {}); }
    // What it returned, where the first tiles were asked for before the block had met.
    __device__ __forceinline__ int early_chunks() const { return first_piece<Memory, kHasMarks>(p, cluster, kEarlyChunks).early; }

    // Chunks first to most of the timeline; count(): behind each. Returns how many are early ones, those before `first` too. waits: for what load_raw
    // waits for.
    template <bool waits, class Count>
    __device__ __forceinline__ int load_early(uint32_t first, uint32_t most, const Count &count) const {
        const auto load = [&](uint32_t number, const ChunkInfo &info) {
            if (waits) await_norms_before(number / kTurns);
            load_raw<waits>(info, number, static_cast<int>(number));
            count();
        };
        return load_early_chunks<Memory, kInfoAhead, kHasMarks>(p, cluster, static_cast<int>(first) + rank, kTurns, most, load);
    }

    // Of the i-th chunk that this CTA has.
    __device__ __forceinline__ void await_norms_before(uint32_t i) const {
        if constexpr (Memory::kFirstAhead)
            if (i - 1 < Memory::kPrepareGroups - 1) wait_together(s.at(s->barriers.norms_ready[i - 1]), 0);
    }

    // before: chunks of the segment before this one. waits: for its stage, unless it is the first one there.
    template <bool waits = true>
    __device__ __forceinline__ void load_raw(const ChunkInfo &at, uint32_t number, int before) const {
        const RingSlot slot = own_slot<Memory>(number / kTurns);
        const uint32_t ready = s.at(s->barriers.raw_ready[slot.index]);
        if (lane == 0) leave_chunk_info(s, number, at);
        mark(mark_load_wants_stage, number, lane == 0);
        if (!keeps_gates<Memory, kind> || before < Memory::kGatesAhead) prefetch_gates<kind>(p, at, lane);
        if (waits && Memory::kPrefetchesTiles && elect_one()) prefetch_raw_tiles<kind>(p, at);
        if (waits) wait_together(s.at(s->barriers.stage_free[slot.index]), slot.phase ^ 1);
        else __syncwarp();
        mark(mark_load_has_stage, number, lane == 0);
        if (elect_one()) load_raw_tiles<kind>(p, s, slot.index, at, ready);
        __syncwarp();
        mark(mark_load_has_asked, number, lane == 0);
    }

    __device__ __forceinline__ void load_value(uint32_t number) const {
        const RingSlot slot = ring_slot<kValueStages>(number);
        wait_together(s.at(s->barriers.value_free[slot.index]), slot.phase ^ 1);
        if (!elect_one()) return;
        const ChunkInfo at = s->chunk_infos[number % Memory::kChunkInfos];
        request_value(slot.index, at.head, at.token, at.batch);
    }
    // V of the early chunks, as many as there is room for: the chain wants it before the tiles of later chunks. Of chunks that the other CTA prepares
    // nothing is known yet but that they lie side by side. Returns how many.
    __device__ __forceinline__ uint32_t load_first_values(uint32_t early) const {
        const ChunkInfo own = s->chunk_infos[rank];
        const uint32_t count = early > static_cast<uint32_t>(rank) ? min(early, uint32_t{kValueStages}) : 0;
        if (elect_one())
#pragma unroll 1
            for (uint32_t number = 0; number < count; number++)
                request_value(number, own.head, own.token + (static_cast<int>(number) - rank) * kChunk, own.batch);
        __syncwarp();
        return count;
    }
    // By one lane.
    __device__ __forceinline__ void request_value(uint32_t slot, int head, int token, int batch) const {
        const uint32_t ready = s.at(s->barriers.value_ready[slot]);
        arrive_expecting(ready, kValueBytes);
        load_tile(s.at(s->value[slot]), p.v, rank * kHalf, head, token, batch, ready);
    }

    // Behind `chunks` of them: in place of the next ones that this CTA would own.
    __device__ __forceinline__ void announce_end(uint32_t chunks) const {
        const uint32_t end = chunks + (rank + kTurns - chunks % kTurns) % kTurns;
        for (uint32_t i = 0; i < Memory::kPrepareGroups; i++) announce_end_as(end + i * kTurns);
    }
    __device__ __forceinline__ void announce_end_as(uint32_t number) const {
        const RingSlot slot = own_slot<Memory>(number / kTurns);
        wait(s.at(s->barriers.stage_free[slot.index]), slot.phase ^ 1);
        const uint32_t ready = s.at(s->barriers.raw_ready[slot.index]);
        if (lane == 0) {
            s->chunk_infos[number % Memory::kChunkInfos].rows = 0;
            arrive(ready);
        }
    }
};

}  // namespace fkdai::prefill::duo

// From a grid to the parameters that say who works where: used by the launcher and by the emulator.
#pragma once

#include "prefill_sm90/prefill_tuning.h"
#include "prefill_sm90/problem/params.cuh"
#include "schedule/make_schedule.cuh"

namespace fkdai::prefill {

static_assert(sizeof(Cut) == FKDAI_CUT_BYTES);

// Where a block of duo or solo has a NearSchedule: behind all else.
inline constexpr uint32_t kNearSchedule = 225 * 1024;

inline void place_kinds(Timeline &timeline, const fkdai_prefill_grid &grid) {
    timeline.job_cost = grid.mapping == FKDAI_QUAD ? int{FKDAI_QUAD_JOB_COST} : int{FKDAI_JOB_COST};
    timeline.kinds[kClusterKind] = {fkdai_prefill_clusters(grid), FKDAI_DUO_CHUNK_COST, timeline.job_cost, 0};
    timeline.kinds[kSingleKind] = {fkdai_prefill_singles(grid), FKDAI_SOLO_CHUNK_COST, FKDAI_JOB_COST, 0};
    timeline.kinds[kQuadKind] = {grid.quads, FKDAI_QUAD_CHUNK_COST, FKDAI_QUAD_JOB_COST, FKDAI_QUAD_START_COST};
}

// States whose rows of V lie at multiples of 16 bytes, all of them, in fp32.
inline bool are_whole_rows(const States &x) {
    return x.element == Element::F32 && !x.is_k_first && reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.row_stride % 4 == 0;
}

// No checkpoints, and states as the kernels for plain calls take them (are_plain).
inline bool is_plain(const Params &p) {
    const auto are_plain = [](const States &x) { return x.element == Element::Absent || are_whole_rows(x); };
    return p.checkpoints.states.element == Element::Absent && are_plain(p.initial_state) && are_plain(p.final_state);
}

// One job a worker, and no other launch beside this one: as the kernels of duos or solos alone take it (are_lone).
inline bool is_lone(const Params &p) { return p.turn == Turn::Alone && p.has_lone_jobs(); }

// Jobs for duos alone, more than one for some: known without a look at lengths.
inline bool are_many_duos(const Params &p) {
    const bool are_equal = p.mapping == FKDAI_EITHER && p.equal.weight > 0 && p.equal.kind == kClusterKind;
    return p.turn == Turn::Alone && !p.has_lone_jobs() && (p.mapping == FKDAI_DUO || are_equal);
}

inline int mean_tokens(const Params &p) {
    const bool is_packed = p.sequences.cu_seqlens != nullptr;
    return is_packed ? p.sequences.tokens / (p.sequences.count > 0 ? p.sequences.count : 1) : p.sequences.tokens;
}

// `number` is one that no launch has had before.
inline void place_workspace(Params &p, const fkdai_prefill_grid &grid, fkdai_prefill_schedule schedule,
                            fkdai_prefill_stops stops, void *memory, uint64_t number) {
    const fkdai_prefill_layout at = fkdai_prefill_make_layout(p.sequences.count, grid, schedule, stops);
    auto *const base = static_cast<uint8_t *>(memory);
    p.mapping = grid.mapping;
    place_kinds(p, grid);
    p.relay = base + at.relay;
    p.checkpoints.parked = reinterpret_cast<float *>(base + at.parked);
    p.checkpoints.are_rows = are_whole_rows(p.checkpoints.states);
    if (schedule == FKDAI_SCHEDULE_NONE) return;
    p.hand_over = {reinterpret_cast<float *>(base + at.state), reinterpret_cast<uint64_t *>(base + at.is_ready), number};
    if (schedule == FKDAI_SCHEDULE_EQUAL) {
        p.equal = equal_jobs<kChunk>(p);
        return;
    }
    p.schedule = {reinterpret_cast<Cut *>(base + at.cut), reinterpret_cast<int32_t *>(base + at.prefix), reinterpret_cast<int2 *>(base + at.sequence),
                  stops.every > 0 ? reinterpret_cast<int32_t *>(base + at.marks) : nullptr, schedule == FKDAI_SCHEDULE_OWN};
    const bool is_near = p.schedule.is_own && p.schedule.marks == nullptr && grid.mapping != FKDAI_QUAD && p.sequences.count <= kNearSequences;
    if (is_near) p.schedule.near = kNearSchedule;
}

// The parameters of the second launch, of quads: both decide alike, and the workspace of these lies behind that of `p`.
inline Params place_quads(const Params &p, const fkdai_prefill_grid &grid, fkdai_prefill_jobs jobs, fkdai_prefill_stops stops, void *memory, uint64_t number) {
    const fkdai_prefill_grid of_quads = fkdai_prefill_quads(grid);
    const size_t before = fkdai_prefill_make_layout(jobs.N, grid, fkdai_prefill_who_schedules(jobs, grid, stops), stops).bytes;
    Params quads = p;
    place_workspace(quads, of_quads, FKDAI_SCHEDULE_OWN, stops, static_cast<uint8_t *>(memory) + before, number);
    place_kinds(quads, grid);
    quads.job_cost = FKDAI_QUAD_JOB_COST, quads.turn = Turn::Second;
    return quads;
}

}  // namespace fkdai::prefill

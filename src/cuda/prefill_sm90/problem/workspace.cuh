// From a grid to the parameters that say who works where: used by the launcher and by the emulator.
#pragma once

#include "prefill_sm90/prefill_tuning.h"
#include "prefill_sm90/problem/params.cuh"

namespace fkdai::prefill {

static_assert(sizeof(Cut) == FKDAI_CUT_BYTES);

// `number` is one that no launch has had before.
inline void place_workspace(Params &p, const fkdai_prefill_grid &grid, fkdai_prefill_schedule schedule,
                            fkdai_prefill_stops stops, void *memory, uint64_t number) {
    const fkdai_prefill_layout at = fkdai_prefill_make_layout(p.sequences.count, grid, schedule, stops);
    auto *const base = static_cast<uint8_t *>(memory);
    p.mapping = grid.mapping;
    p.kinds[kClusterKind] = {fkdai_prefill_clusters(grid), FKDAI_DUO_CHUNK_COST};
    p.kinds[kSingleKind] = {fkdai_prefill_singles(grid), FKDAI_SOLO_CHUNK_COST};
    p.relay = base + at.relay;
    p.checkpoints.parked = reinterpret_cast<float *>(base + at.parked);
    if (schedule == FKDAI_SCHEDULE_NONE) return;
    p.hand_over = {reinterpret_cast<float *>(base + at.state), reinterpret_cast<uint64_t *>(base + at.is_ready), number};
    p.schedule = {reinterpret_cast<Cut *>(base + at.cut), reinterpret_cast<int32_t *>(base + at.prefix), reinterpret_cast<int2 *>(base + at.sequence),
                  stops.every > 0 ? reinterpret_cast<int32_t *>(base + at.marks) : nullptr, schedule == FKDAI_SCHEDULE_OWN};
}

}  // namespace fkdai::prefill

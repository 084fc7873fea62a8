#include "prefill_mma/prefill_mma_plan.h"

/* As many slices as leave every block a multiprocessor of its own; a power of two, so that they are equal. */
fkdai_mma_grid fkdai_mma_make_grid(int64_t N, int64_t HV, int64_t V, int multiprocessors, int slices)
{
    const int most = (int)(V / FKDAI_MMA_COLUMNS);
    const int64_t jobs = N * HV;
    int count = 1;
    if (slices > 0) count = slices < most ? slices : most;
    else
        while (2 * count <= most && 2 * count * jobs <= multiprocessors) count *= 2;
    const int chain_warps = most / count, room = FKDAI_MMA_MOST_WARPS - FKDAI_MMA_PREPARE_WARPS - chain_warps;
    return (fkdai_mma_grid){count, room < FKDAI_MMA_SOLVE_WARPS ? 0 : FKDAI_MMA_SOLVE_WARPS, chain_warps, (uint32_t)(jobs * count)};
}

int fkdai_mma_threads(fkdai_mma_grid grid) { return 32 * (FKDAI_MMA_PREPARE_WARPS + grid.solve_warps + grid.chain_warps); }

/*
 * How a call is laid on blocks. Pure functions of sizes: the launcher, the plan of a call and the emulator ask the same ones.
 *
 * A job is one (sequence, value head). Columns of V never meet, so a block takes a slice of them: where jobs are few, several blocks share one, each
 * with a preparation of its own. The slices change no bit.
 */
#ifndef FKDAI_PREFILL_MMA_PLAN_H
#define FKDAI_PREFILL_MMA_PLAN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    FKDAI_MMA_CHUNK = 32,            /* tokens of a step */
    FKDAI_MMA_WIDTH = 128,           /* most of K and V */
    FKDAI_MMA_COLUMNS = 16,          /* of V, that one warp of the chain has */
    FKDAI_MMA_PREPARE_WARPS = 8,
    FKDAI_MMA_SOLVE_WARPS = 2,       /* where there is room; else the chain solves */
    FKDAI_MMA_MOST_WARPS = 16,
    FKDAI_MMA_SHARED_BYTES = 99 * 1024,   /* what a block of any GPU since sm_80 may have */

    /* Long sequences are cut in spans (backend/cuda_spans.h) where there are so many multiprocessors for a value head; tokens of the first span, and of
     * each behind it. Measured on an H200. */
    FKDAI_MMA_SPAN_SHARE = 8,
    FKDAI_MMA_FIRST_SPAN = 512,
    FKDAI_MMA_NEXT_SPAN = 256
};

typedef struct fkdai_mma_grid {
    int slices;                      /* of V: blocks of a job */
    int solve_warps, chain_warps;    /* of a block */
    uint32_t blocks;                 /* 0: nothing to do */
} fkdai_mma_grid;

#define FKDAI_MMA_MOST_JOBS (INT64_C(1) << 27)

/* N HV is at most FKDAI_MMA_MOST_JOBS. slices: 0, or how many if there is a choice. */
fkdai_mma_grid fkdai_mma_make_grid(int64_t N, int64_t HV, int64_t V, int multiprocessors, int slices);

int fkdai_mma_threads(fkdai_mma_grid grid);

#ifdef __cplusplus
}
#endif
#endif

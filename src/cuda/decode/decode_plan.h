/*
 * How a call is laid on blocks. Pure functions of sizes: the launcher, the plan of a call and the emulator ask the same ones.
 *
 * A state is one 128x128 matrix of one (sequence, value head). Its rows, one value channel each, never meet, so a block takes some of them.
 */
#ifndef FKDAI_DECODE_PLAN_H
#define FKDAI_DECODE_PLAN_H

#include <stdint.h>

#include "device/divisor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FKDAI_DECODE_MAX_TOKENS = 8 };

/* Which kernel: the lanes that share a row, the warps of a block, and the tokens it has room for (decode_config.cuh). The bits of a result do not
 * depend on it. */
typedef enum fkdai_decode_shape { FKDAI_DECODE_ONE, FKDAI_DECODE_SOME, FKDAI_DECODE_SHAPES } fkdai_decode_shape;

typedef struct fkdai_decode_grid {
    fkdai_decode_shape shape;
    int is_bf16_state, is_k_first;    /* the state in memory */
    int is_programmatic;              /* may start before the kernel before has ended */
    uint32_t blocks;                  /* 0: nothing to do */
} fkdai_decode_grid;

/* For N*HV states and at most S tokens of each, on a device of this compute capability. blocks is 0 where they would be too many. */
fkdai_decode_grid fkdai_decode_make_grid(int64_t N, int64_t HV, int S, int is_bf16_state, int is_k_first, int major);

/* Of the kernel for a shape and a dtype of states. */
int fkdai_decode_blocks_per_state(fkdai_decode_shape shape, int is_bf16_state);

typedef fkdai_divisor fkdai_decode_divisor;
fkdai_decode_divisor fkdai_decode_make_divisor(uint32_t y);    /* 1 <= y <= 2^31 */

/* N*HV may not be above this. */
#define FKDAI_DECODE_MAX_STATES (INT64_C(1) << 27)

#ifdef __cplusplus
}
#endif
#endif

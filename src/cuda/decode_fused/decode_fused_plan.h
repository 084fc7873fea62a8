/* How a call is laid on blocks: one for each state. Pure functions of sizes: the launcher, the plan of a call and the emulator ask the same ones. */
#ifndef FKDAI_DECODE_FUSED_PLAN_H
#define FKDAI_DECODE_FUSED_PLAN_H

#include <stdint.h>

#include "device/divisor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fkdai_fused_grid {
    int is_bf16_state, is_k_first;    /* the state in memory */
    int is_programmatic;              /* may start before the kernel before has ended */
    uint32_t blocks;                  /* 0: nothing to do */
    fkdai_divisor by_heads;           /* block / H is its sequence */
} fkdai_fused_grid;

/* N*H may not be above this. */
#define FKDAI_FUSED_MAX_STATES (INT64_C(1) << 30)

/* For N*H states on a device of this compute capability. blocks is 0 where they would be too many. */
fkdai_fused_grid fkdai_fused_make_grid(int64_t N, int64_t H, int is_bf16_state, int is_k_first, int major);

/* How the three taps of four neighbouring channels lie, from the strides of tap and channel: */
typedef enum fkdai_fused_taps {
    FKDAI_FUSED_TAPS_ROWS,       /* four neighbours, three times */
    FKDAI_FUSED_TAPS_COLUMNS,    /* twelve neighbours */
    FKDAI_FUSED_TAPS_SINGLE      /* element by element */
} fkdai_fused_taps;
fkdai_fused_taps fkdai_fused_choose_taps(int64_t slot_stride, int64_t tap_stride, int64_t channel_stride);

#ifdef __cplusplus
}
#endif
#endif

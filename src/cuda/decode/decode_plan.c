#include "decode/decode_plan.h"

#include "decode/decode_tuning.h"

static int lanes_of(fkdai_decode_shape shape, int is_bf16)
{
    if (shape == FKDAI_DECODE_SOME) return FKDAI_DECODE_SOME_LANES;
    return is_bf16 ? FKDAI_DECODE_ONE_BF16_LANES : FKDAI_DECODE_ONE_F32_LANES;
}

static int warps_of(fkdai_decode_shape shape, int is_bf16)
{
    if (shape == FKDAI_DECODE_SOME) return FKDAI_DECODE_SOME_WARPS;
    return is_bf16 ? FKDAI_DECODE_ONE_BF16_WARPS : FKDAI_DECODE_ONE_F32_WARPS;
}

int fkdai_decode_blocks_per_state(fkdai_decode_shape shape, int is_bf16_state)
{
    const int rows = warps_of(shape, is_bf16_state) * (32 / lanes_of(shape, is_bf16_state)) * FKDAI_DECODE_ROWS;
    return 128 / rows;
}

fkdai_decode_divisor fkdai_decode_make_divisor(uint32_t y) { return fkdai_make_divisor(y); }

fkdai_decode_grid fkdai_decode_make_grid(int64_t N, int64_t HV, int S, int is_bf16_state, int is_k_first, int major)
{
    fkdai_decode_grid grid = {.shape = S == 1 ? FKDAI_DECODE_ONE : FKDAI_DECODE_SOME, .is_bf16_state = is_bf16_state, .is_k_first = is_k_first,
                              .is_programmatic = major >= 9};
    if (N <= FKDAI_DECODE_MAX_STATES / HV) grid.blocks = (uint32_t)(N * HV) * (uint32_t)fkdai_decode_blocks_per_state(grid.shape, is_bf16_state);
    return grid;
}

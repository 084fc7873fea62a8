#include "decode_fused/decode_fused_plan.h"

#include "device/programmatic.h"

fkdai_fused_grid fkdai_fused_make_grid(int64_t N, int64_t H, int is_bf16_state, int is_k_first, int major)
{
    fkdai_fused_grid grid = {.is_bf16_state = is_bf16_state, .is_k_first = is_k_first, .is_programmatic = fkdai_is_programmatic(major)};
    if (N > FKDAI_FUSED_MAX_STATES / H) return grid;
    grid.blocks = (uint32_t)(N * H);
    grid.by_heads = fkdai_make_divisor((uint32_t)H);
    return grid;
}

fkdai_fused_taps fkdai_fused_choose_taps(int64_t slot_stride, int64_t tap_stride, int64_t channel_stride)
{
    if (slot_stride % 4 == 0 && tap_stride % 4 == 0 && channel_stride == 1) return FKDAI_FUSED_TAPS_ROWS;
    return slot_stride % 4 == 0 && tap_stride == 1 && channel_stride == 3 ? FKDAI_FUSED_TAPS_COLUMNS : FKDAI_FUSED_TAPS_SINGLE;
}

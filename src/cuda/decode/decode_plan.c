#include "decode/decode_plan.h"

#include "decode/decode_tuning.h"

typedef struct layout {
    int lanes, warps, rows;
} layout;

static layout layout_of(fkdai_decode_shape shape, int is_bf16)
{
    static const layout layouts[FKDAI_DECODE_SHAPES] = {
        [FKDAI_DECODE_ONE_SMALL] = {FKDAI_DECODE_ONE_F32_LANES, FKDAI_DECODE_ONE_SMALL_WARPS, FKDAI_DECODE_ROWS},
        [FKDAI_DECODE_ONE_SOME] = {FKDAI_DECODE_MANY_LANES, FKDAI_DECODE_MANY_WARPS, FKDAI_DECODE_ROWS},
        [FKDAI_DECODE_FEW] = {FKDAI_DECODE_FEW_LANES, FKDAI_DECODE_FEW_WARPS, FKDAI_DECODE_ROWS},
        [FKDAI_DECODE_MANY] = {FKDAI_DECODE_MANY_LANES, FKDAI_DECODE_MANY_WARPS, FKDAI_DECODE_ROWS},
        [FKDAI_DECODE_CHUNK] = {FKDAI_DECODE_CHUNK_LANES, FKDAI_DECODE_CHUNK_WARPS, FKDAI_DECODE_CHUNK_ROWS},
        [FKDAI_DECODE_CHUNK_HALF] = {FKDAI_DECODE_CHUNK_LANES, FKDAI_DECODE_CHUNK_HALF_ROW_WARPS, FKDAI_DECODE_CHUNK_ROWS},
        [FKDAI_DECODE_PERSISTENT] = {FKDAI_DECODE_CHUNK_LANES, FKDAI_DECODE_CHUNK_WARPS, FKDAI_DECODE_CHUNK_ROWS},
        [FKDAI_DECODE_STEPS] = {FKDAI_DECODE_STEPS_LANES, FKDAI_DECODE_STEPS_WARPS, FKDAI_DECODE_ROWS},
    };
    static const layout of_one[2] = {{FKDAI_DECODE_ONE_F32_LANES, FKDAI_DECODE_ONE_F32_WARPS, FKDAI_DECODE_ROWS},
                                     {FKDAI_DECODE_ONE_BF16_LANES, FKDAI_DECODE_ONE_BF16_WARPS, FKDAI_DECODE_ROWS}};
    return shape == FKDAI_DECODE_ONE ? of_one[is_bf16 != 0] : layouts[shape];
}

int fkdai_decode_blocks_per_state(fkdai_decode_shape shape, int is_bf16_state)
{
    const layout l = layout_of(shape, is_bf16_state);
    return 128 / (l.warps * (32 / l.lanes) * l.rows);
}

fkdai_decode_divisor fkdai_decode_make_divisor(uint32_t y) { return fkdai_make_divisor(y); }

/* S and what is written decide, and nothing else: bits depend on it. */
static int takes_together(const fkdai_decode_request *r)
{
    if (r->writes_steps) return 0;
    return r->is_read_only ? r->S >= FKDAI_DECODE_TOGETHER_NONE : r->writes_last && r->S >= FKDAI_DECODE_TOGETHER_LAST;
}

static fkdai_decode_shape shape_of_one(const fkdai_decode_request *r)
{
    const int64_t states = r->N * r->HV;
    if (r->is_k_first || r->is_read_only) return FKDAI_DECODE_MANY;
    const int is_usual = !r->is_bf16_state && r->has_plain_input;
    if (states < FKDAI_DECODE_SOME_STATES) return is_usual && states <= FKDAI_DECODE_SMALL_STATES ? FKDAI_DECODE_ONE_SMALL : FKDAI_DECODE_ONE;
    if (!r->is_bf16_state && states >= FKDAI_DECODE_ROUNDS_STATES) return FKDAI_DECODE_FEW;
    return is_usual ? FKDAI_DECODE_ONE_SOME : FKDAI_DECODE_MANY;
}

/* Tokens taken together: by blocks that stay, where each has some states, and a multiprocessor the shared memory for it; by blocks of half a state, where
 * there are few. Both are compiled early alone. */
static fkdai_decode_shape shape_of_chunk(const fkdai_decode_request *r, int major, int multiprocessors)
{
    const int64_t states = r->N * r->HV;
    if (r->is_k_first || !r->has_plain_input || !fkdai_is_programmatic(major)) return FKDAI_DECODE_CHUNK;
    if (major == 9 && states >= (int64_t)FKDAI_DECODE_PERSISTENT_ROUNDS * multiprocessors) return FKDAI_DECODE_PERSISTENT;
    return states <= FKDAI_DECODE_HALF_STATES ? FKDAI_DECODE_CHUNK_HALF : FKDAI_DECODE_CHUNK;
}

/* Where it gains: measured. */
static int is_early(const fkdai_decode_request *r, fkdai_decode_shape shape)
{
    const int64_t states = r->N * r->HV;
    if (r->writes_steps || r->is_k_first) return 0;
    if (takes_together(r)) return r->has_plain_input && (shape == FKDAI_DECODE_PERSISTENT || states < FKDAI_DECODE_SOME_STATES);
    if (r->is_read_only) return shape == FKDAI_DECODE_FEW;
    return r->S > 1 || r->is_bf16_state || states < FKDAI_DECODE_SOME_STATES || states >= FKDAI_DECODE_ROUNDS_STATES;
}

/* N HV is at most FKDAI_DECODE_MAX_STATES. */
static fkdai_decode_shape shape_of(const fkdai_decode_request *r, int major, int multiprocessors)
{
    if (r->writes_steps) return FKDAI_DECODE_STEPS;
    if (takes_together(r)) return shape_of_chunk(r, major, multiprocessors);
    if (r->S == 1) return shape_of_one(r);
    if (r->is_bf16_state || r->is_k_first) return FKDAI_DECODE_MANY;
    if (r->N * r->HV <= FKDAI_DECODE_FEW_STATES) return FKDAI_DECODE_FEW;
    return r->S >= FKDAI_DECODE_MANY_TOKENS || r->is_read_only ? FKDAI_DECODE_MANY : FKDAI_DECODE_FEW;
}

static int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }

fkdai_decode_grid fkdai_decode_make_grid(const fkdai_decode_request *r, int major, int multiprocessors)
{
    fkdai_decode_grid grid = {.is_bf16_state = r->is_bf16_state, .is_k_first = r->is_k_first, .is_programmatic = fkdai_is_programmatic(major)};
    if (r->N > FKDAI_DECODE_MAX_STATES / r->HV) return grid;
    grid.shape = shape_of(r, major, multiprocessors);
    grid.is_early = grid.is_programmatic && is_early(r, grid.shape);
    grid.has_plain_input = r->has_plain_input && fkdai_decode_is_built(grid.shape, r->is_bf16_state, r->is_k_first, 1, grid.is_early, major);
    grid.states = (uint32_t)(r->N * r->HV);
    grid.blocks = grid.shape == FKDAI_DECODE_PERSISTENT ? (uint32_t)least(grid.states, multiprocessors)
                                                        : grid.states * (uint32_t)fkdai_decode_blocks_per_state(grid.shape, r->is_bf16_state);
    return grid;
}

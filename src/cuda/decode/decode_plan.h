/*
 * How a call is laid on blocks. Pure functions of sizes: the launcher, the plan of a call and the emulator ask the same ones.
 *
 * A state is one 128x128 matrix of one (sequence, value head). Its rows, one value channel each, never meet, so a block takes some of them.
 */
#ifndef FKDAI_DECODE_PLAN_H
#define FKDAI_DECODE_PLAN_H

#include <stdint.h>

#include "device/divisor.h"
#include "device/programmatic.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { FKDAI_DECODE_MAX_TOKENS = 8 };

/* From so many on, tokens are taken together: if no state is written, and if the last one alone is. Bits depend on it: docs/numerics.md. */
enum { FKDAI_DECODE_TOGETHER_NONE = 4, FKDAI_DECODE_TOGETHER_LAST = 6 };

/* Which kernel: the lanes that share a row, the warps of a block, and the tokens it has room for (decode_config.cuh). The bits of a result do not
 * depend on it, but for CHUNK, which computes otherwise (decode_chunk.cuh). */
typedef enum fkdai_decode_shape {
    FKDAI_DECODE_ONE,      /* one token */
    FKDAI_DECODE_ONE_SMALL,    /* one token of few states: smaller blocks */
    FKDAI_DECODE_ONE_SOME,     /* one token of some hundred states: larger blocks, all at once */
    FKDAI_DECODE_FEW,      /* up to 8; most threads in flight */
    FKDAI_DECODE_MANY,     /* up to 8; fewest instructions for a token */
    FKDAI_DECODE_CHUNK,    /* up to 8, taken together, all outputs and at most the last state; S and what is written decide */
    FKDAI_DECODE_CHUNK_HALF,    /* the same bits, by blocks of half a state: soonest done where there are few */
    FKDAI_DECODE_PERSISTENT,    /* the same bits, by blocks that go from state to state: most states a second */
    FKDAI_DECODE_STEPS,    /* up to 8, whose states are written; trees */
    FKDAI_DECODE_SHAPES
} fkdai_decode_shape;

typedef struct fkdai_decode_grid {
    fkdai_decode_shape shape;
    int is_bf16_state, is_k_first;    /* the state in memory */
    int has_plain_input;              /* q, k, v, g, beta and out in bf16, dt_bias and A_log, where they are, in fp32; token rows and strides
                                         below 2^30. Else: anything */
    int is_programmatic;              /* may start before the kernel before has ended */
    int is_early;                     /* and then guesses its slots, and lets the kernel behind it start as early (decode_kernel.cuh) */
    uint32_t blocks;                  /* 0: nothing to do */
    uint32_t states;                  /* N HV; of PERSISTENT a block has every `blocks`th of them */
} fkdai_decode_grid;

typedef struct fkdai_decode_request {
    int64_t N, HV;
    int S;                            /* at most so many tokens a sequence */
    int writes_steps;                 /* the states after tokens are written, or tokens are a tree */
    int is_read_only;                 /* no state is written */
    int writes_last;                  /* the state behind the last token of each sequence is, and no other */
    int is_bf16_state, is_k_first, has_plain_input;
} fkdai_decode_request;

/* On a device of this compute capability, with so many multiprocessors. blocks is 0 where they would be too many. */
fkdai_decode_grid fkdai_decode_make_grid(const fkdai_decode_request *request, int major, int multiprocessors);

/* Of the kernel for a shape and a dtype of states; of PERSISTENT 1, of which a block has many. */
int fkdai_decode_blocks_per_state(fkdai_decode_shape shape, int is_bf16_state);

/* Is there a kernel of this shape for these states and inputs that starts early, or not, on devices of this generation (compute capability; one
 * without machine code runs what there is for 8)? Only those that a plan can choose are compiled. STEPS writes so much that it takes any inputs as fast. */
FKDAI_CONSTEXPR int fkdai_decode_is_built(fkdai_decode_shape shape, int is_bf16_state, int is_k_first, int has_plain_input, int is_early, int major)
{
    const int may_be_early = fkdai_is_programmatic(major), is_f32_vk = !is_bf16_state && !is_k_first;
    if (is_early && (is_k_first || !may_be_early)) return 0;
    switch (shape) {
    case FKDAI_DECODE_ONE: return !is_k_first && is_early == may_be_early;
    case FKDAI_DECODE_ONE_SMALL: return is_f32_vk && has_plain_input && is_early == may_be_early;
    case FKDAI_DECODE_ONE_SOME: return is_f32_vk && has_plain_input && !is_early;
    case FKDAI_DECODE_FEW: return is_f32_vk && is_early == may_be_early;
    case FKDAI_DECODE_CHUNK: return has_plain_input || !is_early;
    case FKDAI_DECODE_CHUNK_HALF: return has_plain_input && is_early;
    case FKDAI_DECODE_PERSISTENT: return has_plain_input && is_early && major == 9;
    case FKDAI_DECODE_STEPS: return !has_plain_input && !is_early;
    default: return 1;    /* MANY */
    }
}

typedef fkdai_divisor fkdai_decode_divisor;
fkdai_decode_divisor fkdai_decode_make_divisor(uint32_t y);    /* 1 <= y <= 2^31 */

/* N*HV may not be above this. */
#define FKDAI_DECODE_MAX_STATES (INT64_C(1) << 27)

#ifdef __cplusplus
}
#endif
#endif

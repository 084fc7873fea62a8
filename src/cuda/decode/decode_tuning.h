/* Numbers that were chosen by measuring: docs/notebook. */
#ifndef FKDAI_DECODE_TUNING_H
#define FKDAI_DECODE_TUNING_H

/* A block has WARPS warps; LANES lanes share a row, and each group of so many lanes has 4 rows. */
enum {
    FKDAI_DECODE_ONE_F32_LANES = 32, FKDAI_DECODE_ONE_F32_WARPS = 4,      /* fp32 states: 16 rows */
    FKDAI_DECODE_ONE_SMALL_WARPS = 2,                                    /* 8 rows */
#ifdef FKDAI_TRY_SOME_LANES
    FKDAI_DECODE_ONE_SOME_LANES = FKDAI_TRY_SOME_LANES, FKDAI_DECODE_ONE_SOME_WARPS = FKDAI_TRY_SOME_WARPS, FKDAI_DECODE_ONE_SOME_BLOCKS = FKDAI_TRY_SOME_BLOCKS,
#else
    FKDAI_DECODE_ONE_SOME_LANES = 8, FKDAI_DECODE_ONE_SOME_WARPS = 4, FKDAI_DECODE_ONE_SOME_BLOCKS = 4,    /* 64 rows */
#endif
    FKDAI_DECODE_ONE_BF16_LANES = 16, FKDAI_DECODE_ONE_BF16_WARPS = 4,    /* bf16 states: 32 rows */
    FKDAI_DECODE_FEW_LANES = 16, FKDAI_DECODE_FEW_WARPS = 8,              /* 64 rows, half the shuffles of 32 lanes */
    FKDAI_DECODE_MANY_LANES = 8, FKDAI_DECODE_MANY_WARPS = 4,             /* 64 rows, a quarter of the shuffles, and half the reads of inputs */
    FKDAI_DECODE_CHUNK_LANES = 4, FKDAI_DECODE_CHUNK_WARPS = 8,           /* a whole state, as the tensor cores want their operands */
#ifndef FKDAI_TRY_ROW_WARPS
#define FKDAI_TRY_ROW_WARPS 4
#endif
    FKDAI_DECODE_CHUNK_SMALL_ROW_WARPS = FKDAI_TRY_ROW_WARPS,                              /* half a state; 8 warps prepare tokens */
    FKDAI_DECODE_STEPS_LANES = 16, FKDAI_DECODE_STEPS_WARPS = 8,
    FKDAI_DECODE_ROWS = 4, FKDAI_DECODE_CHUNK_ROWS = 2                    /* of a group of lanes */
};

/* The registers that a thread may have are 65536 / (blocks on a multiprocessor * threads of a block). */
enum { FKDAI_DECODE_ONE_F32_BLOCKS = 8, FKDAI_DECODE_ONE_SMALL_BLOCKS = 12, FKDAI_DECODE_ONE_BF16_BLOCKS = 6, FKDAI_DECODE_FEW_BLOCKS = 3,
       FKDAI_DECODE_MANY_BLOCKS = 4, FKDAI_DECODE_CHUNK_BLOCKS = 2, FKDAI_DECODE_STEPS_BLOCKS = 2 };

/* From so many tokens on the shape MANY. Up to FEW states the shape FEW for any number: a multiprocessor has one block of either; and ONE_SMALL, where
 * blocks of 8 rows spread one state over more multiprocessors. One token takes MANY from SOME states on, where small blocks would begin a last round
 * that few of them fill (8 x 32 9.93 us for 10.1), and FEW from ROUNDS on; of bf16 states MANY there too: inputs are read by fewer blocks. */
enum { FKDAI_DECODE_MANY_TOKENS = 4, FKDAI_DECODE_FEW_STATES = 64, FKDAI_DECODE_SOME_STATES = 192, FKDAI_DECODE_ROUNDS_STATES = 640 };

/* From so many states a multiprocessor on, blocks that stay take tokens together: with fewer, the first and the last of a block weigh too much. */
enum { FKDAI_DECODE_PERSISTENT_ROUNDS = 5 };

#endif

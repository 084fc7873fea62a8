/* Numbers that were chosen by measuring: docs/notebook. */
#ifndef FKDAI_DECODE_TUNING_H
#define FKDAI_DECODE_TUNING_H

/* A block has WARPS warps; LANES lanes share a row, and each group of so many lanes has 4 rows. */
enum {
    FKDAI_DECODE_ONE_F32_LANES = 32, FKDAI_DECODE_ONE_F32_WARPS = 4,      /* fp32 states: 16 rows */
    FKDAI_DECODE_ONE_SMALL_WARPS = 2,                                     /* 8 rows */
    FKDAI_DECODE_ONE_BF16_LANES = 16, FKDAI_DECODE_ONE_BF16_WARPS = 4,    /* bf16 states: 32 rows */
    FKDAI_DECODE_FEW_LANES = 16, FKDAI_DECODE_FEW_WARPS = 8,              /* 64 rows, half the shuffles of 32 lanes */
    FKDAI_DECODE_MANY_LANES = 8, FKDAI_DECODE_MANY_WARPS = 4,             /* 64 rows, a quarter of the shuffles, and half the reads of inputs; ONE_SOME */
    FKDAI_DECODE_CHUNK_LANES = 4, FKDAI_DECODE_CHUNK_WARPS = 8,           /* a whole state, as the tensor cores want their operands */
    FKDAI_DECODE_CHUNK_HALF_ROW_WARPS = 4,                                /* half a state; all 8 warps prepare tokens */
    FKDAI_DECODE_STEPS_LANES = 16, FKDAI_DECODE_STEPS_WARPS = 8,
    FKDAI_DECODE_ROWS = 4, FKDAI_DECODE_CHUNK_ROWS = 2                    /* of a group of lanes */
};

/* The registers that a thread may have are 65536 / (blocks on a multiprocessor * threads of a block). */
enum { FKDAI_DECODE_ONE_F32_BLOCKS = 8, FKDAI_DECODE_ONE_SMALL_BLOCKS = 12, FKDAI_DECODE_ONE_BF16_BLOCKS = 6, FKDAI_DECODE_FEW_BLOCKS = 3,
       FKDAI_DECODE_MANY_BLOCKS = 4, FKDAI_DECODE_CHUNK_BLOCKS = 2, FKDAI_DECODE_STEPS_BLOCKS = 2 };

/* From so many tokens on the shape MANY. Up to FEW states the shape FEW for any number: a multiprocessor has one block of either. */
enum { FKDAI_DECODE_MANY_TOKENS = 4, FKDAI_DECODE_FEW_STATES = 64 };

/* One token. Up to SMALL states blocks of 8 rows, which spread one state over more multiprocessors (1 x 96 4.41 us for 4.53). From SOME on blocks of 64,
 * where smaller ones would begin a last round that few of them fill (8 x 32 10.28 us for 10.56); from ROUNDS on the shape FEW. bf16 states take MANY from
 * SOME on: inputs are read by fewer blocks. */
enum { FKDAI_DECODE_SMALL_STATES = 96, FKDAI_DECODE_SOME_STATES = 192, FKDAI_DECODE_ROUNDS_STATES = 640 };

/* Tokens taken together, blocks of half a state: up to so many states, of which a multiprocessor of 132 has two at once. 1 x 32, 8 tokens, the last
 * written: 4.98 us for 6.42; 4 x 32: 8.61 for 8.92 (not early 8.34, which would take two more kernels); 8 x 32 loses, 15.6 for 13.7. */
enum { FKDAI_DECODE_HALF_STATES = 128 };

/* From so many states a multiprocessor on, blocks that stay take tokens together: with fewer, the first and the last of a block weigh too much. */
enum { FKDAI_DECODE_PERSISTENT_ROUNDS = 5 };

#endif

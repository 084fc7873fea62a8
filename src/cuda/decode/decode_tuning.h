/* Numbers that were chosen by measuring: docs/notebook. */
#ifndef FKDAI_DECODE_TUNING_H
#define FKDAI_DECODE_TUNING_H

/* A block has WARPS warps; LANES lanes share a row, and each group of so many lanes has 4 rows. */
enum {
    FKDAI_DECODE_ONE_F32_LANES = 32, FKDAI_DECODE_ONE_F32_WARPS = 4,      /* one token, fp32 states: 16 rows */
    FKDAI_DECODE_ONE_BF16_LANES = 16, FKDAI_DECODE_ONE_BF16_WARPS = 4,    /* one token, bf16 states: 32 rows */
    FKDAI_DECODE_SOME_LANES = 16, FKDAI_DECODE_SOME_WARPS = 8,            /* more tokens: 64 rows, half the shuffles of 32 lanes */
    FKDAI_DECODE_ROWS = 4                                                 /* of a group of lanes */
};

/* The registers that a thread may have are 65536 / (blocks on a multiprocessor * threads of a block). */
enum { FKDAI_DECODE_ONE_F32_BLOCKS = 8, FKDAI_DECODE_ONE_BF16_BLOCKS = 6, FKDAI_DECODE_SOME_BLOCKS = 3 };

#endif

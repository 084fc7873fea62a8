/* Numbers that were chosen by measuring: docs/notebook. */
#ifndef FKDAI_DECODE_FUSED_TUNING_H
#define FKDAI_DECODE_FUSED_TUNING_H

/* A block has a whole state and WARPS warps. LANES lanes share a row, and each group of so many lanes has 4 rows at a time. */
enum { FKDAI_FUSED_WARPS = 8, FKDAI_FUSED_F32_LANES = 32, FKDAI_FUSED_BF16_LANES = 16 };

/* The registers that a thread may have are 65536 / (BLOCKS * threads of a block); so many blocks' states are on their way to a multiprocessor. */
enum { FKDAI_FUSED_F32_BLOCKS = 3, FKDAI_FUSED_BF16_BLOCKS = 3 };

#endif

// Products of one warp (mma.sync), where a warpgroup's would be too large.
//
// c += A B, [16,8] = [16,8] [8,8]. Lane l holds rows l/4 and l/4 + 8, columns 2 (l%4) and 2 (l%4) + 1 of c.
#pragma once

#include <cstdint>

namespace fkdai {

// bf16. a0, a1: as ldmatrix leaves 8 columns of rows 0-7 and of rows 8-15; b: of 8 rows of B^T, likewise.
__device__ __forceinline__ void multiply_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(b));
}

// tf32. a: rows l/4, l/4 + 8 of column l%4, then of column l%4 + 4; b0, b1: rows l%4 and l%4 + 4 of column l/4.
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const float (&a)[4], float b0, float b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
          "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

}  // namespace fkdai

// Products of one warp (mma.sync), where a warpgroup's would be too large.
//
// c += A B, [16,8] = [16,8] [8,8] or [16,16] [16,8]. Lane l holds rows l/4 and l/4 + 8, columns 2 (l%4) and 2 (l%4) + 1 of c.
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

// 16 columns of A. a: as ldmatrix leaves columns 0-7 of rows 0-7, of rows 8-15, then columns 8-15; two tiles of c beside each other, rounded, are
// such an operand. b: of 8 rows of B^T columns 0-7 and 8-15.
__device__ __forceinline__ void multiply_16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply_16_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// An 8x8 matrix of 16-bit elements, transposed: lane l brings elements 2 (l%4), 2 (l%4) + 1 of row l/4, and gets those of column l/4.
__device__ __forceinline__ uint32_t transpose_matrix(uint32_t x) {
    uint32_t r;
    asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(r) : "r"(x));
    return r;
}

}  // namespace fkdai

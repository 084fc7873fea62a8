// Products in tf32 that keep fp32's precision: operands as sums of two tf32 numbers.
#pragma once

#include "device/warp_mma.cuh"

namespace fkdai {

// The bits of x that tf32 keeps.
inline constexpr uint32_t kTf32Bits = 0xffffe000u;
__device__ __forceinline__ float tf32_part(float x) { return __uint_as_float(__float_as_uint(x) & kTf32Bits); }

__device__ __forceinline__ float tf32_rest(float x) { return x - tf32_part(x); }
__device__ __forceinline__ void split(const float (&x)[4], float (&main)[4], float (&rest)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) main[i] = tf32_part(x[i]), rest[i] = tf32_rest(x[i]);
}

// As multiply_tf32, with fp32's precision but for the product of both remainders.
__device__ __forceinline__ void multiply_split(float (&c)[4], const float (&a)[4], float b0, float b1) {
    float a_main[4], a_rest[4];
    split(a, a_main, a_rest);
    const float b0_main = tf32_part(b0), b1_main = tf32_part(b1);
    multiply_tf32(c, a_rest, b0_main, b1_main);
    multiply_tf32(c, a_main, b0 - b0_main, b1 - b1_main);
    multiply_tf32(c, a_main, b0_main, b1_main);
}

}  // namespace fkdai

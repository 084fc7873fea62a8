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

}  // namespace fkdai

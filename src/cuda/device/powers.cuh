// Powers of two, and exponents of tokens in pairs.
#pragma once

#include <cstdint>

namespace fkdai {

__device__ __forceinline__ int exponent_of(float magnitude) { return static_cast<int>(__float_as_uint(magnitude) >> 23) - 127; }
// For -126 to 127.
__device__ __forceinline__ float power_of_two(int exponent) { return __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23); }
__device__ __forceinline__ int clamped_exponent(int exponent) { return max(-126, min(126, exponent)); }

__device__ __forceinline__ uint32_t pack_exponents(int low, int high) { return (static_cast<uint32_t>(low) & 0xffffu) | static_cast<uint32_t>(high) << 16; }
__device__ __forceinline__ int low_exponent(uint32_t pair) { return static_cast<int16_t>(pair); }
__device__ __forceinline__ int high_exponent(uint32_t pair) { return static_cast<int>(pair) >> 16; }

}  // namespace fkdai

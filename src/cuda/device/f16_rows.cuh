// Rows of sums that become fp16 operands: do they fit, and if not, the power of two that makes them.
//
// Two rows of a warp's products: element 4 b + 2 h + e of lane l is of row l/4 + 8 h and column 8 b + 2 (l%4) + e; as fp16 operands of 16 columns
// each they are pairs. A row whose largest element lies between 2^-9 and 2^8 stays as it is.
#pragma once

#include "device/powers.cuh"
#include "device/scalar_math.cuh"

namespace fkdai {

using TokensF16 = uint32_t[2][4];  // rows of 32 columns, as operands

// Both halves: a limit of |R| in fp16, as is_in_range takes it.
inline constexpr uint32_t kNothingInRange = 0x80008000;
__host__ __device__ constexpr uint32_t range_up_to(uint32_t limit) { return kNothingInRange + limit * 0x10001; }

inline constexpr uint32_t kSmallestInRange = 0x1800, kLargestInRange = 0x5c00;  // 2^-9 and 2^8 in fp16

// Of this lane: are all sums in range, as Range::largest says it? It looks at the tokens that it has, by four; so the answer may be no without need.
__device__ __forceinline__ bool is_in_range(const TokensF16 &r, uint32_t largest) {
    constexpr uint32_t kOver = 0x8000 - kSmallestInRange, kBoth = 0x10001, kSigns = 0x80008000;
    const uint32_t first = larger_pairs_f16(larger_pairs_f16(r[0][0], r[0][2]), larger_pairs_f16(r[1][0], r[1][2]));
    const uint32_t second = larger_pairs_f16(larger_pairs_f16(r[0][1], r[0][3]), larger_pairs_f16(r[1][1], r[1][3]));
    // No half borrows or carries.
    return (((first + kOver * kBoth) & (second + kOver * kBoth)) & ((largest - first) & (largest - second)) & kSigns) == kSigns;
}

// Of the four lanes that share a row.
__device__ __forceinline__ float largest_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

// The largest element of R becomes 1 to 2; but the state, whose largest operand is known, stays finite.
__device__ __forceinline__ float factor_of_row(float largest, float largest_state) {
    const uint32_t f16 = pack_f16(largest, 0.f);
    if ((f16 >= kSmallestInRange && f16 <= kLargestInRange) || !(largest <= 3.4e38f) || largest == 0.f) return 1.f;
    return power_of_two(-clamped_exponent(max(exponent_of(largest), exponent_of(largest_state) - 120)));
}

template <int n>
__device__ __forceinline__ void multiply_rows(float (&x)[n], uint32_t factors, float common = 1.f) {
    const float first = low_bf16(factors) * common, second = high_bf16(factors) * common;
#pragma unroll
    for (int b = 0; b < n / 4; b++) x[4 * b] *= first, x[4 * b + 1] *= first, x[4 * b + 2] *= second, x[4 * b + 3] *= second;
}

}  // namespace fkdai

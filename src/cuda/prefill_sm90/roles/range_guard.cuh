// R and U in fp16, whatever their size: a row of V whose R fp16 does not hold is multiplied by a power of two, and what is made from it is divided
// by that at the end of the chunk.
//
// The factor follows from what this chunk holds, so the bits do not depend on how a sequence was cut. With the largest |R| of a row between 2^-9 and
// the limit (2^8 where keys have norm 1 and beta is at most 2: then |U| stays below 2^16) nothing is done.
#pragma once

#include "prefill_sm90/roles/chain_products.cuh"

namespace fkdai::prefill {

inline constexpr uint32_t kSmallestInRange = 0x1800, kLargestInRange = 0x5c00;  // 2^-9 and 2^8 in fp16
inline constexpr uint32_t kLargestOfAnyBeta = 0x4c00;  // 2^4: a beta that the caller gives as it is may be more than 2

// The limit by which a chain asks: 0 where O wants a factor of its own, so that its loop over chunks has neither.
__device__ __forceinline__ uint32_t plain_limit(const Params &p) { return p.out_factor == 1.f ? p.range_limit : 0; }

// Of a warp: are all sums in range? A lane looks at the tokens that it has, by four; so the answer may be no without need.
__device__ __forceinline__ bool is_in_range(const TokensF16 &r, uint32_t limit) {
    constexpr uint32_t kOver = 0x8000 - kSmallestInRange, kBoth = 0x10001, kSigns = 0x80008000;
    const uint32_t first = larger_pairs_f16(larger_pairs_f16(r[0][0], r[0][2]), larger_pairs_f16(r[1][0], r[1][2]));
    const uint32_t second = larger_pairs_f16(larger_pairs_f16(r[0][1], r[0][3]), larger_pairs_f16(r[1][1], r[1][3]));
    const uint32_t largest = kSigns + limit * kBoth;  // no half borrows from or carries into the other
    return __all_sync(~0u, (((first + kOver * kBoth) & (second + kOver * kBoth)) & ((largest - first) & (largest - second)) & kSigns) == kSigns);
}

// Of the four lanes that share a row.
__device__ __forceinline__ float largest_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ int exponent_of(float magnitude) { return static_cast<int>(__float_as_uint(magnitude) >> 23) - 127; }
__device__ __forceinline__ float power_of_two(int exponent) { return __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23); }

// The largest element of R becomes 1 to 2; but the state, whose largest operand is known, stays finite.
__device__ __forceinline__ float factor_of_row(float largest, float largest_state, uint32_t limit) {
    const uint32_t f16 = pack_f16(largest, 0.f);
    if ((f16 >= kSmallestInRange && f16 <= limit) || !(largest <= 3.4e38f) || largest == 0.f) return 1.f;
    return power_of_two(-max(-126, min(126, max(exponent_of(largest), exponent_of(largest_state) - 120))));
}

// As bf16.
__device__ __forceinline__ uint32_t factors_of_rows(const TokenRows &r, const StateBf16 &state, uint32_t limit) {
    float factor[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float largest = 0.f, largest_state = 0.f;
#pragma unroll
        for (int b = 0; b < 4; b++) largest = fmaxf(largest, fmaxf(fabsf(r[4 * b + 2 * row]), fabsf(r[4 * b + 2 * row + 1])));
#pragma unroll
        for (int k = 0; k < 8; k++)
#pragma unroll
            for (int j = row; j < 4; j += 2)
                largest_state = fmaxf(largest_state, fmaxf(fabsf(low_bf16(state[k][j])), fabsf(high_bf16(state[k][j]))));
        factor[row] = factor_of_row(largest_of_row(largest), largest_of_row(largest_state), limit);
    }
    return pack_bf16(factor[0], factor[1]);
}

template <int n>
__device__ __forceinline__ void multiply_rows(float (&x)[n], uint32_t factors, float common = 1.f) {
    const float first = low_bf16(factors) * common, second = high_bf16(factors) * common;
#pragma unroll
    for (int b = 0; b < n / 4; b++) x[4 * b] *= first, x[4 * b + 1] *= first, x[4 * b + 2] *= second, x[4 * b + 3] *= second;
}
__device__ __forceinline__ void multiply_rows(StateBf16 &x, uint32_t factors) {
    const uint32_t first = __byte_perm(factors, factors, 0x1010), second = __byte_perm(factors, factors, 0x3232);
#pragma unroll
    for (int i = 0; i < 32; i++) x[i >> 2][i & 3] = multiply_pairs_bf16(x[i >> 2][i & 3], i & 1 ? second : first);
}

// R did not fit: its rows, those of the state and of the state as an operand are scaled. What the two rows of this lane are to be multiplied by
// at the end, as bf16. Warps decide for themselves.
__device__ __forceinline__ uint32_t scale_into_range(uint32_t limit, TokenRows &r, TokensF16 &r_f16, StateRows &state, StateBf16 &rounded) {
    const uint32_t factors = factors_of_rows(r, rounded, limit);
    multiply_rows(r, factors), multiply_rows(state, factors), multiply_rows(rounded, factors);
    as_operand<Type16::F16>(r_f16, r);
    return 0x7f007f00 - factors;  // powers of two
}

}  // namespace fkdai::prefill

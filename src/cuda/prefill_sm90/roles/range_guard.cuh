// R and U in fp16, whatever their size: a row of V whose R fp16 does not hold is multiplied by a power of two, and what is made from it is divided
// by that at the end of the chunk.
//
// The factor follows from what this chunk holds, so the bits do not depend on how a sequence was cut. With the largest |R| of a row between 2^-9 and
// 2^8 nothing is done: T is at most 4, so |U| stays below 2^16. A T that would not be lacks powers of two (solve.cuh), which R gets here first.
#pragma once

#include "prefill_sm90/roles/chain_products.cuh"
#include "prefill_sm90/roles/powers.cuh"

namespace fkdai::prefill {

inline constexpr uint32_t kSmallestInRange = 0x1800, kLargestInRange = 0x5c00;  // 2^-9 and 2^8 in fp16

// Params::usual_range: where O wants a factor of its own, no chunk stays in the chain's loop, which so has neither.
__host__ __device__ constexpr uint32_t usual_range_of(float out_factor) { return out_factor == 1.f ? range_up_to(kLargestInRange) : kNothingInRange; }

__device__ __forceinline__ uint32_t load_range(uint32_t stage) { return __float_as_uint(load_float(stage + uint32_t{offsetof(Stage, range)})); }

// Of this lane: are all sums in range, as Range::largest says it? It looks at the tokens that it has, by four; so the answer may be no without need.
__device__ __forceinline__ bool is_in_range(const TokensF16 &r, uint32_t largest) {
    constexpr uint32_t kOver = 0x8000 - kSmallestInRange, kBoth = 0x10001, kSigns = 0x80008000;
    const uint32_t first = larger_pairs_f16(larger_pairs_f16(r[0][0], r[0][2]), larger_pairs_f16(r[1][0], r[1][2]));
    const uint32_t second = larger_pairs_f16(larger_pairs_f16(r[0][1], r[0][3]), larger_pairs_f16(r[1][1], r[1][3]));
    return (((first + kOver * kBoth) & (second + kOver * kBoth)) & ((largest - first) & (largest - second)) & kSigns) == kSigns;  // no half borrows or carries
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

// As bf16.
__device__ __forceinline__ uint32_t factors_of_rows(const TokenRows &r, const StateBf16 &state) {
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
        factor[row] = factor_of_row(largest_of_row(largest), largest_of_row(largest_state));
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

// R or O times what T or O lacks of each token, if anything.
template <bool is_of_out>
__device__ __forceinline__ void multiply_tokens(uint32_t stage, int lane, TokenRows &x) {
    const uint32_t range = stage + uint32_t{offsetof(Stage, range)};
    if (__float_as_uint(load_float(range + uint32_t{offsetof(Range, has_factors)})) == 0) return;
#pragma unroll
    for (int b = 0; b < 4; b++) {
        const float2 pair = load_float2(range + uint32_t{offsetof(Range, factors)} + (lane & 3) * 8 + 32 * b);
        const uint32_t first = __float_as_uint(pair.x), second = __float_as_uint(pair.y);
        const float factor[2] = {is_of_out ? high_bf16(first) : low_bf16(first), is_of_out ? high_bf16(second) : low_bf16(second)};
#pragma unroll
        for (int i = 0; i < 4; i++) x[4 * b + i] *= factor[i & 1];
    }
}

// R did not fit, or T: rows of R, of the state and of the state as an operand are scaled, those that fit by 1. What the two rows of this lane are to be
// multiplied by at the end, as bf16. The whole warpgroup does it, or nobody (warpgroup_all): its warps must meet every wgmma at one instruction.
__device__ __forceinline__ uint32_t scale_into_range(uint32_t stage, int lane, TokenRows &r, TokensF16 &r_f16, StateRows &state, StateBf16 &rounded) {
    multiply_tokens<false>(stage, lane, r);
    const uint32_t factors = factors_of_rows(r, rounded);
    multiply_rows(r, factors), multiply_rows(state, factors), multiply_rows(rounded, factors);
    as_operand<Type16::F16>(r_f16, r);
    return 0x7f007f00 - factors;  // powers of two
}
__device__ __forceinline__ void scale_out(const Params &p, uint32_t stage, int lane, uint32_t factors, TokenRows &o) {
    multiply_rows(o, factors, p.out_factor);
    multiply_tokens<true>(stage, lane, o);
}

}  // namespace fkdai::prefill

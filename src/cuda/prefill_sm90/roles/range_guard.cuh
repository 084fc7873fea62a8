// R and U in fp16, whatever their size: a row of V whose R fp16 does not hold is multiplied by a power of two, and what is made from it is divided
// by that at the end of the chunk.
//
// The factor follows from what this chunk holds, so the bits do not depend on how a sequence was cut. With the largest |R| of a row between 2^-9 and
// 2^8 nothing is done: T is at most 4, so |U| stays below 2^16. A T that would not be lacks powers of two (solve.cuh), which R gets here first.
#pragma once

#include "device/f16_rows.cuh"
#include "prefill_sm90/roles/chain_products.cuh"

namespace fkdai::prefill {

// Params::usual_range: where O wants a factor of its own, no chunk stays in the chain's loop, which so has neither.
__host__ __device__ constexpr uint32_t usual_range_of(float out_factor) { return out_factor == 1.f ? range_up_to(kLargestInRange) : kNothingInRange; }

__device__ __forceinline__ uint32_t load_range(uint32_t stage) { return __float_as_uint(load_float(stage + uint32_t{offsetof(Stage, range)})); }

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

using fkdai::multiply_rows;
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

// Powers of two, as bf16.
__device__ __forceinline__ uint32_t inverse_factors(uint32_t factors) { return 0x7f007f00 - factors; }

// R did not fit, or T: rows of R are scaled, those that fit by 1, and the factors returned, as bf16: of the two rows of this lane. The whole
// warpgroup does it, or nobody (warpgroup_all): its warps must meet every wgmma at one instruction.
__device__ __forceinline__ uint32_t scale_residual(uint32_t stage, int lane, TokenRows &r, TokensF16 &r_f16, const StateBf16 &rounded) {
    multiply_tokens<false>(stage, lane, r);
    const uint32_t factors = factors_of_rows(r, rounded);
    multiply_rows(r, factors);
    as_operand<Type16::F16>(r_f16, r);
    return factors;
}
// And rows of the state and of the state as an operand. What the rows are to be multiplied by at the end.
__device__ __forceinline__ uint32_t scale_into_range(uint32_t stage, int lane, TokenRows &r, TokensF16 &r_f16, StateRows &state, StateBf16 &rounded) {
    const uint32_t factors = scale_residual(stage, lane, r, r_f16, rounded);
    multiply_rows(state, factors), multiply_rows(rounded, factors);
    return inverse_factors(factors);
}
__device__ __forceinline__ void scale_out(const Params &p, uint32_t stage, int lane, uint32_t factors, TokenRows &o) {
    multiply_rows(o, factors, p.out_factor);
    multiply_tokens<true>(stage, lane, o);
}

}  // namespace fkdai::prefill

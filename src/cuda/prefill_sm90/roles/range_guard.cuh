// R and U in fp16, whatever their size: a row of V whose R fp16 does not hold is multiplied by a power of two, and what was made from it is divided
// by it at the end of the chunk.
//
// The factor follows from the R of this chunk alone, so the bits do not depend on what came before. With the largest |R| of a row between 2^-9 and
// the limit (2^8 where keys have norm 1 and beta is at most 2: then |U| stays below 2^16) nothing is done.
#pragma once

#include "prefill_sm90/roles/chain_products.cuh"

namespace fkdai::prefill {

inline constexpr uint32_t kSmallestInRange = 0x1800, kLargestInRange = 0x5c00;  // 2^-9 and 2^8 in fp16

// Of the two rows of this lane. Warps decide for themselves.
struct RowScale {
    bool is_used;
    uint32_t inverse;  // of the two factors, bf16
};

__device__ __forceinline__ bool leaves_range(uint32_t magnitude, uint32_t limit) { return magnitude > limit || magnitude - 1 < kSmallestInRange - 1; }

// May be true without need, where a lane's own tokens are all small.
__device__ __forceinline__ bool leaves_range(const TokensF16 &r, uint32_t limit) {
    const uint32_t first = larger_pairs_f16(larger_pairs_f16(r[0][0], r[0][2]), larger_pairs_f16(r[1][0], r[1][2]));
    const uint32_t second = larger_pairs_f16(larger_pairs_f16(r[0][1], r[0][3]), larger_pairs_f16(r[1][1], r[1][3]));
    const uint32_t both = larger_pairs_f16(__byte_perm(first, second, 0x5410), __byte_perm(first, second, 0x7632));
    return __any_sync(~0u, leaves_range(both & 0xffff, limit) || leaves_range(both >> 16, limit));
}

// Of the four lanes that share a row.
__device__ __forceinline__ float largest_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ int exponent_of(float magnitude) { return static_cast<int>(__float_as_uint(magnitude) >> 23) - 127; }
__device__ __forceinline__ float power_of_two(int exponent) { return __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23); }

// Its R's largest element becomes 1 to 2; but the state, whose largest operand is known, stays finite.
__device__ __forceinline__ int scale_exponent(float largest, float largest_state, uint32_t limit) {
    const bool is_in_range = !leaves_range(pack_f16(largest, largest) & 0xffff, limit) || !(largest <= 3.4e38f) || largest == 0.f;
    if (is_in_range) return 0;
    const int wanted = max(exponent_of(largest), exponent_of(largest_state) - 120);
    return -max(-126, min(126, wanted));
}

__device__ __forceinline__ void scale_rows(TokenRows &r, StateRows &state, StateBf16 &rounded, uint32_t limit, RowScale &scale) {
    float inverse[2];
#pragma unroll
    for (int row = 0; row < 2; row++) {
        float largest = 0.f, largest_state = 0.f;
#pragma unroll
        for (int b = 0; b < 4; b++) largest = fmaxf(largest, fmaxf(fabsf(r[4 * b + 2 * row]), fabsf(r[4 * b + 2 * row + 1])));
#pragma unroll
        for (int k = 0; k < 8; k++)
#pragma unroll
            for (int j = row; j < 4; j += 2)
                largest_state = fmaxf(largest_state, fmaxf(fabsf(low_bf16(rounded[k][j])), fabsf(high_bf16(rounded[k][j]))));
        const int exponent = scale_exponent(largest_of_row(largest), largest_of_row(largest_state), limit);
        const float factor = power_of_two(exponent);
        inverse[row] = power_of_two(-exponent);
        const uint32_t pair = pack_bf16(factor, factor);
#pragma unroll
        for (int b = 0; b < 4; b++) r[4 * b + 2 * row] *= factor, r[4 * b + 2 * row + 1] *= factor;
#pragma unroll
        for (int b = 0; b < 16; b++) state[4 * b + 2 * row] *= factor, state[4 * b + 2 * row + 1] *= factor;
#pragma unroll
        for (int k = 0; k < 8; k++)
#pragma unroll
            for (int j = row; j < 4; j += 2) rounded[k][j] = multiply_pairs_bf16(rounded[k][j], pair);
    }
    scale.inverse = pack_bf16(inverse[0], inverse[1]);
}

// R as an operand: [32,64] fp16. Its rows, the state and the state as an operand are scaled where that is needed.
__device__ __forceinline__ void as_operand_in_range(TokenRows &r, uint32_t limit, TokensF16 &r_f16, StateRows &state, StateBf16 &rounded, RowScale &scale) {
    as_operand<Type16::F16>(r_f16, r);
    scale.inverse = 0x3f803f80;  // 1 and 1
    scale.is_used = leaves_range(r_f16, limit);
    if (!scale.is_used) return;
    scale_rows(r, state, rounded, limit, scale);
    as_operand<Type16::F16>(r_f16, r);
}

// x times its rows' inverse factors, and times `factor`.
template <int n>
__device__ __forceinline__ void leave_scale(float (&x)[n], const RowScale &scale, float factor = 1.f) {
    const float first = low_bf16(scale.inverse) * factor, second = high_bf16(scale.inverse) * factor;
#pragma unroll
    for (int b = 0; b < n / 4; b++) x[4 * b] *= first, x[4 * b + 1] *= first, x[4 * b + 2] *= second, x[4 * b + 3] *= second;
}

}  // namespace fkdai::prefill

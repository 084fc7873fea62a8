// T = (I + Diag(b) A)^-1 Diag(b) of a 32x32 A, by one warp, whatever b is: powers of two are taken out of T's columns, so that fp16 holds them.
#pragma once

#include "device/powers.cuh"
#include "device/shared_access.cuh"
#include "device/tril_solve.cuh"

namespace fkdai {

inline constexpr float kSmallestStep = 0x1p-10f, kLargestStep = 2.125f;  // of b |k|^2: rounded keys of norm 1 may be a little longer
inline constexpr int kNoUpdate = -252;

// T of any chunk, its columns between 1 and 4 at most: plain substitution in fp32, a column after the other. Some 20 times slower than TrilSolve.
template <int kAkkPitch>
struct FarSolve {
    uint32_t akk, tile;  // as TrilSolve has them
    int lane;            // its row

    // A float as mantissa 2^exponent; inf and NaN stay what they are.
    struct Split {
        float mantissa;
        int exponent;
    };
    __device__ __forceinline__ static Split split(float x) {
        const bool is_tiny = fabsf(x) < 0x1p-100f;
        if (is_tiny) x *= 0x1p64f;
        if (x == 0.f) return {0.f, kNoUpdate};
        const int exponent = exponent_of(fabsf(x));
        if (exponent > 127) return {x, 0};
        return {__uint_as_float((__float_as_uint(x) & 0x807fffffu) | 0x3f800000u), exponent - (is_tiny ? 64 : 0)};
    }

    // A[lane][0]; the others follow.
    __device__ __forceinline__ uint32_t row() const { return akk + (lane & 15) * (kAkkPitch * 4) + (lane < 16 ? 32 * 4 : 0); }
    // T[i][column] and T[i + 1][column]
    __device__ __forceinline__ uint32_t pair(int i, int column) const { return tile + column * 64 + (((i >> 3) ^ ((column >> 1) & 3)) * 16) + (i & 7) * 2; }

    // n: of this lane's token. Returns what this lane's column lacks.
    __device__ __forceinline__ int run(float b, int n) const {
        const float b_key = b * power_of_two(n);
        const float step = fminf(fmaxf(b_key * power_of_two(n), -3.4e38f), 3.4e38f);
        const Split of_column = split(b_key);
        const uint32_t a = row();
        int lacks = 0;
#pragma unroll 1
        for (int column = 0; column < 32; column++) {
            float sum = 0.f;
#pragma unroll 1
            for (int j = column; j + 1 < 32; j++) {
                const float z = __shfl_sync(~0u, lane == column ? 1.f : -step * sum, j);
                if (lane > j) sum = fmaf(load_float(a + 4 * j), z, sum);
            }
            const float z = lane < column ? 0.f : lane == column ? 1.f : -step * sum;
            const int exponent = clamped_exponent(exponent_of(__uint_as_float(warp_max(__float_as_uint(fabsf(z))))));
            const int all = max(exponent + __shfl_sync(~0u, of_column.exponent, column), kNoUpdate), rest = all - clamped_exponent(all);
            const float of_row = z * power_of_two(-exponent) * __shfl_sync(~0u, of_column.mantissa, column) * power_of_two(rest);
            const float t = lane < column ? 0.f : of_row;  // whatever b is: what stands above the diagonal stays for the chunks to come
            const uint32_t both = pack_f16(t, __shfl_xor_sync(~0u, t, 1));
            if (lane % 2 == 0) store_word(pair(lane, column), both);
            if (lane == column) lacks = all - rest;
        }
        return lacks;
    }
};

}  // namespace fkdai

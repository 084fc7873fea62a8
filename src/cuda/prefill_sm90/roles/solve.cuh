// T = (I + Diag(b) A)^-1 Diag(b) of a chunk, by one warp, so that fp16 holds it whatever b and the keys are.
//
// With keys of norm 1 and b between 0 and 2 every element of T is at most 4. Where that is not promised, or where all b are so small that fp16
// would lose bits of T, powers of two are taken out of its columns; the chain multiplies rows of R by them (range_guard.cuh). Then T and O = Q S + M U
// are what they should be, since U = T R is.
//
// Without norm, a key is k = 2^n k', and KI and Kr hold k'. So U lacks a factor of 2^-n, and with A' = K' K'^T
//
//     T = (I + Diag(b 4^n) A')^-1 Diag(b 2^n)
#pragma once

#include "device/tril_solve.cuh"
#include "prefill_sm90/problem/chunks.cuh"
#include "prefill_sm90/roles/powers.cuh"

namespace fkdai::prefill {

inline constexpr float kSmallestStep = 0x1p-10f, kLargestStep = 2.125f;  // of b |k|^2: rounded keys of norm 1 may be a little longer
inline constexpr int kNoUpdate = -252;

// T of any chunk, its columns between 1 and 4 at most: plain substitution in fp32, a column after the other. Some 20 times slower than TrilSolve.
struct FarSolve {
    float (*akk)[kAkkPitch];
    uint8_t *tile;
    int lane;  // its row

    // a float as mantissa 2^exponent; inf and NaN stay what they are.
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

    // A[lane][j]
    __device__ __forceinline__ const float *row() const { return akk[lane & 15] + (lane < 16 ? 32 : 0); }

    // n: of this lane's token. Returns what this lane's column lacks.
    __device__ __forceinline__ int run(float b, int n) const {
        const float b_key = b * power_of_two(n);
        const float step = fminf(fmaxf(b_key * power_of_two(n), -3.4e38f), 3.4e38f);
        const Split of_column = split(b_key);
        const float *const a = row();
        int lacks = kNoUpdate;
#pragma unroll 1
        for (int column = 0; column < kChunk; column++) {
            float sum = 0.f;
#pragma unroll 1
            for (int j = column; j + 1 < kChunk; j++) {
                const float z = __shfl_sync(~0u, lane == column ? 1.f : -step * sum, j);
                if (lane > j) sum = fmaf(a[j], z, sum);
            }
            const float z = lane < column ? 0.f : lane == column ? 1.f : -step * sum;
            const int exponent = clamped_exponent(exponent_of(__uint_as_float(warp_max(__float_as_uint(fabsf(z))))));
            const float t = z * power_of_two(-exponent) * __shfl_sync(~0u, of_column.mantissa, column);
            auto *const at = reinterpret_cast<uint16_t *>(tile + column * 64 + (((lane >> 3) ^ ((column >> 1) & 3)) * 16)) + (lane & 7);
            *at = static_cast<uint16_t>(pack_f16(t, 0.f));
            if (lane == column) lacks = max(of_column.exponent + exponent, kNoUpdate);
        }
        return lacks;
    }
};

// b stands in `beta`. On return T and the chunk's Range are written, but not yet fenced.
template <class Smem>
__device__ __forceinline__ void solve_chunk(const Params &p, const SharedView<Smem> &s, uint32_t stage, float (*akk)[kAkkPitch], const float *beta, int lane) {
    Stage &to = s->stages[stage];
    const float b = beta[lane];
    uint32_t step = __float_as_uint(b), sizes = 0;  // negative ones are above all others
    if (p.is_raw) {
        const TokenSize size = s->token_sizes[stage][lane];
        sizes = size.exponents;
        step = low_exponent(sizes) != 0 ? ~0u : __float_as_uint(b * fmaxf(size.squares, 1.f));
    }
    const uint32_t largest = warp_max(step);
    const bool is_far = largest > __float_as_uint(kLargestStep), is_small = largest < __float_as_uint(kSmallestStep) && largest != 0;
    const bool is_usual = !is_far && !is_small && !(p.is_raw && __any_sync(~0u, high_exponent(sizes) != 0));
    if (lane == 0) to.range.largest = is_usual ? p.usual_range : kNothingInRange, to.range.has_exponents = !is_usual;
    float column = b;
    if (!is_usual) {
        int lacks = 0;
        if (is_far) lacks = FarSolve{akk, to.solve, lane}.run(b, low_exponent(sizes));
        else if (is_small) lacks = max(exponent_of(__uint_as_float(largest)), -126), column = b * power_of_two(-lacks);
        to.range.exponents[lane] = pack_exponents(lacks, high_exponent(sizes));
        if (is_far) return;
    }
    TrilSolve<kAkkPitch>{akk, to.solve, beta, lane, column}.run();
}

}  // namespace fkdai::prefill

// Rows of a state in registers, and one token on them:
//
//     x = S[row] a;   t = <x, k^>;   u = <x, q^>;   d = b (v - t);   o = u + d <k^, q^>;   S[row] = x + d k^
//
// Config::kLanes lanes share Config::kRows neighbouring rows, and each has kFours fours of channels of every one of them, those that Config::channel
// says.
// The sum of a row is always that of 32 partial sums of four channels, in one order, so that its bits do not depend on the shape.
#pragma once

#include <type_traits>

#include "device/coded_decay.cuh"
#include "device/fours.cuh"

namespace fkdai {

enum class Stored { F32, BF16 };    // states in memory
enum class Axes { VK, KV };         // the same; the last is contiguous

// Four neighbouring elements of a state in memory, and two of them.
template <Stored stored>
struct Four;
template <Stored stored>
struct Two;
template <>
struct Four<Stored::F32> {
    using Type = float4;
    static constexpr int kBytes = 16;
    __device__ __forceinline__ static float4 widen(const float4 &x) { return x; }
    __device__ __forceinline__ static float4 narrow(const float4 &x) { return x; }
    __device__ __forceinline__ static float4 zero() { return make_float4(0.f, 0.f, 0.f, 0.f); }
};
template <>
struct Four<Stored::BF16> {
    using Type = uint2;
    static constexpr int kBytes = 8;
    __device__ __forceinline__ static float4 widen(const uint2 &x) {
        return make_float4(low_bf16(x.x), high_bf16(x.x), low_bf16(x.y), high_bf16(x.y));
    }
    __device__ __forceinline__ static uint2 narrow(const float4 &x) { return make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w)); }
    __device__ __forceinline__ static uint2 zero() { return make_uint2(0, 0); }
};
template <>
struct Two<Stored::F32> {
    using Type = float2;
    __device__ __forceinline__ static float4 widen(const float2 &x) { return make_float4(x.x, x.y, 0.f, 0.f); }
    __device__ __forceinline__ static float2 narrow(const float4 &x) { return make_float2(x.x, x.y); }
};
template <>
struct Two<Stored::BF16> {
    using Type = uint32_t;
    __device__ __forceinline__ static float4 widen(uint32_t x) { return make_float4(low_bf16(x), high_bf16(x), 0.f, 0.f); }
    __device__ __forceinline__ static uint32_t narrow(const float4 &x) { return pack_bf16(x.x, x.y); }
};

// Sums x[r] over kLanes lanes; afterwards a lane has that of row lane / (kLanes / kRows). Every step with more than one row left sends away half
// of them and keeps the other.
template <int distance, int rows, int kAll>
__device__ __forceinline__ void sum_halves(float (&x)[kAll], int lane) {
    constexpr int kHalf = rows / 2;
    const bool is_high = (lane & distance) != 0;
    if constexpr (rows == 1) x[0] += __shfl_xor_sync(~0u, x[0], distance);
#pragma unroll
    for (int i = 0; i < kHalf; i++) {
        const float away = is_high ? x[i] : x[i + kHalf], kept = is_high ? x[i + kHalf] : x[i];
        x[i] = kept + __shfl_xor_sync(~0u, away, distance);
    }
    if constexpr (distance > 1) sum_halves<distance / 2, (rows > 1 ? kHalf : 1)>(x, lane);
}
template <class Config>
__device__ __forceinline__ float sum_rows(float (&x)[Config::kRows], int lane) {
    sum_halves<Config::kLanes / 2, Config::kRows>(x, lane);
    return x[0];
}

template <class Config>
struct RowValues {
    static constexpr int kRows = Config::kRows, kFours = Config::kFours, kLanesOfRow = Config::kLanes / kRows;
    static constexpr int kParts = Config::kAxes == Axes::VK ? kRows : 4;    // of a four of channels of all rows, each moved at once
    template <Stored stored>
    using Part = std::conditional_t<Config::kAxes == Axes::VK || kRows == 4, Four<stored>, Two<stored>>;
    using Raw = typename Part<Config::kStored>::Type;
    static_assert(kRows == 4 || kRows == 2);

    float s[kRows][kFours][4];

    // i, j: four channels of row i; of a [K,V] state, kRows rows of channel i of the four.
    __device__ __forceinline__ void take(int i, int j, const float4 &x) {
        if constexpr (Config::kAxes == Axes::VK) s[i][j][0] = x.x, s[i][j][1] = x.y, s[i][j][2] = x.z, s[i][j][3] = x.w;
        else if constexpr (kRows == 2) s[0][j][i] = x.x, s[1][j][i] = x.y;
        else s[0][j][i] = x.x, s[1][j][i] = x.y, s[2][j][i] = x.z, s[3][j][i] = x.w;
    }
    __device__ __forceinline__ float4 given(int i, int j) const {
        if constexpr (Config::kAxes == Axes::VK) return make_float4(s[i][j][0], s[i][j][1], s[i][j][2], s[i][j][3]);
        else if constexpr (kRows == 2) return make_float4(s[0][j][i], s[1][j][i], 0.f, 0.f);
        else return make_float4(s[0][j][i], s[1][j][i], s[2][j][i], s[3][j][i]);
    }

    __device__ __forceinline__ void widen(const Raw (&raw)[kParts][kFours]) {
#pragma unroll
        for (int i = 0; i < kParts; i++)
#pragma unroll
            for (int j = 0; j < kFours; j++) take(i, j, Part<Config::kStored>::widen(raw[i][j]));
    }
    __device__ __forceinline__ Raw narrowed(int i, int j) const { return Part<Config::kStored>::narrow(given(i, j)); }

    // x = S a;  a lane's parts of t and u: pairs of fours are added first.
    __device__ __forceinline__ void decay_and_dot(const float *decay, const float *k_row, const float *q_row, int lane, float (&t)[kRows],
                                                  float (&u)[kRows]) {
        float t2[kRows], u2[kRows];
#pragma unroll
        for (int j = 0; j < kFours; j++) {
            const int c = Config::channel(lane, j);
            const float4 a = *reinterpret_cast<const float4 *>(decay + c);
            const float4 k = *reinterpret_cast<const float4 *>(k_row + c), q = *reinterpret_cast<const float4 *>(q_row + c);
#pragma unroll
            for (int r = 0; r < kRows; r++) {
                float(&x)[4] = s[r][j];
                x[0] = decayed(x[0], a.x), x[1] = decayed(x[1], a.y), x[2] = decayed(x[2], a.z), x[3] = decayed(x[3], a.w);
                const float4 x4 = make_float4(x[0], x[1], x[2], x[3]);
                const float with_k = dot4(x4, k), with_q = dot4(x4, q);
                if (j == 0) t[r] = with_k, u[r] = with_q;
                if (j == 1) t[r] += with_k, u[r] += with_q;
                if (j == 2) t2[r] = with_k, u2[r] = with_q;
                if (j == 3) t[r] += t2[r] + with_k, u[r] += u2[r] + with_q;
            }
        }
    }

    // S = x + d k^, where `update` is d of the lane's own row.
    __device__ __forceinline__ void add(const float *k_row, int lane, float update) {
        float d[kRows];
#pragma unroll
        for (int r = 0; r < kRows; r++) d[r] = __shfl_sync(~0u, update, (thread_here() & 31 & ~(Config::kLanes - 1)) + r * kLanesOfRow);
#pragma unroll
        for (int j = 0; j < kFours; j++) {
            const float4 k = *reinterpret_cast<const float4 *>(k_row + Config::channel(lane, j));
#pragma unroll
            for (int r = 0; r < kRows; r++) {
                float(&x)[4] = s[r][j];
                x[0] = fmaf(d[r], k.x, x[0]), x[1] = fmaf(d[r], k.y, x[1]), x[2] = fmaf(d[r], k.z, x[2]), x[3] = fmaf(d[r], k.w, x[3]);
            }
        }
    }
};

}  // namespace fkdai

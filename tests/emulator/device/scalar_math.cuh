// Host stand-in for src/cuda/device/scalar_math.cuh.
#pragma once
#include "emulator.h"

namespace fkdai {

inline constexpr float kLog2e = 1.4426950408889634f;

inline float exp2_fast(float x) { return std::exp2(x); }
inline float log2_fast(float x) { return std::log2(x); }
inline float reciprocal(float x) { return 1.f / x; }
inline float inverse_sqrt(float x) { return 1.f / std::sqrt(x); }
inline float max_or_nan(float x, float y) { return x != x || y != y ? __uint_as_float(0x7fffffff) : std::fmax(x, y); }
inline float min_or_nan(float x, float y) { return -max_or_nan(-x, -y); }
inline float round_to_integer(float x) { return std::nearbyint(x); }
inline float sigmoid(float x) { return reciprocal(1.f + exp2_fast(-kLog2e * x)); }

inline uint32_t pack_bf16(float low, float high) {
    const auto round = [](float x) -> uint32_t {
        uint32_t bits;
        memcpy(&bits, &x, 4);
        return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
    };
    return round(low) | round(high) << 16;
}
inline uint32_t pack_f16(float low, float high) {
    const auto round = [](float x) -> uint32_t {
        const _Float16 half = static_cast<_Float16>(x);
        uint16_t bits;
        memcpy(&bits, &half, 2);
        return x != x ? 0x7fffu : bits;
    };
    return round(low) | round(high) << 16;
}
// Without a call of the compiler's library: the exponent moves to where that of fp32 is, and a factor of 2^112 mends its offset, also of a subnormal.
inline float f16_of(uint16_t bits) {
    const uint32_t magnitude = bits & 0x7fffu;
    const float x = magnitude >= 0x7c00 ? __uint_as_float(magnitude << 13 | 0x7f800000u) : __uint_as_float(magnitude << 13) * 0x1p112f;
    return std::copysign(x, __uint_as_float(uint32_t{bits} << 16));
}
inline float low_f16(uint32_t pair) { return f16_of(static_cast<uint16_t>(pair)); }
inline float high_f16(uint32_t pair) { return f16_of(static_cast<uint16_t>(pair >> 16)); }
inline float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
inline float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

inline uint32_t multiply_pairs_bf16(uint32_t x, uint32_t y) { return pack_bf16(low_bf16(x) * low_bf16(y), high_bf16(x) * high_bf16(y)); }
inline uint32_t larger_pairs_f16(uint32_t x, uint32_t y) {
    const auto larger = [](uint32_t a, uint32_t b) { return a > 0x7c00 || b > 0x7c00 ? 0x7fffu : a > b ? a : b; };
    return larger(x & 0x7fff, y & 0x7fff) | larger(x >> 16 & 0x7fff, y >> 16 & 0x7fff) << 16;
}

template <class T>
T uniform(T x) { return __shfl_sync(~0u, x, 0); }
inline uint32_t kept(uint32_t x, int lane) { return __shfl_sync(~0u, x, lane); }

inline uint32_t warp_min(uint32_t x) {
    for (int d = 16; d > 0; d /= 2) x = std::min(x, __shfl_xor_sync(~0u, x, d));
    return x;
}
inline uint32_t warp_max(uint32_t x) { return ~warp_min(~x); }
inline uint32_t warp_sum(uint32_t x) {
    for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(~0u, x, d);
    return x;
}

inline int here_alone(int x) { return x; }
inline int lane_here() { return emulator::self().lane(); }
inline int thread_here() { return static_cast<int>(emulator::self().thread.x); }
inline int block_here() { return static_cast<int>(emulator::self().block.x); }

}  // namespace fkdai

// Scalar pieces: base-2 exponentials, reciprocals, and the bf16 <-> fp32 conversions that the kernels share.
//
// Every function here is one or two machine instructions. The approximate forms are accurate to about 2^-22
// relative, far below the 2^-9 of the bf16 operands they feed; tanh.approx (2^-11) is never used.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace fkdai {

inline constexpr float kLog2e = 1.4426950408889634f;

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Within 2^-22 of it, absolutely, between 1/2 and 2.
__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float inverse_sqrt(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// NaN if either is, unlike fmaxf and fminf.
__device__ __forceinline__ float max_or_nan(float x, float y) {
    float z;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}
__device__ __forceinline__ float min_or_nan(float x, float y) {
    float z;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(z) : "f"(x), "f"(y));
    return z;
}

// To the nearest, for |x| < 2^22.
__device__ __forceinline__ float round_to_integer(float x) { return __fadd_rn(__fadd_rn(x, 0x1.8p23f), -0x1.8p23f); }

__device__ __forceinline__ float sigmoid(float x) { return reciprocal(1.f + exp2_fast(-kLog2e * x)); }

// Two fp32 -> bf16x2, round to nearest even; `low` lands in the lower half (the lower address).
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// The same to fp16x2.
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
    return r;
}

// Both elements of x times those of y, and the larger magnitudes of both pairs.
__device__ __forceinline__ uint32_t multiply_pairs_bf16(uint32_t x, uint32_t y) {
    uint32_t r;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(x), "r"(y), "r"(0x80008000u));
#else
    asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(r) : "r"(x), "r"(y));
#endif
    return r;
}
__device__ __forceinline__ uint32_t larger_pairs_f16(uint32_t x, uint32_t y) {
    uint32_t r;
    asm("{\n.reg .b32 a, b;\nabs.f16x2 a, %1;\nabs.f16x2 b, %2;\nmax.NaN.f16x2 %0, a, b;\n}" : "=r"(r) : "r"(x), "r"(y));
    return r;
}

__device__ __forceinline__ float low_f16(uint32_t pair) {
    float x;
    asm("{\n.reg .f16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(x) : "r"(pair));
    return x;
}
__device__ __forceinline__ float high_f16(uint32_t pair) { return low_f16(pair >> 16); }
__device__ __forceinline__ float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// Lane 0's value, which the compiler then knows to be the same in all lanes: indices and descriptors made from it
// live in uniform registers.
template <class T>
__device__ __forceinline__ T uniform(T x) { return __shfl_sync(~0u, x, 0); }

// The lane's own value, by a way that the compiler cannot go again: it would rather compute an address anew in every turn of a
// loop, from a special register, than keep it.
__device__ __forceinline__ uint32_t kept(uint32_t x, int lane) { return __shfl_sync(~0u, x, lane); }

// The same value, which the compiler takes for another one: what follows from it is not computed ahead of a loop, and kept in registers.
__device__ __forceinline__ int here_alone(int x) {
    int same;
    asm volatile("mov.b32 %0, %1;" : "=r"(same) : "r"(x));
    return same;
}

// Over the lanes of a whole warp.
__device__ __forceinline__ uint32_t warp_min(uint32_t x) { return __reduce_min_sync(~0u, x); }
__device__ __forceinline__ uint32_t warp_max(uint32_t x) { return __reduce_max_sync(~0u, x); }
__device__ __forceinline__ uint32_t warp_sum(uint32_t x) { return __reduce_add_sync(~0u, x); }

// The lane's number, the thread's in its block, and the block's, read anew: what is only wanted now and then need not be kept.
__device__ __forceinline__ int lane_here() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}
__device__ __forceinline__ int thread_here() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}
__device__ __forceinline__ int block_here() {
    int block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    return block;
}

}  // namespace fkdai

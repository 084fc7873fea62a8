// Products in fp16 that keep nearly fp32's precision: operands as sums of two fp16 numbers, each exact to 2^-21 of itself or 2^-24, whichever is more.
#pragma once

#include "device/scalar_math.cuh"
#include "device/tf32_split.cuh"

namespace fkdai {

// Two elements: the bits that fp16 has room for, which are those of tf32, and the rest.
struct F16Parts {
    uint32_t main, rest;
};
__device__ __forceinline__ F16Parts f16_parts(float low, float high) {
    return {pack_f16(tf32_part(low), tf32_part(high)), pack_f16(tf32_rest(low), tf32_rest(high))};
}

// A of multiply_16_f16.
struct SplitRows {
    uint32_t main[4], rest[4];
    __device__ __forceinline__ void set(int i, float low, float high) {
        const F16Parts parts = f16_parts(low, high);
        main[i] = parts.main, rest[i] = parts.rest;
    }
};

// As multiply_16_f16, but for the product of both rests. Elements are below 2^15.
__device__ __forceinline__ void multiply_split(float (&c)[4], const SplitRows &a, const F16Parts &b0, const F16Parts &b1) {
    multiply_16_f16(c, a.rest, b0.main, b1.main);
    multiply_16_f16(c, a.main, b0.rest, b1.rest);
    multiply_16_f16(c, a.main, b0.main, b1.main);
}

}  // namespace fkdai

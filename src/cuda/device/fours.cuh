// Elements of a caller's tensors, bf16 or fp32, one and four at once, in two steps, so that requests of one thread can be in flight together: words
// as they lie, then numbers. Indices likewise.
#pragma once

#include "device/divisor.h"
#include "device/scalar_math.cuh"

namespace fkdai {

__device__ __forceinline__ float dot4(const float4 &a, const float4 &b) { return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, a.x * b.x))); }
__device__ __forceinline__ float4 times(const float4 &a, float x) { return make_float4(a.x * x, a.y * x, a.z * x, a.w * x); }

__device__ __forceinline__ float float_of(uint32_t word, int is_f32) { return __uint_as_float(is_f32 ? word : word << 16); }

// One element.
__device__ __forceinline__ uint32_t word_at(const void *data, int64_t at, int is_f32) {
    if (is_f32) return static_cast<const uint32_t *>(data)[at];
    return static_cast<const uint16_t *>(data)[at];
}

// Four neighbours, from a multiple of four on.
__device__ __forceinline__ uint4 words_at(const void *data, int64_t at, int is_f32) {
    if (is_f32) return *reinterpret_cast<const uint4 *>(static_cast<const uint32_t *>(data) + at);
    const uint2 half = *reinterpret_cast<const uint2 *>(static_cast<const uint16_t *>(data) + at);
    return make_uint4(half.x, half.y, 0, 0);
}
__device__ __forceinline__ float4 floats_of(const uint4 &words, int is_f32) {
    if (is_f32) return make_float4(__uint_as_float(words.x), __uint_as_float(words.y), __uint_as_float(words.z), __uint_as_float(words.w));
    return make_float4(low_bf16(words.x), high_bf16(words.x), low_bf16(words.y), high_bf16(words.y));
}

__device__ __forceinline__ void store_float(void *data, int64_t at, int is_f32, float value) {
    if (is_f32) static_cast<float *>(data)[at] = value;
    else static_cast<uint16_t *>(data)[at] = static_cast<uint16_t>(pack_bf16(value, value));
}

__device__ __forceinline__ uint32_t divide(uint32_t x, const fkdai_divisor &by) { return (x + __umulhi(x, by.factor)) >> by.shift; }

// One index, as it lies.
struct IndexWords {
    uint32_t low, high;
};
__device__ __forceinline__ IndexWords index_words(const void *data, int is_i64, int64_t i) {
    if (is_i64) {
        const uint2 both = static_cast<const uint2 *>(data)[i];
        return {both.x, both.y};
    }
    return {static_cast<const uint32_t *>(data)[i], 0};
}
__device__ __forceinline__ int64_t index_of(const IndexWords &x, int is_i64) {
    if (is_i64) return static_cast<int64_t>(static_cast<uint64_t>(x.high) << 32 | x.low);
    return static_cast<int32_t>(x.low);
}

__device__ __forceinline__ void report(uint32_t *status, uint32_t bit) {
    if (status != nullptr) atomicOr(status, bit);
}

}  // namespace fkdai

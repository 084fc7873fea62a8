// From the caller's memory to registers in two steps, so that requests of one thread can be in flight together: words as they lie, then numbers.
#pragma once

#include "decode/decode_config.cuh"
#include "device/fours.cuh"
#include "device/requests.cuh"

namespace fkdai::decode {

// ---------------------------------------------------------------- floating point, as it lies

// Four neighbouring elements.
template <Inputs inputs>
struct Words;
template <>
struct Words<Inputs::BF16> {
    uint2 x;
    __device__ __forceinline__ void request(const uint8_t *at, bool is_wanted, int) { x = request_8(at, is_wanted); }
    __device__ __forceinline__ float4 floats(int) const { return make_float4(low_bf16(x.x), high_bf16(x.x), low_bf16(x.y), high_bf16(x.y)); }
};
template <>
struct Words<Inputs::ANY> {
    uint4 x;
    __device__ __forceinline__ void request(const uint8_t *at, bool is_wanted, int is_f32) { x = request_16_or_8(at, is_wanted, is_f32); }
    __device__ __forceinline__ float4 floats(int is_f32) const {
        return floats_of(x, is_f32);
    }
};

// Is a tensor, or a parameter that is fp32 where the tensors are bf16, fp32? What is known when the kernel is compiled is not asked.
template <Inputs inputs>
__device__ __forceinline__ int tensor_is_f32(int is_f32) { return inputs == Inputs::ANY && is_f32; }
template <Inputs inputs>
__device__ __forceinline__ int parameter_is_f32(int is_f32) { return inputs == Inputs::BF16 || is_f32; }

// x y. Strides, and what they are multiplied with, fit 32 bits where inputs are plain: one instruction instead of four.
template <Inputs inputs>
__device__ __forceinline__ int64_t product(int64_t x, int64_t y) {
    if constexpr (inputs == Inputs::BF16) return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(x)) * static_cast<uint32_t>(y));
    return x * y;
}

// Some channels of one head, of all tokens of a sequence.
template <Inputs inputs>
struct Line {
    uint8_t *at;     // of token 0
    int64_t step;    // bytes to the next token
    int is_f32;
    __device__ __forceinline__ uint8_t *of(int token) const { return at + product<inputs>(token, step); }
    __device__ __forceinline__ void skip(int64_t tokens) { at += product<inputs>(tokens, step); }
};

// Before it is known where a packed sequence begins.
template <Inputs inputs>
__device__ __forceinline__ Line<inputs> line_of(const fkdai_decode_call &p, const fkdai_decode_tensor &x, const Job &job, int head, int channel) {
    const int is_f32 = tensor_is_f32<inputs>(x.is_f32), bytes = is_f32 ? 4 : 2;
    const int64_t n = p.cu_seqlens.data == nullptr ? job.n : 0, elements = product<inputs>(n, x.batch) + product<inputs>(head, x.head) + channel;
    return {static_cast<uint8_t *>(x.data) + elements * bytes, x.token * bytes, is_f32};
}

// ---------------------------------------------------------------- indices, as they lie

// Where one lies; is_there is false where nobody needs it, or there is no such array.
struct IndexPlace {
    const uint8_t *at;
    bool is_there, is_i64;
    __device__ __forceinline__ IndexWords request(uint32_t otherwise = 0) const {
        return {request_word(at, is_there, otherwise), request_word(at + 4, is_there && is_i64)};
    }
    __device__ __forceinline__ IndexWords request_early(uint32_t otherwise) const {
        return {request_early_word(at, is_there, otherwise), request_early_word(at + 4, is_there && is_i64)};
    }
};
__device__ __forceinline__ IndexPlace place_of_index(const fkdai_decode_indices &x, int64_t i, bool is_wanted = true) {
    return {static_cast<const uint8_t *>(x.data) + i * (x.is_i64 ? 8 : 4), is_wanted && x.data != nullptr, x.is_i64 != 0};
}
// What lane `from` asked for.
__device__ __forceinline__ IndexWords handed(const IndexWords &x, int from) { return {__shfl_sync(~0u, x.low, from), __shfl_sync(~0u, x.high, from)}; }

}  // namespace fkdai::decode

// The taps of four neighbouring channels: the convolution's inputs of the three tokens before, oldest first. Bits of elements move; nothing is
// rounded.
#pragma once

#include "decode_fused/decode_fused_config.cuh"

namespace fkdai::decode_fused {

inline constexpr int kTaps = 3;

// Four elements: their bits, each in a word of its own.
struct FourBits {
    uint32_t x[4];
};
__device__ __forceinline__ FourBits bits_of(const uint4 &words, int is_f32) {
    if (is_f32) return {words.x, words.y, words.z, words.w};
    return {words.x & 0xffff, words.x >> 16, words.y & 0xffff, words.y >> 16};
}
__device__ __forceinline__ void store_four(void *data, int64_t at, const FourBits &bits, int is_f32) {
    if (is_f32) *reinterpret_cast<uint4 *>(static_cast<uint32_t *>(data) + at) = make_uint4(bits.x[0], bits.x[1], bits.x[2], bits.x[3]);
    else *reinterpret_cast<uint2 *>(static_cast<uint16_t *>(data) + at) = make_uint2(bits.x[0] | bits.x[1] << 16, bits.x[2] | bits.x[3] << 16);
}
__device__ __forceinline__ void store_element(void *data, int64_t at, uint32_t bits, int is_f32) {
    if (is_f32) static_cast<uint32_t *>(data)[at] = bits;
    else static_cast<uint16_t *>(data)[at] = static_cast<uint16_t>(bits);
}

struct TapElements {
    FourBits tap[kTaps];    // [tap][channel]

    __device__ __forceinline__ float4 floats(int t, int is_f32) const {
        const FourBits &b = tap[t];
        return make_float4(float_of(b.x[0], is_f32), float_of(b.x[1], is_f32), float_of(b.x[2], is_f32), float_of(b.x[3], is_f32));
    }

    __device__ __forceinline__ TapElements shifted(const uint4 &newest, int is_f32) const { return {{tap[1], tap[2], bits_of(newest, is_f32)}}; }

    __device__ __forceinline__ void store(int64_t at, const fkdai_fused_conv &conv, int is_f32) const {
#pragma unroll
        for (int i = 0; i < kTaps; i++) {
            if (conv.lie == FKDAI_FUSED_TAPS_ROWS) store_four(conv.taps, at + i * conv.tap, tap[i], is_f32);
            else if (conv.lie == FKDAI_FUSED_TAPS_COLUMNS) store_four(conv.taps, at + 4 * i, column_four(i), is_f32);
            else
#pragma unroll
                for (int c = 0; c < 4; c++) store_element(conv.taps, at + i * conv.tap + c * conv.channel, tap[i].x[c], is_f32);
        }
    }

    // Elements 4 i ... 4 i + 3 of the twelve, tap after tap of channel after channel.
    __device__ __forceinline__ FourBits column_four(int i) const {
        FourBits four;
#pragma unroll
        for (int j = 0; j < 4; j++) four.x[j] = tap[(4 * i + j) % kTaps].x[(4 * i + j) / kTaps];
        return four;
    }
};

// As they lie: three fours of neighbours, or the bits of each element alone.
struct TapWords {
    uint4 words[kTaps];

    __device__ __forceinline__ void request(int64_t at, const fkdai_fused_conv &conv, int is_f32, bool starts_from_0) {
#pragma unroll
        for (int i = 0; i < kTaps; i++) {
            if (starts_from_0) words[i] = make_uint4(0, 0, 0, 0);
            else if (conv.lie == FKDAI_FUSED_TAPS_SINGLE) words[i] = singles(at + i * conv.tap, conv, is_f32);
            else words[i] = words_at(conv.taps, at + i * (conv.lie == FKDAI_FUSED_TAPS_ROWS ? conv.tap : 4), is_f32);
        }
    }

    __device__ __forceinline__ static uint4 singles(int64_t at, const fkdai_fused_conv &conv, int is_f32) {
        const uint32_t a = word_at(conv.taps, at, is_f32), b = word_at(conv.taps, at + conv.channel, is_f32);
        const uint32_t c = word_at(conv.taps, at + 2 * conv.channel, is_f32), d = word_at(conv.taps, at + 3 * conv.channel, is_f32);
        return make_uint4(a, b, c, d);
    }

    __device__ __forceinline__ TapElements elements(const fkdai_fused_conv &conv, int is_f32) const {
        TapElements all;
        FourBits fours[kTaps];
#pragma unroll
        for (int i = 0; i < kTaps; i++) fours[i] = bits_of(words[i], is_f32 || conv.lie == FKDAI_FUSED_TAPS_SINGLE);
#pragma unroll
        for (int t = 0; t < kTaps; t++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                const int i = kTaps * c + t;
                all.tap[t].x[c] = conv.lie == FKDAI_FUSED_TAPS_COLUMNS ? fours[i / 4].x[i % 4] : fours[t].x[c];
            }
        return all;
    }
};

}  // namespace fkdai::decode_fused

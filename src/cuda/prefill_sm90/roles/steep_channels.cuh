// Scores of the channels that decay by more than 2^120 inside a block of 16 tokens, one product at a time: rare, and slow.
#pragma once

#include "device/gates.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// By a warpgroup, while q and k are as they came, and gamma inside its block stands in place of g (even channels) and where KI will stand (odd ones).
template <class Smem>
struct SteepChannels {
    SharedView<Smem> s;
    int group, warp, lane;

    // This thread's elements of [-akk/beta ; M], in the order of a wgmma accumulator, as fp16 pairs: they are at most 1, and wait in few registers.
    using Pairs = uint32_t[8];

    __device__ __forceinline__ bool is_any_steep(uint32_t stage) const {
        const Stage &here = s->stages[stage];
        bool is_any = false;
#pragma unroll
        for (int i = 0; i < 4; i++) is_any |= is_steep(load_float(s.at(here.before_scores.decays[0][32 * i + lane])), load_float(s.at(here.before_scores.decays[1][32 * i + lane])));
        return __any_sync(~0u, is_any);
    }

    __device__ __forceinline__ void sum(uint32_t stage, int rows, Pairs &pairs) const {
        const Stage &here = s->stages[stage];
        float scores[16];
#pragma unroll
        for (int i = 0; i < 16; i++) scores[i] = 0.f;
#pragma unroll 1
        for (int channel = 0; channel < kWidth; channel++)
            if (uniform(is_steep(load_float(s.at(here.before_scores.decays[0][channel])), load_float(s.at(here.before_scores.decays[1][channel]))))) add_channel(stage, rows, channel, scores);
#pragma unroll
        for (int i = 0; i < 8; i++) pairs[i] = pack_f16(scores[2 * i], scores[2 * i + 1]);
    }
    __device__ __forceinline__ static void widen(const Pairs &pairs, float (&scores)[16]) {
#pragma unroll
        for (int i = 0; i < 8; i++) scores[2 * i] = low_f16(pairs[i]), scores[2 * i + 1] = high_f16(pairs[i]);
    }

    // A row of a tile of 64 channels, and the pair of channels in it.
    __device__ __forceinline__ static uint32_t pair_at(int row, int channel) {
        return row * 128 + ((channel % kHalf / 8 ^ (row & 7)) * 16) + (channel % 8 / 2) * 4;
    }
    __device__ __forceinline__ float element(uint32_t tile, int row, int channel) const {
        const uint32_t pair = __float_as_uint(load_float(tile + pair_at(row, channel)));
        return channel & 1 ? high_bf16(pair) : low_bf16(pair);
    }
    __device__ __forceinline__ float gamma(uint32_t stage, int row, int channel) const {
        const int half = channel / kHalf;
        const uint32_t tile = channel & 1 ? s.at(s->score_keys[group][half]) : s.at(s->stages[stage].ki[half]);
        const float before = row < 16 ? 0.f : load_float(s.at(s->stages[stage].before_scores.decays[0][channel]));
        return before + load_float(tile + pair_at(row, channel));
    }

    __device__ __forceinline__ void add_channel(uint32_t stage, int rows, int channel, float (&scores)[16]) const {
        const Stage &here = s->stages[stage];
        const uint32_t keys = s.at(here.kq[channel / kHalf]), mine = keys + (warp < 2 ? 0 : kQueryRows);
        const Norms &norms = here.norms;
        float x[2], x_gamma[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int i = 16 * (warp & 1) + (lane >> 2) + 8 * h;
            x[h] = i < rows ? element(mine, i, channel) * (warp < 2 ? -norms.k[i] : norms.q[i]) : 0.f;
            x_gamma[h] = gamma(stage, i, channel);
        }
#pragma unroll
        for (int n = 0; n < 8; n++) {
            const int j = 8 * (n >> 1) + 2 * (lane & 3) + (n & 1);
            const float y = j < rows ? element(keys, j, channel) * norms.k[j] : 0.f, y_gamma = gamma(stage, j, channel);
#pragma unroll
            for (int h = 0; h < 2; h++)  // above the diagonal nobody looks; but inf is not wanted there
                scores[4 * (n >> 1) + 2 * h + (n & 1)] += x[h] * y * exp2_fast(fminf(x_gamma[h] - y_gamma, 0.f));
        }
    }
};

}  // namespace fkdai::prefill

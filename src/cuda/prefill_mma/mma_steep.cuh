// Scores of the channels that no anchor holds, one product at a time, eight channels together: rare, and slow.
#pragma once

#include "prefill_mma/mma_warp.cuh"

namespace fkdai::portable {

struct SteepChannels : PrepareWarp {
    static constexpr int kSteepAtOnce = 8, kSteepFloats = 3 * kChunk;    // gamma, keys, queries of a channel, where A/b will stand
    static_assert(kSteepAtOnce * kSteepFloats <= 16 * kAkkPitch);

    __device__ __forceinline__ float *steep_channel(int number, int i) const { return &s->akk[number & 1][0][0] + i * kSteepFloats; }

    // Into `steep`; false: there are none.
    __device__ __forceinline__ bool sum(int number, int rows, const Lane &x) const {
        uint32_t masks[2][2];    // of halves, even and odd channels: bit l is that of lane l
        int count = 0;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float2 sum_of[kGroups];
#pragma unroll
            for (int n = 0; n < kGroups; n++) sum_of[n] = load_float2(s.at(s->sums[n]) + (64 * i + 2 * lane) * 4);
            masks[i][0] = __ballot_sync(~0u, is_steep(sum_of[0].x + sum_of[1].x, sum_of[2].x + sum_of[3].x));
            masks[i][1] = __ballot_sync(~0u, is_steep(sum_of[0].y + sum_of[1].y, sum_of[2].y + sum_of[3].y));
            count += __popc(masks[i][0]) + __popc(masks[i][1]);
        }
        if (count == 0) [[likely]] return false;
        float c[2][4] = {};
#pragma unroll 1
        for (int first = 0; first < count; first += kSteepAtOnce) {
            const int here = count - first < kSteepAtOnce ? count - first : kSteepAtOnce;
            place(number, masks, first, rows, x);
            meet();
            if (score_column() <= score_row()) add(number, here, c);
            meet();
        }
#pragma unroll
        for (int n = 0; n < 4; n++) s->steep[warp][n][lane] = pack_f16(c[n >> 1][2 * (n & 1)], c[n >> 1][2 * (n & 1) + 1]);
        return true;
    }
    __device__ __forceinline__ void place(int number, const uint32_t (&masks)[2][2], int first, int rows, const Lane &x) const {
        int rank = half() == 0 ? 0 : __popc(masks[0][0]) + __popc(masks[0][1]);
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const uint32_t mask = half() == 0 ? masks[0][e] : masks[1][e];
            const int mine = rank + __popc(mask & ((1u << lane) - 1)) - first;
            rank += __popc(mask);
            if ((mask >> lane & 1) == 0 || mine < 0 || mine >= kSteepAtOnce) continue;
            float *const to = steep_channel(number, mine) + 8 * group();
            float before = 0.f;
            for (int n = 0; n < group(); n++) before += load_float(sums(n) + 4 * e);
#pragma unroll
            for (int t = 0; t < 8; t++) {
                const bool is_valid = 8 * group() + t < rows;
                to[t] = before + x.gamma[e][t];
                to[kChunk + t] = is_valid ? (e == 0 ? low_bf16(x.k[t]) : high_bf16(x.k[t])) * s->norms[warp][t] : 0.f;
                to[2 * kChunk + t] = is_valid ? (e == 0 ? low_bf16(x.q[t]) : high_bf16(x.q[t])) * s->norms[warp][8 + t] : 0.f;
            }
        }
    }
    __device__ __forceinline__ void add(int number, int count, float (&c)[2][4]) const {
#pragma unroll 1
        for (int n = 0; n < count; n++) {
            const float *const gamma = steep_channel(number, n), *const keys = gamma + kChunk, *const mine = scores_queries() ? keys + kChunk : keys;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int row = 16 * score_row() + 8 * h + (lane >> 2);
                const float x = scores_queries() ? mine[row] : -mine[row], row_gamma = gamma[row];
#pragma unroll
                for (int b = 0; b < 4; b++) {  // above the diagonal nobody looks; but inf is not wanted there
                    const int column = 16 * score_column() + 8 * (b >> 1) + 2 * (lane & 3) + (b & 1);
                    c[b >> 1][2 * h + (b & 1)] += x * keys[column] * exp2_fast(fminf(row_gamma - gamma[column], 0.f));
                }
            }
        }
    }
};

}  // namespace fkdai::portable

// States in and out: 16 columns of V of a matrix, from and to the registers of a warp of the chain.
#pragma once

#include "device/scalar_math.cuh"
#include "prefill_mma/mma_params.cuh"

namespace fkdai::portable {

// S^T [16 V, 128 K] of a warp: element [b][2 h + e] of lane l is of row l/4 + 8 h and channel 8 b + 2 (l%4) + e.
using StateTiles = float[kWidth / 8][4];

// The column of V, of sixteen, that is row r of the products: lanes that hold rows 2 c, 2 c + 1 of both halves so have four columns side by side.
__device__ __forceinline__ constexpr int column_of_row(int r) { return r % 8 / 2 * 4 + r / 8 * 2 + r % 2; }

// As one lane sees it: in bytes, since registers are few.
struct StateMatrix {
    char *first;             // this lane's first element
    int to_half, to_tile, to_channel;    // to its other row, to the next tile of 8 channels, to the next channel
    int tiles;
    bool is_wide, is_k_first;

    // Of row `row` of the table, sixteen columns of V from `column` on.
    __device__ StateMatrix(const Params &p, const StateTable &of, int64_t row, int head, int column, int lane)
        : tiles(p.K / 8), is_wide(of.element == Element::F32), is_k_first(of.is_k_first) {
        const int size = is_wide ? 4 : 2, v = column + column_of_row(lane >> 2), channel = 2 * (lane & 3);
        const int of_row = is_k_first ? 1 : p.K, of_channel = is_k_first ? p.V : 1;
        to_half = 2 * of_row * size, to_tile = 8 * of_channel * size, to_channel = of_channel * size;
        const int64_t matrix = row * of.row_stride + static_cast<int64_t>(head) * (p.K * p.V);
        first = static_cast<char *>(of.data) + (matrix + v * of_row + channel * of_channel) * size;
    }
    __device__ __forceinline__ char *at(int h, int b) const { return first + h * to_half + b * to_tile; }

    __device__ __forceinline__ float element(const char *x) const {
        return is_wide ? *reinterpret_cast<const float *>(x) : low_bf16(*reinterpret_cast<const uint16_t *>(x));
    }
    __device__ __forceinline__ void set_element(char *to, float x) const {
        if (is_wide) *reinterpret_cast<float *>(to) = x;
        else *reinterpret_cast<uint16_t *>(to) = static_cast<uint16_t>(pack_bf16(x, 0.f));
    }
    __device__ __forceinline__ float2 load_pair(int h, int b) const {
        const char *const x = at(h, b);
        if (is_k_first) return make_float2(element(x), element(x + to_channel));
        if (is_wide) return *reinterpret_cast<const float2 *>(x);
        const uint32_t pair = *reinterpret_cast<const uint32_t *>(x);
        return make_float2(low_bf16(pair), high_bf16(pair));
    }
    __device__ __forceinline__ void store_pair(int h, int b, float x, float y) const {
        char *const to = at(h, b);
        if (is_k_first) set_element(to, x), set_element(to + to_channel, y);
        else if (is_wide) *reinterpret_cast<float2 *>(to) = make_float2(x, y);
        else *reinterpret_cast<uint32_t *>(to) = pack_bf16(x, y);
    }

    __device__ __forceinline__ void load(StateTiles &state) const {
#pragma unroll
        for (int b = 0; b < kWidth / 8; b++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float2 pair = b < tiles ? load_pair(h, b) : make_float2(0.f, 0.f);
                state[b][2 * h] = pair.x, state[b][2 * h + 1] = pair.y;
            }
    }
    __device__ __forceinline__ void store_tile(int b, const float (&tile)[4]) const {
        if (b < tiles) store_pair(0, b, tile[0], tile[1]), store_pair(1, b, tile[2], tile[3]);
    }
    __device__ __forceinline__ void store(const StateTiles &state) const {
#pragma unroll
        for (int b = 0; b < kWidth / 8; b++) store_tile(b, state[b]);
    }
};

}  // namespace fkdai::portable

// States in and out: 16 columns of V of a matrix, from and to the registers of a warp of the chain.
#pragma once

#include "device/scalar_math.cuh"
#include "prefill_mma/mma_params.cuh"

namespace fkdai::portable {

// S^T [16 V, 128 K] of a warp: element [b][2 h + e] of lane l is of row l/4 + 8 h and channel 8 b + 2 (l%4) + e.
using StateTiles = float[kWidth / 8][4];

// The column of V, of sixteen, that is row r of the products: lanes that hold rows 2 c, 2 c + 1 of both halves so have four columns side by side.
__device__ __forceinline__ constexpr int column_of_row(int r) { return r % 8 / 2 * 4 + r / 8 * 2 + r % 2; }

struct StateMatrix {
    const StateTable &of;
    int64_t first;        // element of the head's matrix
    int K, V, column;     // the first of the sixteen
    int lane;

    // row: of the table.
    __device__ StateMatrix(const Params &p, const StateTable &table, int64_t row, int head, int first_column, int its_lane)
        : of(table), first(row * table.row_stride + static_cast<int64_t>(head) * p.K * p.V), K(p.K), V(p.V), column(first_column), lane(its_lane) {}

    // Of row half h: the element of channel 8 b + 2 (l%4).
    __device__ __forceinline__ int64_t at(int h, int b) const {
        const int64_t v = column + column_of_row((lane >> 2) + 8 * h), channel = 8 * b + 2 * (lane & 3);
        return first + (of.is_k_first ? channel * V + v : v * K + channel);
    }
    __device__ __forceinline__ float element(int64_t i) const {
        return of.element == Element::F32 ? static_cast<const float *>(of.data)[i] : low_bf16(static_cast<const uint16_t *>(of.data)[i]);
    }
    __device__ __forceinline__ void set_element(int64_t i, float x) const {
        if (of.element == Element::F32) static_cast<float *>(of.data)[i] = x;
        else static_cast<uint16_t *>(of.data)[i] = static_cast<uint16_t>(pack_bf16(x, 0.f));
    }

    __device__ __forceinline__ float2 load_pair(int h, int b) const {
        const int64_t i = at(h, b);
        if (of.is_k_first) return make_float2(element(i), element(i + V));
        if (of.element == Element::F32) return *reinterpret_cast<const float2 *>(static_cast<const float *>(of.data) + i);
        const uint32_t pair = *reinterpret_cast<const uint32_t *>(static_cast<const uint16_t *>(of.data) + i);
        return make_float2(low_bf16(pair), high_bf16(pair));
    }
    __device__ __forceinline__ void store_pair(int h, int b, float x, float y) const {
        const int64_t i = at(h, b);
        if (of.is_k_first) set_element(i, x), set_element(i + V, y);
        else if (of.element == Element::F32) *reinterpret_cast<float2 *>(static_cast<float *>(of.data) + i) = make_float2(x, y);
        else *reinterpret_cast<uint32_t *>(static_cast<uint16_t *>(of.data) + i) = pack_bf16(x, y);
    }

    __device__ __forceinline__ void load(StateTiles &state) const {
#pragma unroll
        for (int b = 0; b < kWidth / 8; b++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float2 pair = 8 * b < K ? load_pair(h, b) : make_float2(0.f, 0.f);
                state[b][2 * h] = pair.x, state[b][2 * h + 1] = pair.y;
            }
    }
    __device__ __forceinline__ void store_tile(int b, const float (&tile)[4]) const {
        if (8 * b < K) store_pair(0, b, tile[0], tile[1]), store_pair(1, b, tile[2], tile[3]);
    }
    __device__ __forceinline__ void store(const StateTiles &state) const {
#pragma unroll
        for (int b = 0; b < kWidth / 8; b++) store_tile(b, state[b]);
    }
};

}  // namespace fkdai::portable

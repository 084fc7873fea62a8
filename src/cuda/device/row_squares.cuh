// Squares and products of the rows of two bf16 tiles: the diagonals of X X^T, Y Y^T and Y X^T, by the tensor cores. Products of bf16 are exact,
// sums fp32.
#pragma once

#include "device/warp_mma.cuh"

namespace fkdai {

// 8 rows of each, by one warp. `add` takes 16 channels as ldmatrix.x4 leaves them: rows of X and of Y of channels 0-7, then of 8-15.
// Products of 8 channels: those of 16 would want their operands in pairs of registers that ldmatrix does not give.
struct RowSquares {
    float low[4] = {}, high[4] = {};  // [X ; Y] X^T and [X ; Y] Y^T

    __device__ __forceinline__ void add(const uint32_t (&x)[4]) { add_half(x, 0), add_half(x, 1); }
    // Of 8 channels: the first, or the others.
    __device__ __forceinline__ void add_half(const uint32_t (&x)[4], int half) {
        multiply_bf16(low, x[2 * half], x[2 * half + 1], x[2 * half]);
        multiply_bf16(high, x[2 * half], x[2 * half + 1], x[2 * half + 1]);
    }

    // Lanes with lane % 4 == lane / 8 know the sums of row lane / 4: of X, of Y, and of their product.
    __device__ __forceinline__ static bool knows(int lane) { return (lane & 3) == lane >> 3; }
    __device__ __forceinline__ float first(int lane) const { return lane & 4 ? low[1] : low[0]; }
    __device__ __forceinline__ float product(int lane) const { return lane & 4 ? low[3] : low[2]; }
    __device__ __forceinline__ float second(int lane) const { return lane & 4 ? high[3] : high[2]; }
};

}  // namespace fkdai

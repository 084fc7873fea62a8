// Sums of squares of the rows of a bf16 tile: the diagonal of X X^T, by the tensor cores. Products of bf16 are exact, sums fp32.
#pragma once

#include "device/warp_mma.cuh"

namespace fkdai {

// 16 rows, by one warp. `add` takes 16 channels as ldmatrix.x4 leaves them: rows 0-7 and 8-15 of channels 0-7, then of 8-15.
// Products of 8 channels: those of 16 would want their operands in pairs of registers that ldmatrix does not give.
struct RowSquares {
    float low[2][4] = {}, high[2][4] = {};  // X X^T of every other 8 channels, columns of rows 0-7 and of rows 8-15

    __device__ __forceinline__ void add(const uint32_t (&x)[4]) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            multiply_bf16(low[i], x[2 * i], x[2 * i + 1], x[2 * i]);
            multiply_bf16(high[i], x[2 * i], x[2 * i + 1], x[2 * i + 1]);
        }
    }

    // Lanes with lane % 4 == lane / 8 know two of the sums: of rows lane / 4 and lane / 4 + 8.
    __device__ __forceinline__ static bool knows(int lane) { return (lane & 3) == lane >> 3; }
    __device__ __forceinline__ float first(int lane) const { return lane & 4 ? low[0][1] + low[1][1] : low[0][0] + low[1][0]; }
    __device__ __forceinline__ float second(int lane) const { return lane & 4 ? high[0][3] + high[1][3] : high[0][2] + high[1][2]; }
};

}  // namespace fkdai

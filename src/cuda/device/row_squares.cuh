// Sums of squares of the rows of a bf16 tile: the diagonal of X X^T, by the tensor cores. Products of bf16 are exact, sums fp32.
#pragma once

#include "warp_mma.cuh"

namespace fkdai {

// 16 rows, by one warp. `add` takes 16 channels as ldmatrix.x4 leaves them: rows 0-7 and 8-15 of channels 0-7, then of 8-15.
struct RowSquares {
    float low[4] = {}, high[4] = {};  // X X^T, columns of rows 0-7 and of rows 8-15

    __device__ __forceinline__ void add(const uint32_t (&x)[4]) {
        multiply_bf16(low, x, x[0], x[2]);
        multiply_bf16(high, x, x[1], x[3]);
    }

    // Lanes with lane % 4 == lane / 8 know two of the sums: of rows lane / 4 and lane / 4 + 8.
    __device__ __forceinline__ static bool knows(int lane) { return (lane & 3) == lane >> 3; }
    __device__ __forceinline__ float first(int lane) const { return lane & 4 ? low[1] : low[0]; }
    __device__ __forceinline__ float second(int lane) const { return lane & 4 ? high[3] : high[2]; }
};

}  // namespace fkdai

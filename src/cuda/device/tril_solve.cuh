// T = (I + Diag(beta) A)^-1 Diag(beta) for a strictly lower triangular 32x32 A, by one warp, in fp32.
//
// Forward substitution on the two 16x16 diagonal blocks at once (lane = block, column), then
// T21 = -T22 (A21 T11). No series in powers of A: those explode on repeated keys.
// A: rows of kAkkPitch floats, row r = [A21 row r | A22 row r | A11 row r], 16 floats each.
// Result: bf16, rounded once, T[i][j] at row j of a [32 j][32 i] tile in the 64-byte swizzle. The block i < 16 <= j
// is not written (it must be zero already).
#pragma once

#include "scalar_math.cuh"

namespace fkdai {

template <int kAkkPitch>
struct TrilSolve {
    float (*akk)[kAkkPitch];  // [16]; A22 and A11 are overwritten
    uint8_t *tile;            // [32 j][32 i] bf16
    const float *beta;        // [32]
    int lane;

    __device__ __forceinline__ static float4 four(const float *x) { return *reinterpret_cast<const float4 *>(x); }

    // Scratch of 32 rows of 16 in the bytes of A22 and A11: columns of T11, then of T22.
    __device__ __forceinline__ float *scratch(int row) const { return &akk[row & 15][16 + (row & 16)]; }

    // T[8 i8 .. 8 i8 + 7][j], rounded.
    __device__ __forceinline__ void store_tile(int j, int i8, const float *t) const {
        *reinterpret_cast<uint4 *>(tile + j * 64 + ((i8 ^ ((j >> 1) & 3)) * 16)) =
            make_uint4(pack_bf16(t[0], t[1]), pack_bf16(t[2], t[3]), pack_bf16(t[4], t[5]), pack_bf16(t[6], t[7]));
    }

    // Column c of T_bb: z_i = [i = c] - beta_i sum_{j<i} a_ij z_j, then all times beta_c.  Lane = 16 b + c.
    __device__ __forceinline__ void diagonal_blocks() const {
        const int block = lane >> 4, column = lane & 15;
        const float *const rows = &akk[0][block ? 16 : 32], *const beta_rows = beta + block * 16;
        float z[16];
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float even = 0, odd = 0, last = 0;  // the newest z enters last: the chain is two FMAs per row
#pragma unroll
            for (int j4 = 0; j4 < (i + 3) / 4; j4++) {
                const float4 a = four(rows + i * kAkkPitch + j4 * 4);
                const float values[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
                for (int jj = 0; jj < 4; jj++) {
                    const int j = 4 * j4 + jj;
                    if (j < i - 1 && jj % 2 == 0) even = fmaf(values[jj], z[j], even);
                    if (j < i - 1 && jj % 2 == 1) odd = fmaf(values[jj], z[j], odd);
                    if (j == i - 1) last = values[jj];
                }
            }
            float sum = even + odd;
            if (i > 0) sum = fmaf(last, z[i - 1], sum);
            z[i] = fmaf(-beta_rows[i], sum, i == column ? 1.f : 0.f);
        }
        const float beta_column = beta[lane];
#pragma unroll
        for (int i = 0; i < 16; i++) z[i] *= beta_column;
        __syncwarp();
#pragma unroll
        for (int i = 0; i < 16; i += 4)
            *reinterpret_cast<float4 *>(&scratch(lane)[i]) = make_float4(z[i], z[i + 1], z[i + 2], z[i + 3]);
        store_tile(lane, 2 * block, z);
        store_tile(lane, 2 * block + 1, z + 8);
    }

    // W = A21 T11 over T11's scratch, then T21 = -T22 W. Lane (b, c): rows 2i + b of W, rows 8b..8b+7 of T21.
    __device__ __forceinline__ void lower_block() const {
        const int half = lane >> 4, column = lane & 15;
        float t11[16];
#pragma unroll
        for (int i = 0; i < 16; i += 4) {
            const float4 t = four(&scratch(column)[i]);
            t11[i] = t.x, t11[i + 1] = t.y, t11[i + 2] = t.z, t11[i + 3] = t.w;
        }
        __syncwarp();
#pragma unroll 2
        for (int i = 0; i < 16; i += 2) {
            float even = 0, odd = 0;
#pragma unroll
            for (int j = 0; j < 16; j += 4) {
                const float4 a = four(&akk[i + half][j]);
                even = fmaf(a.x, t11[j], even), odd = fmaf(a.y, t11[j + 1], odd);
                even = fmaf(a.z, t11[j + 2], even), odd = fmaf(a.w, t11[j + 3], odd);
            }
            scratch(i + half)[column] = even + odd;
        }
        __syncwarp();
        float t21[8] = {};
#pragma unroll 4
        for (int j = 0; j < 16; j++) {
            const float minus_w = -scratch(j)[column];
            const float4 a = four(&scratch(16 + j)[8 * half]), b = four(&scratch(16 + j)[8 * half + 4]);
            t21[0] = fmaf(a.x, minus_w, t21[0]), t21[1] = fmaf(a.y, minus_w, t21[1]);
            t21[2] = fmaf(a.z, minus_w, t21[2]), t21[3] = fmaf(a.w, minus_w, t21[3]);
            t21[4] = fmaf(b.x, minus_w, t21[4]), t21[5] = fmaf(b.y, minus_w, t21[5]);
            t21[6] = fmaf(b.z, minus_w, t21[6]), t21[7] = fmaf(b.w, minus_w, t21[7]);
        }
        store_tile(column, 2 + half, t21);
    }

    // All 32 lanes; A and beta are visible to the warp. On return the tile is written, but not yet fenced.
    __device__ __forceinline__ void run() const {
        diagonal_blocks();
        __syncwarp();
        lower_block();
    }
};

}  // namespace fkdai

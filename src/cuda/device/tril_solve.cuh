// T = (I + Diag(beta) A)^-1 Diag(beta) for a strictly lower triangular 32x32 A, by one warp, in fp32.
//
// Forward substitution on the four 8x8 diagonal blocks at once (lane = block, column), then blocks below the diagonal by
// T21 = -T22 (A21 T11), first 8x8, then 16x16. No series in powers of A: those explode on repeated keys.
// A: rows of kAkkPitch floats, row r = [A21 row r | A22 row r | A11 row r], 16 floats each.
// Result: fp16, rounded once, T[i][j] at row j of a [32 j][32 i] tile in the 64-byte swizzle. 8x8 blocks above the diagonal
// are not written (they must be zero already).
#pragma once

#include "device/f16_split.cuh"
#include "device/scalar_math.cuh"

namespace fkdai {

template <int kAkkPitch>
struct TrilSolve {
    float (*akk)[kAkkPitch];  // [16]; A22 and A11 are overwritten
    uint8_t *tile;            // [32 j][32 i] fp16
    const float *beta;        // [32]
    int lane;

    __device__ __forceinline__ static float4 four(const float *x) { return *reinterpret_cast<const float4 *>(x); }

    __device__ __forceinline__ static float2 two(const float *x) { return *reinterpret_cast<const float2 *>(x); }

    // Scratch of 32 rows of 16 in the bytes of A22 and A11: columns of T11, then of T22.
    __device__ __forceinline__ float *scratch(int row) const { return &akk[row & 15][16 + (row & 16)]; }

    // Where T[8 i8 .. 8 i8 + 7][j] stands in the tile.
    __device__ __forceinline__ uint8_t *tile_at(int j, int i8) const { return tile + j * 64 + ((i8 ^ ((j >> 1) & 3)) * 16); }
    __device__ __forceinline__ void store_eight(int j, int i8, const float *t) const {
        *reinterpret_cast<uint4 *>(tile_at(j, i8)) =
            make_uint4(pack_f16(t[0], t[1]), pack_f16(t[2], t[3]), pack_f16(t[4], t[5]), pack_f16(t[6], t[7]));
    }
    __device__ __forceinline__ void store_four(int j, int i4, const float *t) const {
        *reinterpret_cast<uint2 *>(tile_at(j, i4 >> 1) + (i4 & 1) * 8) = make_uint2(pack_f16(t[0], t[1]), pack_f16(t[2], t[3]));
    }

    // A[8 b + i][8 b2 + j], both blocks in the same half of the diagonal.
    __device__ __forceinline__ const float *block(int b, int b2) const { return &akk[8 * (b & 1)][(b < 2 ? 32 : 16) + 8 * (b2 & 1)]; }

    // Column c of T_bb: z_i = [i = c] - beta_i sum_{j<i} a_ij z_j, then all times beta_c.  Lane = 8 b + c.
    __device__ __forceinline__ void diagonal_blocks() const {
        const int b = lane >> 3, column = lane & 7;
        const float *const rows = block(b, b), *const beta_rows = beta + b * 8;
        float z[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float sum = 0, last = 0;  // the newest z enters last: the chain is two FMAs per row
#pragma unroll
            for (int j4 = 0; j4 < (i + 3) / 4; j4++) {
                const float4 a = four(rows + i * kAkkPitch + j4 * 4);
                const float values[4] = {a.x, a.y, a.z, a.w};
#pragma unroll
                for (int jj = 0; jj < 4; jj++) {
                    const int j = 4 * j4 + jj;
                    if (j < i - 1) sum = fmaf(values[jj], z[j], sum);
                    if (j == i - 1) last = values[jj];
                }
            }
            if (i > 0) sum = fmaf(last, z[i - 1], sum);
            z[i] = fmaf(-beta_rows[i], sum, i == column ? 1.f : 0.f);
        }
        const float beta_column = beta[lane];
#pragma unroll
        for (int i = 0; i < 8; i++) z[i] *= beta_column;
        __syncwarp();
        float *const to = scratch(lane) + 8 * (b & 1);
        *reinterpret_cast<float4 *>(to) = make_float4(z[0], z[1], z[2], z[3]);
        *reinterpret_cast<float4 *>(to + 4) = make_float4(z[4], z[5], z[6], z[7]);
        store_eight(lane, b, z);
    }

    // The 8x8 blocks below the diagonal of both halves. Lane (half, h, c): rows 4 h .. 4 h + 3 of column c, of W = A21 T11,
    // which waits where T21 will stand, and then of T21 = -T22 W. What is above the diagonal becomes zero.
    __device__ __forceinline__ void small_blocks() const {
        const int half = lane >> 4, h = (lane >> 3) & 1, column = lane & 7;
        const float *const a21 = block(2 * half + 1, 2 * half) + 4 * h * kAkkPitch;
        float *const t11 = scratch(16 * half + column);
        const float4 low = four(t11), high = four(t11 + 4);
        float w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float4 a = four(a21 + i * kAkkPitch), b = four(a21 + i * kAkkPitch + 4);
            w[i] = (fmaf(a.x, low.x, a.y * low.y) + fmaf(a.z, low.z, a.w * low.w)) +
                   (fmaf(b.x, high.x, b.y * high.y) + fmaf(b.z, high.z, b.w * high.w));
        }
        *reinterpret_cast<float4 *>(t11 + 8 + 4 * h) = make_float4(w[0], w[1], w[2], w[3]);
        __syncwarp();
        const float4 w_low = four(t11 + 8), w_high = four(t11 + 12);
        const float w_column[8] = {w_low.x, w_low.y, w_low.z, w_low.w, w_high.x, w_high.y, w_high.z, w_high.w};
        float t21[4] = {};
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const float4 t22 = four(scratch(16 * half + 8 + j) + 8 + 4 * h);
            t21[0] = fmaf(t22.x, -w_column[j], t21[0]), t21[1] = fmaf(t22.y, -w_column[j], t21[1]);
            t21[2] = fmaf(t22.z, -w_column[j], t21[2]), t21[3] = fmaf(t22.w, -w_column[j], t21[3]);
        }
        __syncwarp();
        *reinterpret_cast<float4 *>(t11 + 8 + 4 * h) = make_float4(t21[0], t21[1], t21[2], t21[3]);
        *reinterpret_cast<float4 *>(scratch(16 * half + 8 + column) + 4 * h) = make_float4(0.f, 0.f, 0.f, 0.f);
        store_four(16 * half + column, 4 * half + 2 + h, t21);
    }

    // The 16x16 block: W^T = T11^T A21^T, then -T21^T = W^T T22^T, with operands split in two (f16_split.cuh). The sums of the first product
    // are an operand of the second as they stand. One loop, as code that has not run before costs more than what it does.
    __device__ __forceinline__ void lower_block() const {
        const int row = lane >> 2, pair = 2 * (lane & 3);
        float x[2][4];  // [columns 8 n ..][this lane's four of 16x8]: T11^T, W^T, -T21^T
        const float *const t11 = scratch(row) + pair, *from = &akk[row][pair];
        int beside = 1, below = 8 * kAkkPitch;  // from an element of A21^T or T22^T: the next in k; 8 columns on
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 both = two(t11 + (i & 1) * 8 * kAkkPitch + (i >> 1) * 8);
            x[i >> 1][2 * (i & 1)] = both.x, x[i >> 1][2 * (i & 1) + 1] = both.y;
        }
#pragma unroll 1
        for (int product = 0; product < 2; product++) {
            SplitRows a;
#pragma unroll
            for (int i = 0; i < 4; i++) a.set(i, x[i >> 1][2 * (i & 1)], x[i >> 1][2 * (i & 1) + 1]);
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const float *const low = from + n * below, *const high = low + 8 * beside;
                x[n][0] = x[n][1] = x[n][2] = x[n][3] = 0.f;
                multiply_split(x[n], a, f16_parts(low[0], low[beside]), f16_parts(high[0], high[beside]));
            }
            from = scratch(16 + pair) + row, beside = kAkkPitch, below = 8;
        }
#pragma unroll
        for (int n = 0; n < 2; n++) {
            *reinterpret_cast<uint32_t *>(tile_at(row, 2 + n) + 2 * pair) = pack_f16(-x[n][0], -x[n][1]);
            *reinterpret_cast<uint32_t *>(tile_at(row + 8, 2 + n) + 2 * pair) = pack_f16(-x[n][2], -x[n][3]);
        }
    }

    // All 32 lanes; A and beta are visible to the warp. On return the tile is written, but not yet fenced. meanwhile: something else to do half-way.
    __device__ __forceinline__ void run() const {
        run([] {});
    }
    template <class Meanwhile>
    __device__ __forceinline__ void run(const Meanwhile &meanwhile) const {
        diagonal_blocks();
        __syncwarp();
        meanwhile();
        small_blocks();
        __syncwarp();
        lower_block();
    }
};

}  // namespace fkdai

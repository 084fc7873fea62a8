// The norms of a chunk, from raw q and k: 1/|k|, scale/|q| and scale q^ k^ of each token. By warps that have little else to do, while the operand
// warps are at the gates.
#pragma once

#include "device/powers.cuh"
#include "device/row_squares.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// is_raw: without norm.
template <class Smem, bool is_raw>
struct RowNorms {
    const Params &p;
    SharedView<Smem> s;
    int lane;

    // Of the 8 tokens from 8 eight on; rows past the sequence get 0.
    __device__ __forceinline__ void make(uint32_t stage, int rows, int eight) const {
        const uint32_t at = address(stage, eight);
        RowSquares squares;
#pragma unroll 2
        for (int quarter = 0; quarter < 4; quarter++) add_squares(squares, at, quarter);
        store(stage, rows, eight, squares);
    }

    // The same in parts: this lane's address in these tokens for ldmatrix, the squares of each quarter of the channels, and what follows from them.
    __device__ __forceinline__ uint32_t first_row(uint32_t stage, int eight) const { return s.at(s->stages[stage].kq[0]) + 8 * eight * 128; }
    __device__ __forceinline__ uint32_t address(uint32_t stage, int eight) const {
        return first_row(stage, eight) + (lane & 7) * 128 + (lane & 8) * (kQueryRows / 8) + (((lane >> 4) ^ (lane & 7)) * 16);
    }
    // One quarter of their channels.
    __device__ __forceinline__ static void add_squares(RowSquares &squares, uint32_t at, int quarter) {
        uint32_t x[2][4];
#pragma unroll
        for (int half = 0; half < 2; half++) load_matrices(x[half], (at ^ quarter * 32) + half * uint32_t{sizeof(Stage::kq[0])});
#pragma unroll
        for (int half = 0; half < 2; half++) squares.add(x[half]);
    }

    // All 32 tokens, by a warp alone: 16 at a time, as a product waits for the one before of the same 8; in the end each lane has one.
    __device__ __forceinline__ void make_all(uint32_t stage, int rows) const {
        Norms &norms = s->stages[stage].norms;
        const int token = lane >> 2;
        const auto load = [&](uint32_t (&x)[2][4], uint32_t at, int i) {
#pragma unroll
            for (int eight = 0; eight < 2; eight++)
                load_matrices(x[eight], (at ^ (i >> 1) * 32) + (i & 1) * uint32_t{sizeof(Stage::kq[0])} + eight * 8 * 128);
        };
#pragma unroll 1
        for (int pair = 0; pair < 2; pair++) {
            const uint32_t at = address(stage, 2 * pair);
            RowSquares squares[2];
            uint32_t x[2][2][4];
            load(x[0], at, 0);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                if (i < 7) load(x[(i + 1) & 1], at, i + 1);  // while the products go on
#pragma unroll
                for (int n = 0; n < 2; n++)
#pragma unroll
                    for (int eight = 0; eight < 2; eight++) squares[eight].add_half(x[i & 1][eight], n);
            }
            if (RowSquares::knows(lane)) {
#pragma unroll
                for (int eight = 0; eight < 2; eight++) {
                    const int of = 16 * pair + 8 * eight + token;
                    norms.k[of] = squares[eight].first(lane), norms.q[of] = squares[eight].second(lane), norms.product[of] = squares[eight].product(lane);
                }
            }
        }
        __syncwarp();
        store_token(stage, rows, lane, true, norms.k[lane], norms.q[lane], norms.product[lane]);
    }

    __device__ __forceinline__ void store(uint32_t stage, int rows, int eight, const RowSquares &squares) const {
        const float keys = squares.first(lane), queries = squares.second(lane), product = squares.product(lane);
        if constexpr (is_raw) store_sizes(stage, rows, eight, keys, queries, product);
        else store_token(stage, rows, 8 * eight + (lane >> 2), RowSquares::knows(lane), keys, queries, product);
    }
    // Of a token of the chunk, if this lane knows its sums. A whole warp.
    __device__ __forceinline__ void store_token(uint32_t stage, int rows, int token, bool knows, float keys, float queries, float raw_product) const {
        float k_norm = inverse_norm(keys), q_norm = inverse_norm(queries), product = raw_product * k_norm * q_norm;
        const bool overflows = knows && !(fabsf(raw_product) <= 3e38f && keys <= 3e38f && queries <= 3e38f);
        if (__any_sync(~0u, overflows)) {
            const Norm3 mended = mend(first_row(stage, 0) + token * 128, token & 7, keys > 3e38f, queries > 3e38f, k_norm, q_norm);
            k_norm = mended.k, q_norm = mended.q;
            if (overflows) product = mended.product;
        }
        if (!knows) return;
        const bool is_valid = token < rows;
        Norms &norms = s->stages[stage].norms;
        norms.k[token] = is_valid ? k_norm : 0.f, norms.q[token] = is_valid ? q_norm * p.scale : 0.f;
        norms.product[token] = is_valid ? product * p.scale : 0.f;
    }

    // Without norm: powers of two, and for the solve role which.
    __device__ __forceinline__ void store_sizes(uint32_t stage, int rows, int eight, float keys, float queries, float product) const {
        const int token = 8 * eight + (lane >> 2);
        if (!RowSquares::knows(lane)) return;
        const uint32_t row = first_row(stage, eight) + (lane >> 2) * 128;
        const int k = size_exponent(row, keys), q = size_exponent(row + kQueryRows, queries);
        const float k_factor = power_of_two(-k), q_factor = power_of_two(-q);
        if ((k | q) != 0) product = scaled_product(row, lane >> 2, k_factor, q_factor);
        const bool is_valid = token < rows;
        Norms &norms = s->stages[stage].norms;
        norms.k[token] = is_valid ? k_factor : 0.f, norms.q[token] = is_valid ? q_factor * p.scale : 0.f;
        norms.product[token] = is_valid ? product * p.scale : 0.f;
        s->token_sizes[stage][token] = {is_valid ? pack_exponents(k, q) : 0u, is_valid ? keys : 0.f};
    }
    // n of a row whose squares are these: the row times 2^-n is between 1/2 and 2.
    __device__ __forceinline__ int size_exponent(uint32_t row, float squares) const {
        if (squares >= 0x1p-4f && squares <= 0x1p4f) return 0;
        int shift = 0;
        if (!(squares <= 3e38f)) shift = 70;
        else if (squares < 0x1p-100f) shift = -70;
        if (shift != 0) squares = scaled_product_of(row, 0, lane >> 2, power_of_two(-shift), power_of_two(-shift));
        return squares == 0.f ? 0 : clamped_exponent(((exponent_of(squares) + 1) >> 1) + shift);
    }
    __device__ __forceinline__ static float inverse_norm(float squares) { return inverse_sqrt(squares + 1e-6f); }

    // Where squares overflow: 1/|x| from x 2^-70, and the product from rows times their norms. It is rare: so it lies elsewhere, a call and one loop.
    struct Norm3 {
        float k, q, product;
    };
    __device__ __noinline__ static Norm3 mend(uint32_t row, int swizzle, bool key, bool query, float k_norm, float q_norm) {
        float product = 0.f;
#pragma unroll 1
        for (int turn = 0; turn < 3; turn++) {
            const bool is_product = turn == 2;
            product = scaled_product_of(row + (turn == 1 ? kQueryRows : 0), is_product ? kQueryRows : 0, swizzle, is_product ? k_norm : 0x1p-70f,
                                        is_product ? q_norm : 0x1p-70f);
            const float norm = inverse_sqrt(product) * 0x1p-70f;
            if (turn == 0 && key) k_norm = norm;
            if (turn == 1 && query) q_norm = norm;
        }
        return {k_norm, q_norm, product};
    }
    // The product of a row of k and one of q, each times its factor.
    __device__ __forceinline__ static float scaled_product(uint32_t row, int swizzle, float k_factor, float q_factor) {
        return scaled_product_of(row, kQueryRows, swizzle, k_factor, q_factor);
    }
    __device__ __forceinline__ static float scaled_product_of(uint32_t row, uint32_t distance, int swizzle, float first, float second) {
        float sum = 0.f;
#pragma unroll 1
        for (int pair = 0; pair < kWidth / 2; pair++) {
            const uint32_t at = row + (pair >> 5) * uint32_t{sizeof(Stage::kq[0])} + ((pair >> 2 & 7) ^ swizzle) * 16 + (pair & 3) * 4;
            const uint32_t x = __float_as_uint(load_float(at)), y = __float_as_uint(load_float(at + distance));
            sum = fmaf(low_bf16(x) * first, low_bf16(y) * second, fmaf(high_bf16(x) * first, high_bf16(y) * second, sum));
        }
        return sum;
    }
};

}  // namespace fkdai::prefill

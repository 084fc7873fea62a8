// The norms of a chunk: 1/|k| and scale/|q| of each token, and scale q^ k^, from raw q and k.
#pragma once

#include "device/powers.cuh"
#include "device/row_squares.cuh"
#include "prefill_mma/mma_warp.cuh"

namespace fkdai::portable {

struct RowNorms : PrepareWarp {
    // Squares of this warp's tokens over its channels: ldmatrix of keys and queries of eight tokens.
    __device__ __forceinline__ void sum_squares() const {
        RowSquares squares[2];    // two sums each: half as long a chain of products
        const int token = 8 * group() + (lane & 7);
        const uint32_t tile = s.at(s->raw[lane >> 3 & 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t x[4];
            load_matrices(x, tile + tile_offset(token, 8 * half() + 2 * i + (lane >> 4)));
            squares[i & 1].add(x);
        }
        if (!RowSquares::knows(lane)) return;
        const int row = 8 * group() + (lane >> 2);
        s->squares[half()][0][row] = squares[0].first(lane) + squares[1].first(lane);
        s->squares[half()][1][row] = squares[0].second(lane) + squares[1].second(lane);
        s->squares[half()][2][row] = squares[0].product(lane) + squares[1].product(lane);
    }

    // Of this lane's token of the eight: keys, queries, their product, over all channels.
    struct Squares {
        float key, query, product;
    };
    __device__ __forceinline__ Squares squares_of(int token) const {
        const auto &x = s->squares;
        return {x[0][0][token] + x[1][0][token], x[0][1][token] + x[1][1][token], x[0][2][token] + x[1][2][token]};
    }
    // 1/|k| of this warp's tokens, then scale/|q|; without norm the powers of two that take keys and queries to a size of 1/2 to 2, where they are
    // not between 1/4 and 4. Rows past the sequence get 0.
    __device__ __forceinline__ void make_norms(int number, int rows, const Lane &x) const {
        const int t = lane & 7, token = 8 * group() + t;
        const bool is_valid = token < rows;
        const Squares of = squares_of(token);
        float k = p.is_raw ? 1.f : inverse_sqrt(of.key + 1e-6f), q = p.is_raw ? 1.f : inverse_sqrt(of.query + 1e-6f);
        int k_exponent = 0, q_exponent = 0;
        float product = of.product * k * q;
        const bool are_usual = is_usual(of.key) & is_usual(of.query) & (fabsf(of.product) <= 3e38f);
        if (__any_sync(~0u, is_valid && !are_usual)) [[unlikely]]
            product = make_unusual_norms(x, of, k, q, k_exponent, q_exponent);
        __syncwarp();
        if (lane < 16) s->norms[warp][lane] = !is_valid ? 0.f : lane < 8 ? k : q * p.scale;
        if (half() == 0 && lane < 8) {
            s->diagonal[token] = is_valid ? product * p.scale : 0.f;
            if (p.is_raw) {
                s->key_exponents[number & 1][token] = is_valid ? k_exponent : 0, s->query_exponents[number & 1][token] = is_valid ? q_exponent : 0;
                s->key_squares[number & 1][token] = is_valid ? of.key : 0.f;
            }
        }
        __syncwarp();
    }
    __device__ __forceinline__ bool is_usual(float squares) const {
        const float low = p.is_raw ? 0x1p-4f : 0.f, high = p.is_raw ? 0x1p4f : 3e38f;
        return (squares >= low) & (squares <= high);
    }
    // Squares that overflow are made from x 2^-70, without norm those that vanish from x 2^70. The product of both, times their factors.
    __device__ __forceinline__ float make_unusual_norms(const Lane &x, const Squares &of, float &k, float &q, int &k_exponent, int &q_exponent) const {
        const int k_shift = shift_of(of.key), q_shift = shift_of(of.query);
        float k_factor = power_of_two(-k_shift), q_factor = power_of_two(-q_shift);
#pragma unroll 1
        for (int turn = 0;; turn++) {    // the second time with the norms
            const Squares shifted = scaled_squares(x, k_factor, q_factor);
            if (turn == 1) return shifted.product;
            if (p.is_raw) {
                k_exponent = exponent_of_size(of.key, shifted.key, k_shift), q_exponent = exponent_of_size(of.query, shifted.query, q_shift);
                k = power_of_two(-k_exponent), q = power_of_two(-q_exponent);
            } else {
                if (k_shift != 0) k = inverse_sqrt(shifted.key) * power_of_two(-k_shift);
                if (q_shift != 0) q = inverse_sqrt(shifted.query) * power_of_two(-q_shift);
            }
            k_factor = k, q_factor = q;
        }
    }
    __device__ __forceinline__ int shift_of(float squares) const {
        return !(squares <= 3e38f) ? 70 : p.is_raw && squares < 0x1p-100f ? -70 : 0;
    }
    __device__ __forceinline__ int exponent_of_size(float squares, float shifted, int shift) const {
        if (is_usual(squares) || shifted == 0.f) return 0;
        return clamped_exponent(((exponent_of(shifted) + 1) >> 1) + shift);
    }
    // Squares of this lane's token with k and q times these factors. Both warps that share the tokens come here.
    __device__ __forceinline__ Squares scaled_squares(const Lane &x, float k_factor, float q_factor) const {
        meet_pair();
#pragma unroll 1
        for (int i = 0; i < 3; i++) {
            float sums[8];
#pragma unroll
            for (int t = 0; t < 8; t++) {
                const uint32_t a = i == 1 ? x.q[t] : x.k[t], b = i == 0 ? x.k[t] : x.q[t];
                const float a_factor = __shfl_sync(~0u, i == 1 ? q_factor : k_factor, t), b_factor = __shfl_sync(~0u, i == 0 ? k_factor : q_factor, t);
                sums[t] = fmaf(low_bf16(a) * a_factor, low_bf16(b) * b_factor, high_bf16(a) * a_factor * (high_bf16(b) * b_factor));
            }
            const float sum = sum_of_lanes(sums);
            if ((lane & 3) == 0) s->squares[half()][i][8 * group() + (lane >> 2)] = sum;
        }
        meet_pair();
        return squares_of(8 * group() + (lane & 7));
    }
    // Element lane/4, summed over all lanes.
    __device__ __forceinline__ float sum_of_lanes(float (&x)[8]) const {
#pragma unroll
        for (int d = 4; d > 0; d /= 2)
#pragma unroll
            for (int t = 0; t < d; t++) {
                const bool is_upper = (lane & 4 * d) != 0;
                x[t] = (is_upper ? x[t + d] : x[t]) + __shfl_xor_sync(~0u, is_upper ? x[t] : x[t + d], 4 * d);
            }
        x[0] += __shfl_xor_sync(~0u, x[0], 2);
        return x[0] + __shfl_xor_sync(~0u, x[0], 1);
    }
};

}  // namespace fkdai::portable

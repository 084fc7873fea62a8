// The preparation: eight warps make what the chain needs of a chunk, one chunk after the other, ahead of it.
//
// A warp has eight tokens and half of the channels; a lane two channels of them, in registers from the raw tiles to the operands. gamma: the sum of
// log2 alpha from the chunk's first token; m: gamma after token 15, rounded to an integer, the anchor of the scores.
//
//     1. read              q, k, g of this lane; squares of half a row each; gamma inside the eight tokens     | meet
//     2. decay             -K 2^-m, Q 2^-m; KI = k^ 2^(m-gamma); Kr = k^ 2^(gamma_C-gamma)                     | meet
//     3. scores            [-A/b ; M] = [-K ; Q] 2^-m KI^T, 16 x 16 a warp                                     | meet
//     4. leave_anchor      -K, Q: times 2^m, exact; one warp meanwhile solves for T
#pragma once

#include "device/async_copy.cuh"
#include "device/powers.cuh"
#include "device/row_squares.cuh"
#include "device/tril_solve.cuh"
#include "prefill_mma/mma_params.cuh"

namespace fkdai::portable {

inline constexpr int kPrepareMeets = 1;    // of the named barriers
inline constexpr int kMiddle = kGroups / 2;    // eights of tokens up to the anchor

struct PrepareRole {
    const Params &p;
    View s;
    const Work &work;
    int warp, lane;

    __device__ __forceinline__ static void meet() { warps_meet<kPrepareMeets, kPrepareThreads>(); }
    __device__ __forceinline__ int half() const { return warp & 1; }
    __device__ __forceinline__ int group() const { return warp >> 1; }
    __device__ __forceinline__ int channel() const { return 64 * half() + 2 * lane; }
    // This lane's pair of channels of token 8 group + t in a tile.
    __device__ __forceinline__ uint32_t pair(int t) const { return tile_offset(8 * group() + t, 8 * half() + (lane >> 2)) + (lane & 3) * 4; }

    // A lane's channels of eight tokens.
    struct Lane {
        uint32_t k[8], q[8];
        float gamma[2][8];
    };

    // ---------------------------------------------------------------- raw tiles

    // Into one tile, rows of the sequence only. All threads of the preparation.
    __device__ __forceinline__ void copy_tile(Tile &to, const Tensor &from, int head, int chunk, int channels) const {
        const int thread = 32 * warp + lane, unit = thread & 15, rows = work.rows(chunk);
        const auto *const base = static_cast<const __nv_bfloat16 *>(from.data);
        if (8 * unit >= channels) return;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int token = (thread >> 4) + 16 * i;
            if (token >= rows) continue;
            const int64_t at = from.strides.offset(work.span.batch, work.token(chunk) + token, head) + 8 * unit;
            copy_async(reinterpret_cast<uint4 *>(to.bytes + tile_offset(token, unit)), reinterpret_cast<const uint4 *>(base + at));
        }
    }
    __device__ __forceinline__ void copy_raw(int chunk) const {
        if (chunk < work.chunks) {
            const int key = key_head(p, work.head);
            copy_tile(s->raw[0], p.k, key, chunk, p.K);
            copy_tile(s->raw[1], p.q, key, chunk, p.K);
            if (p.gate != GateKind::PrecomputedF32) copy_tile(s->raw[2], p.g, work.head, chunk, p.K);
        }
        close_copies();
    }

    // ---------------------------------------------------------------- 1

    // Squares of this warp's tokens over its channels: ldmatrix of keys and queries of eight tokens.
    __device__ __forceinline__ void sum_squares() const {
        RowSquares squares;
        const int token = 8 * group() + (lane & 7);
        const uint32_t tile = s.at(s->raw[lane >> 3 & 1]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            uint32_t x[4];
            load_matrices(x, tile + tile_offset(token, 8 * half() + 2 * i + (lane >> 4)));
            squares.add(x);
        }
        if (!RowSquares::knows(lane)) return;
        const int row = 8 * group() + (lane >> 2);
        s->squares[half()][0][row] = squares.first(lane), s->squares[half()][1][row] = squares.second(lane), s->squares[half()][2][row] = squares.product(lane);
    }

    template <GateKind kind>
    __device__ __forceinline__ void sum_gates(const Gate<kind> &gate, const float2 (&g)[8], int rows, Lane &x) const {
        float sum[2] = {0.f, 0.f};
#pragma unroll
        for (int t = 0; t < 8; t++) {
            const bool is_valid = 8 * group() + t < rows;  // rows past the sequence: no decay, whatever lies there
            sum[0] += is_valid ? gate.log2_alpha(g[t].x, 0) : 0.f, sum[1] += is_valid ? gate.log2_alpha(g[t].y, 1) : 0.f;
            x.gamma[0][t] = sum[0], x.gamma[1][t] = sum[1];
        }
        store_float2(s.at(s->sums[group()][channel()]), sum[0], sum[1]);
    }
    // Of this lane's channels: what the gates read beside g.
    struct Gates {
        Gate<GateKind::Bounded> bounded;
    };

    __device__ __forceinline__ void read(const Gates &gates, int rows, Lane &x) const {
        float2 g[8];
#pragma unroll
        for (int t = 0; t < 8; t++) {
            x.k[t] = __float_as_uint(load_float(s.at(s->raw[0]) + pair(t))), x.q[t] = __float_as_uint(load_float(s.at(s->raw[1]) + pair(t)));
            const uint32_t both = __float_as_uint(load_float(s.at(s->raw[2]) + pair(t)));
            g[t] = make_float2(low_bf16(both), high_bf16(both));
        }
        sum_squares();
        sum_gates(gates.bounded, g, rows, x);
    }

    // ---------------------------------------------------------------- 2

    // Of two channels: what their exponents begin with.
    struct Anchor {
        float to_scores[2];    // from gamma inside the eight tokens to gamma - m
        float to_end[2];       // 2^(gamma_C - m)
        float leave[2];        // 2^m
    };
    __device__ __forceinline__ Anchor load_anchor(uint32_t stage) const {
        float before[2] = {0.f, 0.f}, middle[2] = {0.f, 0.f}, all[2] = {0.f, 0.f};
#pragma unroll
        for (int i = 0; i < kGroups; i++) {
            const float2 sum = load_float2(s.at(s->sums[i][channel()]));
            if (i == group()) before[0] = all[0], before[1] = all[1];
            all[0] += sum.x, all[1] += sum.y;
            if (i == kMiddle - 1) middle[0] = all[0], middle[1] = all[1];
        }
        Anchor anchor;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float m = round_to_integer(middle[i]);
            anchor.to_scores[i] = before[i] - m, anchor.to_end[i] = exp2_fast(all[i] - m), anchor.leave[i] = exp2_fast(m);
        }
        if (group() == 0) store_float2(stage + uint32_t{offsetof(Stage, decay)} + decay_slot(channel()) * 4, anchor.to_end[0] * anchor.leave[0],
                                       anchor.to_end[1] * anchor.leave[1]);
        return anchor;
    }

    // 1/|k| of this warp's tokens, then scale/|q|; rows past the sequence get 0.
    __device__ __forceinline__ void make_norms(int rows) const {
        const int t = lane & 7, token = 8 * group() + t, which = lane >> 3 & 1;
        const float keys = s->squares[0][0][token] + s->squares[1][0][token], queries = s->squares[0][1][token] + s->squares[1][1][token];
        const float k = token < rows ? inverse_sqrt(keys + 1e-6f) : 0.f, q = token < rows ? inverse_sqrt(queries + 1e-6f) * p.scale : 0.f;
        if (lane < 16) s->norms[warp][lane] = which == 0 ? k : q;
        if (half() == 0 && lane < 8) s->diagonal[token] = token < rows ? (s->squares[0][2][token] + s->squares[1][2][token]) * k * q : 0.f;
        __syncwarp();
    }

    // x.k, x.q become -K 2^-m, Q 2^-m.
    __device__ __forceinline__ void decay(uint32_t stage, const Anchor &anchor, int rows, Lane &x) const {
        float k_norm[8], q_norm[8];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 k = load_float4(s.at(s->norms[warp][4 * i])), q = load_float4(s.at(s->norms[warp][8 + 4 * i]));
            k_norm[4 * i] = k.x, k_norm[4 * i + 1] = k.y, k_norm[4 * i + 2] = k.z, k_norm[4 * i + 3] = k.w;
            q_norm[4 * i] = q.x, q_norm[4 * i + 1] = q.y, q_norm[4 * i + 2] = q.z, q_norm[4 * i + 3] = q.w;
        }
#pragma unroll
        for (int t = 0; t < 8; t++) {
            if (8 * group() + t >= rows) x.k[t] = x.q[t] = 0;  // rows past the sequence: zeros, whatever lies there
            const float e0 = x.gamma[0][t] + anchor.to_scores[0], e1 = x.gamma[1][t] + anchor.to_scores[1];
            const float f0 = exp2_fast(e0), f1 = exp2_fast(e1);
            const float k0 = low_bf16(x.k[t]) * k_norm[t], k1 = high_bf16(x.k[t]) * k_norm[t];
            const float i0 = k0 * exp2_fast(-e0), i1 = k1 * exp2_fast(-e1);
            x.k[t] = pack_bf16(k0 * -f0, k1 * -f1);
            x.q[t] = pack_bf16(low_bf16(x.q[t]) * (q_norm[t] * f0), high_bf16(x.q[t]) * (q_norm[t] * f1));
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), x.k[t]);
            store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), x.q[t]);
            store_word(s.at(s->keys) + pair(t), pack_bf16(i0, i1));
            store_word(stage + uint32_t{offsetof(Stage, recent)} + pair(t), pack_f16(i0 * anchor.to_end[0], i1 * anchor.to_end[1]));
        }
    }

    // ---------------------------------------------------------------- 3

    // Rows 16 i .. of keys or queries, by tokens 16 j ..: a warp has one such block of [-A/b ; M]. Those above the diagonal are not made.
    __device__ __forceinline__ void scores(uint32_t stage) const {
        const int i = warp >> 1 & 1, j = warp & 1;
        const bool is_query = warp >= 4;
        if (j > i) return;
        float c[2][4] = {};
        const uint32_t a_tile = stage + (is_query ? uint32_t{offsetof(Stage, q)} : uint32_t{offsetof(Stage, k)}), b_tile = s.at(s->keys);
        const int a_row = 16 * i + (lane & 15), b_row = 16 * j + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            uint32_t a[4], b[4];
            load_matrices(a, a_tile + tile_offset(a_row, 2 * k + (lane >> 4)));
            load_matrices(b, b_tile + tile_offset(b_row, 2 * k + (lane >> 3 & 1)));
            multiply_16_bf16(c[0], a, b[0], b[1]), multiply_16_bf16(c[1], a, b[2], b[3]);
        }
        if (is_query) store_mqk(stage, i, j, c);
        else store_akk(i, j, c);
    }
    // In the order that TrilSolve reads: rows [A21 | A22 | A11].
    __device__ __forceinline__ void store_akk(int i, int j, const float (&c)[2][4]) const {
        const uint32_t to = s.at(s->akk[lane >> 2][(i == 0 ? 32 : 16 * j) + 2 * (lane & 3)]);
#pragma unroll
        for (int n = 0; n < 2; n++) {
            store_float2(to + 32 * n, -c[n][0], -c[n][1]);
            store_float2(to + 32 * n + 8 * kAkkPitch * 4, -c[n][2], -c[n][3]);
        }
    }
    // The diagonal comes from q k in fp32; what stands above it may be inf, and becomes zero by select.
    __device__ __forceinline__ void store_mqk(uint32_t stage, int i, int j, const float (&c)[2][4]) const {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = 16 * i + 8 * h + (lane >> 2);
            const float diagonal = s->diagonal[row];
#pragma unroll
            for (int n = 0; n < 2; n++) {
                const int column = 16 * j + 8 * n + 2 * (lane & 3);
                const float first = column < row ? c[n][2 * h] : column == row ? diagonal : 0.f;
                const float second = column + 1 < row ? c[n][2 * h + 1] : column + 1 == row ? diagonal : 0.f;
                store_word(stage + uint32_t{offsetof(Stage, mqk)} + square_offset(row, 2 * j + n) + (lane & 3) * 4, pack_f16(first, second));
            }
        }
    }

    // ---------------------------------------------------------------- 4

    __device__ __forceinline__ void leave_anchor(uint32_t stage, const Anchor &anchor, const Lane &x) const {
        const uint32_t power = pack_bf16(anchor.leave[0], anchor.leave[1]);
#pragma unroll
        for (int t = 0; t < 8; t++) {
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), multiply_pairs_bf16(x.k[t], power));
            store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), multiply_pairs_bf16(x.q[t], power));
        }
    }

    // beta of the lane's token, as the caller gave it. Rows past the sequence are not read.
    __device__ __forceinline__ float load_beta(int chunk) const {
        if (chunk >= work.chunks || lane >= work.rows(chunk)) return 0.f;
        const int64_t i = p.beta.strides.offset(work.span.batch, work.token(chunk) + lane, work.head);
        if (p.beta.element == Element::F32) return static_cast<const float *>(p.beta.data)[i];
        return __bfloat162float(static_cast<const __nv_bfloat16 *>(p.beta.data)[i]);
    }
    // b = m sigmoid(beta), or m beta; rows past the sequence have 0.
    __device__ __forceinline__ float step_size(int chunk, float beta) const {
        const float b = p.beta.is_activated ? beta : sigmoid(beta);
        return lane < work.rows(chunk) ? p.beta.multiplier * b : 0.f;
    }

    // Where all b are so small that fp16 would lose bits of T, it lacks a power of two: T of b 2^-n and A 2^n is T 2^-n.
    __device__ __forceinline__ void solve(int chunk, float beta) const {
        float b = step_size(chunk, beta);
        const uint32_t largest = warp_max(__float_as_uint(b));
        float lack = 1.f;
        if (largest - 1 < __float_as_uint(0x1p-10f) - 1) {
            const int n = clamped_exponent(exponent_of(__uint_as_float(largest)));
            lack = power_of_two(n), b *= power_of_two(-n);
#pragma unroll 1
            for (int i = lane; i < 16 * kAkkPitch; i += 32) s->akk[i / kAkkPitch][i % kAkkPitch] *= lack;
        }
        s->beta[lane] = b;
        Stage &to = s->stages[chunk & 1];
        if (lane == 0) to.lack = lack;
        __syncwarp();
        TrilSolve<kAkkPitch>{s->akk, to.solve.bytes, s->beta, lane}.run();
    }

    // ---------------------------------------------------------------- all

    __device__ __forceinline__ void run() const {
        Gates gates;
        gates.bounded.load(p, work.head, static_cast<int64_t>(work.head) * p.K + channel(), lane);
        copy_raw(0);
        const bool solves = warp == 0;
        float beta = solves ? load_beta(0) : 0.f;
#pragma unroll 1
        for (int chunk = 0; chunk < work.chunks; chunk++) {
            const uint32_t stage = s.stage(chunk);
            const int rows = work.rows(chunk), place = chunk & 1;
            Lane x;
            await_copies<0>();
            meet();
            read(gates, rows, x);
            meet();
            copy_raw(chunk + 1);
            make_norms(rows);
            s.barrier(s->chunk_done[place]).wait(((chunk >> 1) & 1) ^ 1);
            const Anchor anchor = load_anchor(stage);
            decay(stage, anchor, rows, x);
            meet();
            scores(stage);
            meet();
            leave_anchor(stage, anchor, x);
            s.barrier(s->operands_ready[place]).arrive(lane);
            if (solves) {
                const float next = load_beta(chunk + 1);
                solve(chunk, beta);
                s.barrier(s->solve_ready[place]).arrive(lane);
                beta = next;
            }
        }
    }
};

}  // namespace fkdai::portable

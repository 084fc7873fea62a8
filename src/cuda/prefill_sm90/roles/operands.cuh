// The operands of a chunk, from its raw tiles: what a warpgroup makes of q, k, g, whatever the state is.
//
// gamma: the sum of log2 alpha from the chunk's first token to this one; m: gamma after token 15, rounded to an integer, the anchor of the scores.
//
//     1. row_norms, sum_gates     1/|k|, scale/|q|, the diagonal of M; gamma inside its block of 16 tokens, in place of g
//     2. decay_tiles              -K 2^-m, Q 2^-m in place of k, q; KI = k^ 2^(m-gamma) beside the stage; Kr = k^ 2^(gamma_C-gamma) in place of gamma
//     3. begin/finish_scores      [-A/beta ; M] = [-K ; Q] KI^T
//     4. leave_anchor             -K = -k^ 2^gamma, Q = scale q^ 2^gamma: powers of two, exact
//
// A warpgroup barrier stands behind 1 and 2, and before 4.
#pragma once

#include "device/row_squares.cuh"
#include "device/sm90/store_matrices.cuh"
#include "device/sm90/warpgroup_mma.cuh"
#include "prefill_sm90/problem/chunks.cuh"
#include "prefill_sm90/roles/gates.cuh"

namespace fkdai::prefill {

// Warp = 64 channels x 16 tokens, lane = channels 2 lane, 2 lane + 1 of the half.
// `stage` counts the stages of shared memory, `place` those of akk.
template <class Smem, GateKind kind>
struct Operands {
    const Params &p;
    SharedView<Smem> s;
    int group, warp, lane;  // warp of the warpgroup `group`

    using Scores = float[16];

    __device__ __forceinline__ int half() const { return warp >> 1; }
    __device__ __forceinline__ int block() const { return warp & 1; }
    __device__ __forceinline__ int channel() const { return half() * kHalf + 2 * lane; }

    __device__ __forceinline__ Gate<kind> load_gate(int head) const {
        Gate<kind> gate;
        gate.load(p, head, static_cast<int64_t>(head) * kWidth + channel(), lane);
        return gate;
    }

    // ---------------------------------------------------------------- 1

    // Of 8 tokens: 1/|k|, scale/|q| and scale q^ k^. Rows past the sequence get 0.
    __device__ __forceinline__ void row_norms(uint32_t stage, int rows) const {
        const uint32_t row = s.at(s->stages[stage].kq[0]) + 8 * warp * 128;
        const uint32_t at = row + (lane & 7) * 128 + (lane & 8) * (kQueryRows / 8) + (((lane >> 4) ^ (lane & 7)) * 16);
        RowSquares squares;
        uint32_t x[8][4];
#pragma unroll
        for (int k = 0; k < 8; k++) load_matrices(x[k], (at ^ (k & 3) * 32) + (k >> 2) * uint32_t{sizeof(Stage::kq[0])});
#pragma unroll
        for (int k = 0; k < 8; k++) squares.add(x[k]);
        const float keys = squares.first(lane), queries = squares.second(lane);
        float product = squares.product(lane), k_norm = inverse_norm(keys), q_norm = inverse_norm(queries);
        const bool overflows = RowSquares::knows(lane) && !(fabsf(product) <= 3e38f && keys <= 3e38f && queries <= 3e38f);
        if (__any_sync(~0u, overflows)) {
            if (keys > 3e38f) k_norm = scaled_norm(row + (lane >> 2) * 128, lane >> 2);
            if (queries > 3e38f) q_norm = scaled_norm(row + kQueryRows + (lane >> 2) * 128, lane >> 2);
            if (overflows) product = scaled_product(row + (lane >> 2) * 128, lane >> 2, k_norm, q_norm), product /= k_norm * q_norm;
        }
        if (!RowSquares::knows(lane)) return;
        const int token = 8 * warp + (lane >> 2);
        const bool is_valid = token < rows;
        Norms &norms = s->stages[stage].before_scores.norms;
        q_norm *= p.scale;
        norms.k[token] = is_valid ? k_norm : 0.f, norms.q[token] = is_valid ? q_norm : 0.f;
        norms.product[token] = is_valid ? product * k_norm * q_norm : 0.f;
    }

    __device__ __forceinline__ static float inverse_norm(float squares) { return inverse_sqrt(squares + 1e-6f); }

    // 1/|x| of a row whose squares overflow, from x 2^-70.
    __device__ __forceinline__ static float scaled_norm(uint32_t row, int swizzle) {
        return inverse_sqrt(scaled_product_of<0>(row, swizzle, 0x1p-70f, 0x1p-70f)) * 0x1p-70f;
    }
    // The product of a row of k and one of q, each times its factor.
    __device__ __forceinline__ static float scaled_product(uint32_t row, int swizzle, float k_factor, float q_factor) {
        return scaled_product_of<kQueryRows>(row, swizzle, k_factor, q_factor);
    }
    template <uint32_t distance>
    __device__ __forceinline__ static float scaled_product_of(uint32_t row, int swizzle, float first, float second) {
        float sum = 0.f;
#pragma unroll 1
        for (int unit = 0; unit < 16; unit++) {
            const uint32_t at = row + (unit >> 3) * uint32_t{sizeof(Stage::kq[0])} + (((unit & 7) ^ swizzle) * 16);
            const uint4 x = load_uint4(at), y = load_uint4(at + distance);
            const uint32_t pair[4] = {x.x, x.y, x.z, x.w}, other[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
            for (int j = 0; j < 4; j++)
                sum = fmaf(low_bf16(pair[j]) * first, low_bf16(other[j]) * second, fmaf(high_bf16(pair[j]) * first, high_bf16(other[j]) * second, sum));
        }
        return sum;
    }

    // This lane's place in a tile of 32 rows of 64 channels, for four tokens at a time: the first four of its block.
    __device__ __forceinline__ uint32_t first_row() const {
        const int row = 16 * block() + (lane >> 3);
        return row * 128 + ((lane & 7) ^ (row & 7)) * 16;
    }
    __device__ __forceinline__ static uint32_t four_rows_on(uint32_t at) { return (at ^ 64) + 512; }

    // gamma of each token from the start of its block, in fp32: of the even channels in place of g, of the odd ones where KI will stand. What
    // the whole block decays by goes to `decays`.
    __device__ __forceinline__ void sum_gates(uint32_t stage, int rows, const Gate<kind> &gate) const {
        uint32_t even = s.at(s->stages[stage].ki[half()]) + first_row(), odd = s.at(s->score_keys[group][half()]) + first_row();
        int row = 16 * block();
        float sum[2] = {0.f, 0.f};
        uint32_t g[4];
        load_matrices(g, even);
#pragma unroll 1
        for (int t4 = 0; t4 < 4; t4++) {
            float a[2][4];
#pragma unroll
            for (int t = 0; t < 4; t++) a[0][t] = gate.log2_alpha(low_bf16(g[t]), 0), a[1][t] = gate.log2_alpha(high_bf16(g[t]), 1);
            if (t4 < 3) load_matrices(g, four_rows_on(even));
            if (rows < kChunk) {  // rows past the sequence: no decay, whatever lies there
#pragma unroll
                for (int t = 0; t < 4; t++)
                    if (row + t >= rows) a[0][t] = a[1][t] = 0.f;
            }
            uint32_t gamma[2][4];
#pragma unroll
            for (int t = 0; t < 4; t++)
#pragma unroll
                for (int i = 0; i < 2; i++) sum[i] += a[i][t], gamma[i][t] = __float_as_uint(sum[i]);
            store_matrices(even, gamma[0]), store_matrices(odd, gamma[1]);
            even = four_rows_on(even), odd = four_rows_on(odd), row += 4;
        }
        store_float2(s.at(s->stages[stage].decays[block()][channel()]), sum[0], sum[1]);
    }

    // ---------------------------------------------------------------- 2

    // Of two channels: what their exponents begin with.
    struct Anchor {
        float to_scores[2];                  // from gamma inside the block to gamma - m
        float to_end[2];                     // 2^(gamma_C - m)
        float leave[2];                      // 2^m
    };
    __device__ __forceinline__ Anchor load_anchor(uint32_t stage) const {
        const float2 first = load_float2(s.at(s->stages[stage].decays[0][channel()])), second = load_float2(s.at(s->stages[stage].decays[1][channel()]));
        const float before[2] = {first.x, first.y}, last[2] = {second.x, second.y};
        Anchor anchor;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float m = round_to_integer(before[i]), rest = before[i] - m;
            anchor.to_scores[i] = block() == 0 ? -m : rest;
            anchor.to_end[i] = exp2_fast(rest + last[i]), anchor.leave[i] = exp2_fast(m);
        }
        return anchor;
    }

    // [32,128] each, rounded once.
    __device__ __forceinline__ void decay_tiles(uint32_t stage, int rows, const Anchor &anchor) const {
        uint32_t kq = s.at(s->stages[stage].kq[half()]) + first_row(), even = s.at(s->stages[stage].ki[half()]) + first_row(),
                 odd = s.at(s->score_keys[group][half()]) + first_row(), norm = s.at(s->stages[stage].before_scores.norms) + 64 * block();
        int row = 16 * block();
#pragma unroll 1
        for (int t4 = 0; t4 < 4; t4++) {
            uint32_t k[4], q[4], gamma[2][4], kd[4], qd[4], score[4], recent[4];
            load_matrices(gamma[0], even), load_matrices(gamma[1], odd), load_matrices(k, kq), load_matrices(q, kq + kQueryRows);
            const float4 nk = load_float4(norm), nq = load_float4(norm + sizeof(Norms::k));
            const float k_norm[4] = {nk.x, nk.y, nk.z, nk.w}, q_norm[4] = {nq.x, nq.y, nq.z, nq.w};
            if (rows < kChunk) {  // rows past the sequence: zeros, whatever lies there
#pragma unroll
                for (int t = 0; t < 4; t++)
                    if (row + t >= rows) k[t] = q[t] = 0;
            }
#pragma unroll
            for (int t = 0; t < 4; t++) {
                const float g0 = __uint_as_float(gamma[0][t]), g1 = __uint_as_float(gamma[1][t]);
                const float e0 = g0 + anchor.to_scores[0], e1 = g1 + anchor.to_scores[1], f0 = exp2_fast(e0), f1 = exp2_fast(e1);
                const float k0 = low_bf16(k[t]) * k_norm[t], k1 = high_bf16(k[t]) * k_norm[t];
                kd[t] = pack_bf16(k0 * -f0, k1 * -f1);
                qd[t] = pack_bf16(low_bf16(q[t]) * (q_norm[t] * f0), high_bf16(q[t]) * (q_norm[t] * f1));
                const float i0 = k0 * exp2_fast(-e0), i1 = k1 * exp2_fast(-e1);
                score[t] = pack_bf16(i0, i1);
                recent[t] = pack_f16(i0 * anchor.to_end[0], i1 * anchor.to_end[1]);
            }
            store_matrices(kq, kd), store_matrices(kq + kQueryRows, qd), store_matrices(odd, score), store_matrices(even, recent);
            kq = four_rows_on(kq), even = four_rows_on(even), odd = four_rows_on(odd), norm += 16, row += 4;
        }
    }

    // ---------------------------------------------------------------- 3

    // [-akk/beta ; M] = [-K ; Q] KI^T   [64,32] = [64,128] [128,32]
    __device__ __forceinline__ void begin_scores(uint32_t stage, Scores &c) const {
        const Operand<0, 1024, Swizzle::B128> a(s.at(s->stages[stage].kq[0])), b(s.at(s->score_keys[group][0]));
        pin(c);
        mma_begin();
#pragma unroll
        for (int k = 0; k < 8; k++)
            mma<MmaSharedN32>(a.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::kq[0])}),
                              b.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::ki[0])}), c,
                              k == 0 ? ScaleOut::Zero : ScaleOut::One);
        mma_commit();
    }
    // Of M's rows of this lane, the diagonal; read before the scores overwrite it.
    __device__ __forceinline__ float2 diagonal(uint32_t stage) const {
        const uint32_t at = s.at(s->stages[stage].before_scores.norms.product) + (16 * (warp & 1) + (lane >> 2)) * 4;
        return make_float2(load_float(at), load_float(at + 32));
    }
    __device__ __forceinline__ bool stores_akk() const { return warp < 2; }

    // akk/beta, fp32: the lower blocks, in the order that TrilSolve reads.
    __device__ __forceinline__ void store_akk(const Scores &c, uint32_t place) const {
        const uint32_t to = s.at(s->akk[place][lane >> 2][2 * (lane & 3) + (warp == 0 ? 32 : 0)]);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            if (b >= 2 && warp == 0) continue;
            store_float2(to + b * 32, -c[4 * b], -c[4 * b + 1]);
            store_float2(to + b * 32 + 8 * kAkkPitch * 4, -c[4 * b + 2], -c[4 * b + 3]);
        }
    }

    // M (fp16), j <= i by select: the other half may hold inf. Its upper block stays zero from the start.
    __device__ __forceinline__ void store_mqk(const Scores &c, const float2 &diagonal, uint32_t stage) const {
        const int i = 16 * (warp - 2) + (lane >> 2);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            if (b >= 2 && warp == 2) continue;
            const int j = 8 * b + 2 * (lane & 3);
            const uint32_t to = s.at(s->stages[stage].mqk) + i * 64 + ((b ^ ((i >> 1) & 3)) * 16) + (lane & 3) * 4;
            store_word(to, pack_f16(score(c[4 * b], j, i, diagonal.x), score(c[4 * b + 1], j + 1, i, diagonal.x)));
            store_word(to + 8 * 64, pack_f16(score(c[4 * b + 2], j, i + 8, diagonal.y), score(c[4 * b + 3], j + 1, i + 8, diagonal.y)));
        }
    }
    __device__ __forceinline__ static float score(float x, int j, int i, float diagonal) { return j < i ? x : j == i ? diagonal : 0.f; }

    // ---------------------------------------------------------------- 4

    __device__ __forceinline__ void leave_anchor(uint32_t stage, const Anchor &anchor) const {
        const uint32_t power = pack_bf16(anchor.leave[0], anchor.leave[1]);
        uint32_t kq = s.at(s->stages[stage].kq[half()]) + first_row();
#pragma unroll
        for (int t4 = 0; t4 < 4; t4++) {
            uint32_t k[4], q[4];
            load_matrices(k, kq), load_matrices(q, kq + kQueryRows);
#pragma unroll
            for (int t = 0; t < 4; t++) k[t] = multiply_pairs_bf16(k[t], power), q[t] = multiply_pairs_bf16(q[t], power);
            store_matrices(kq, k), store_matrices(kq + kQueryRows, q);
            kq = four_rows_on(kq);
        }
        if (block() == 1) {
            const uint32_t decay = s.at(s->stages[stage].gate) + decay_slot(channel()) * 4;
            store_float2(decay, anchor.to_end[0] * anchor.leave[0], anchor.to_end[1] * anchor.leave[1]);
        }
    }

    // All of it, for a chunk whose raw tiles are there. sync: the warpgroup's barrier; has_place: until akk's place is free.
    template <class Sync, class HasPlace>
    __device__ __forceinline__ void make(uint32_t stage, uint32_t place, int rows, const Gate<kind> &gate, const Sync &sync, const HasPlace &has_place) const {
        row_norms(stage, rows);
        sum_gates(stage, rows, gate);
        sync();
        const Anchor anchor = load_anchor(stage);
        decay_tiles(stage, rows, anchor);
        const float2 on_diagonal = diagonal(stage);
        fence_async_proxy();
        sync();
        Scores scores;
        begin_scores(stage, scores);
        has_place();
        mma_wait<0>();
        pin(scores);
        sync();
        if (stores_akk()) store_akk(scores, place);
        else store_mqk(scores, on_diagonal, stage);
        leave_anchor(stage, anchor);
        fence_async_proxy();
    }
};

}  // namespace fkdai::prefill

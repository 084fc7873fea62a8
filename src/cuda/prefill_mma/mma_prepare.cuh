// The preparation: eight warps make what the chain needs of a chunk, one chunk after the other, ahead of it.
//
// A warp has eight tokens and half of the channels; a lane two channels of them, in registers from the raw tiles to the operands. gamma: the sum of
// log2 alpha from the chunk's first token; m: gamma after token 15, rounded to an integer, the anchor of the scores.
//
//     1. read              q, k, g of this lane; squares of half a row each; gamma inside the eight tokens     | meet
//     2. decay             -K 2^-m, Q 2^-m; KI = k^ 2^(m-gamma); Kr = k^ 2^(gamma_C-gamma)                     | meet
//     3. scores            [-A/b ; M] = [-K ; Q] 2^-m KI^T, 16 x 16 a warp                                     | meet
//     4. leave_anchor      -K, Q: times 2^m, exact; meanwhile another warp solves for T (mma_solve.cuh)
#pragma once

#include "device/async_copy.cuh"
#include "prefill_mma/mma_norms.cuh"
#include "prefill_mma/mma_steep.cuh"

namespace fkdai::portable {

inline constexpr int kMiddle = kGroups / 2;    // eights of tokens up to the anchor

// is_bounded: the gate is the bounded one, whose channels are never steep.
template <bool is_bounded>
struct PrepareRole : PrepareWarp {
    // ---------------------------------------------------------------- raw tiles

    // Into one tile, rows of the sequence only. All threads of the preparation.
    __device__ __forceinline__ void copy_tile(Tile &to, const Tensor &from, int head, const Step &at_step) const {
        const int thread = 32 * warp + lane, unit = thread & 15;
        const auto *const base = static_cast<const __nv_bfloat16 *>(from.data);
        if (8 * unit >= p.K) return;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int token = (thread >> 4) + 16 * i;
            if (token >= at_step.rows()) continue;
            const int64_t at = from.strides.offset(work.span.batch, work.token(at_step.chunk()) + token, head) + 8 * unit;
            copy_async(reinterpret_cast<uint4 *>(to.bytes + tile_offset(token, unit)), reinterpret_cast<const uint4 *>(base + at));
        }
    }
    __device__ __forceinline__ void copy_raw(const Step &at_step) const {
        if (!at_step.is_none(work)) {
            const int key = key_head(p, work.head);
            copy_tile(s->raw[0], p.k, key, at_step);
            copy_tile(s->raw[1], p.q, key, at_step);
            if (p.gate != GateKind::PrecomputedF32) copy_tile(s->raw[2], p.g, work.head, at_step);
        }
        close_copies();
    }

    // ---------------------------------------------------------------- 1

    template <GateKind kind>
    __device__ __forceinline__ void sum_gates(uint32_t stage, const Gate<kind> &gate, const float2 (&g)[8], int rows, Lane &x) const {
        float sum[2] = {0.f, 0.f};
#pragma unroll
        for (int t = 0; t < 8; t++) {
            const bool is_valid = 8 * group() + t < rows;  // rows past the sequence: no decay, whatever lies there
            sum[0] += is_valid ? gate.log2_alpha(g[t].x, 0) : 0.f, sum[1] += is_valid ? gate.log2_alpha(g[t].y, 1) : 0.f;
            x.gamma[0][t] = sum[0], x.gamma[1][t] = sum[1];
        }
        store_float2(sums(stage, group()), sum[0], sum[1]);
    }
    // What the gates of this lane's channels read beside g.
    using Gates = Gate<is_bounded ? GateKind::Bounded : GateKind::Softplus>;
    __device__ __forceinline__ Gates load_gates() const {
        Gates gates;
        const int64_t first = static_cast<int64_t>(work.head) * p.K + (channel() < p.K ? channel() : 0);    // of channels beyond K: any
        gates.load(p, work.head, first, lane);
        return gates;
    }
    // g in fp32 does not pass through shared memory.
    __device__ __forceinline__ void load_wide_gates(const Step &now, float2 (&g)[8]) const {
        const auto *const base = static_cast<const float *>(p.g.data);
#pragma unroll
        for (int t = 0; t < 8; t++) {
            g[t] = make_float2(0.f, 0.f);
            const int token = 8 * group() + t;
            if (token >= now.rows() || channel() >= p.K) continue;
            const int64_t at = p.g.strides.offset(work.span.batch, work.token(now.chunk()) + token, work.head) + channel();
            g[t] = *reinterpret_cast<const float2 *>(base + at);
        }
    }

    __device__ __forceinline__ void read(uint32_t stage, const Gates &gates, const Step &now, Lane &x) const {
        float2 g[8];
        const bool is_wide = !is_bounded && p.gate == GateKind::PrecomputedF32;
        if (is_wide) load_wide_gates(now, g);
#pragma unroll
        for (int t = 0; t < 8; t++) {
            x.k[t] = __float_as_uint(load_float(s.at(s->raw[0]) + pair(t))), x.q[t] = __float_as_uint(load_float(s.at(s->raw[1]) + pair(t)));
            if (is_wide) continue;
            const uint32_t both = __float_as_uint(load_float(s.at(s->raw[2]) + pair(t)));
            g[t] = make_float2(low_bf16(both), high_bf16(both));
        }
        RowNorms{*this}.sum_squares();
        if (is_bounded || p.gate == GateKind::Softplus) sum_gates(stage, gates, g, now.rows(), x);
        else sum_gates(stage, Gate<GateKind::Precomputed>{}, g, now.rows(), x);
    }

    // ---------------------------------------------------------------- 2

    // Of two channels: what their exponents begin with. A steep one has no anchor: it is left out of the products of the scores, by zeros in KI.
    struct Anchor {
        float to_scores[2];    // from gamma inside the eight tokens to the exponent of K and Q: gamma - m; steep: gamma
        float from_scores[2];  // to that of KI and Kr: m - gamma; steep: gamma_C - gamma
        float to_end[2];       // 2^(gamma_C - m), from KI to Kr; steep: 1
        uint32_t leave;        // 2^m; steep: 1; a pair of bf16
        uint32_t in_scores;    // all ones in the halves of a pair that take part
    };
    __device__ __forceinline__ Anchor load_anchor(uint32_t stage) const {
        float before[2] = {0.f, 0.f}, middle[2] = {0.f, 0.f}, all[2] = {0.f, 0.f};
#pragma unroll
        for (int i = 0; i < kGroups; i++) {
            const float2 sum = load_float2(sums(stage, i));
            if (i == group()) before[0] = all[0], before[1] = all[1];
            all[0] += sum.x, all[1] += sum.y;
            if (i == kMiddle - 1) middle[0] = all[0], middle[1] = all[1];
        }
        Anchor anchor;
        float end[2], leave[2];
        anchor.in_scores = ~0u;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float m = round_to_integer(middle[i]);
            anchor.to_scores[i] = before[i] - m, anchor.from_scores[i] = m - before[i];
            anchor.to_end[i] = exp2_fast(all[i] - m), leave[i] = exp2_fast(m), end[i] = anchor.to_end[i] * leave[i];
            if (is_bounded || !is_steep(middle[i], all[i] - middle[i])) continue;
            anchor.to_scores[i] = before[i], anchor.from_scores[i] = all[i] - before[i];
            anchor.to_end[i] = leave[i] = 1.f, end[i] = exp2_fast(all[i]);
            anchor.in_scores &= i == 0 ? 0xffff0000u : 0xffffu;
        }
        anchor.leave = pack_bf16(leave[0], leave[1]);
        if (group() == 0) store_float2(stage + uint32_t{offsetof(Stage, decay)} + decay_slot(channel()) * 4, end[0], end[1]);
        return anchor;
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
            const float f0 = exp2_fast(x.gamma[0][t] + anchor.to_scores[0]), f1 = exp2_fast(x.gamma[1][t] + anchor.to_scores[1]);
            const float k0 = low_bf16(x.k[t]) * k_norm[t], k1 = high_bf16(x.k[t]) * k_norm[t];
            const float i0 = k0 * exp2_fast(anchor.from_scores[0] - x.gamma[0][t]), i1 = k1 * exp2_fast(anchor.from_scores[1] - x.gamma[1][t]);
            x.k[t] = pack_bf16(k0 * -f0, k1 * -f1);
            x.q[t] = pack_bf16(low_bf16(x.q[t]) * q_norm[t] * f0, high_bf16(x.q[t]) * q_norm[t] * f1);
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), x.k[t]);
            store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), x.q[t]);
            store_word(s.at(s->keys) + pair(t), pack_bf16(i0, i1) & anchor.in_scores);
            store_word(stage + uint32_t{offsetof(Stage, recent)} + pair(t), pack_f16(i0 * anchor.to_end[0], i1 * anchor.to_end[1]));
        }
    }

    // ---------------------------------------------------------------- 3

    // Rows 16 i .. of keys or queries, by tokens 16 j ..: a warp has one such block of [-A/b ; M]. Those above the diagonal are not made.
    __device__ __forceinline__ void scores(int number, uint32_t stage, const SteepScores &steep) const {
        const int i = score_row(), j = score_column();
        const bool is_query = scores_queries();
        if (j > i) return;
        float c[2][4] = {}, other[2][4] = {};    // two sums of each: half as long a chain of products
        if (!is_bounded)
#pragma unroll
            for (int n = 0; n < 4; n++) c[n >> 1][2 * (n & 1)] = low_f16(steep[n]), c[n >> 1][2 * (n & 1) + 1] = high_f16(steep[n]);
        const uint32_t a_tile = stage + (is_query ? uint32_t{offsetof(Stage, q)} : uint32_t{offsetof(Stage, k)}), b_tile = s.at(s->keys);
        const int a_row = 16 * i + (lane & 15), b_row = 16 * j + (lane & 7) + (lane >> 4) * 8;
#pragma unroll
        for (int k = 0; k < 8; k++) {
            uint32_t a[4], b[4];
            load_matrices(a, a_tile + tile_offset(a_row, 2 * k + (lane >> 4)));
            load_matrices(b, b_tile + tile_offset(b_row, 2 * k + (lane >> 3 & 1)));
            float(&to)[2][4] = k & 1 ? other : c;
            multiply_16_bf16(to[0], a, b[0], b[1]), multiply_16_bf16(to[1], a, b[2], b[3]);
        }
#pragma unroll
        for (int n = 0; n < 8; n++) c[n >> 2][n & 3] += other[n >> 2][n & 3];
        if (is_query) store_mqk(stage, i, j, c);
        else store_akk(number, i, j, c);
    }
    // In the order that TrilSolve reads: rows [A21 | A22 | A11].
    __device__ __forceinline__ void store_akk(int number, int i, int j, const float (&c)[2][4]) const {
        const uint32_t to = s.at(s->akk[number & 1][lane >> 2][(i == 0 ? 32 : 16 * j) + 2 * (lane & 3)]);
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

    __device__ __forceinline__ void leave_anchor(int number, uint32_t stage, const Anchor &anchor, const Lane &x) const {
#pragma unroll
        for (int t = 0; t < 8; t++) {
            uint32_t key = multiply_pairs_bf16(x.k[t], anchor.leave);
            if (p.is_raw) {  // K S is what the state holds for a key as it came
                const float size = power_of_two(s->key_exponents[number & 1][8 * group() + t]);
                key = multiply_pairs_bf16(key, pack_bf16(size, size));
            }
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), key);
            store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), multiply_pairs_bf16(x.q[t], anchor.leave));
        }
    }

    // ---------------------------------------------------------------- all

    __device__ __forceinline__ void run() const {
        const Steps steps{p, work, lane};
        const Gates gates = load_gates();
        Step now = steps.first();
        copy_raw(now);
#pragma unroll 1
        for (int number = 0; !now.is_none(work); number++) {
            const Step next = steps.behind(now);
            const uint32_t stage = s.stage(number);
            Lane x;
            mark(mark_prepare_begins, number, warp == 0);
            await_copies<0>();
            meet();
            chunk_done(stage).wait(((number >> 1) & 1) ^ 1);
            mark(mark_prepare_has_stage, number, warp == 0);
            read(stage, gates, now, x);
            mark(mark_prepare_has_read, number, warp == 0);
            meet();
            mark(mark_prepare_has_sums, number, warp == 0);
            copy_raw(next);
            mark(mark_prepare_has_asked, number, warp == 0);
            RowNorms{*this}.make_norms(number, now.rows(), x);
            const Anchor anchor = load_anchor(stage);
            SteepScores steep = {};
            if constexpr (!is_bounded) SteepChannels{*this}.sum(number, stage, now.rows(), x, steep);
            mark(mark_prepare_has_anchor, number, warp == 0);
            decay(stage, anchor, now.rows(), x);
            mark(mark_prepare_has_tiles, number, warp == 0);
            meet();
            mark(mark_prepare_may_score, number, warp == 0);
            scores(number, stage, steep);
            mark(mark_prepare_has_scores, number, warp == 0);
            meet();
            mark(mark_prepare_may_leave, number, warp == 0);
            if (warp == 0) scores_ready(stage).arrive(lane);
            leave_anchor(number, stage, anchor, x);
            operands_ready(stage).arrive(lane);
            mark(mark_prepare_has_operands, number, warp == 0);
            now = next;
        }
    }
};

}  // namespace fkdai::portable

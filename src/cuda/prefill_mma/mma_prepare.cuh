// The preparation: eight warps make what the chain needs of a chunk, one chunk after the other, ahead of it.
//
// A warp has eight tokens and half of the channels; a lane two channels of them, in registers from the raw tiles to the operands. gamma: the sum of
// log2 alpha from the chunk's first token; m: gamma after token 15, rounded to an integer, the anchor of the scores.
//
//     1. read              q, k, g of this lane; squares of half a row each; gamma inside the eight tokens
//     2. make_tiles        -K 2^-m, Q 2^-m; KI = k^ 2^(m-gamma); Kr = k^ 2^(gamma_C-gamma)
//     3. scores            [-A/b ; M] = [-K ; Q] 2^-m KI^T, 16 x 16 a warp; then another warp solves for T (mma_solve.cuh)
//     4. leave_anchor      -K, Q: times 2^m, exact
//
// Between any two of these the warps must have met. So that they meet twice a step and not four times, 3 is done beside 1 of the next step, and 4
// beside 2.
#pragma once

#include "device/async_copy.cuh"
#include "device/requests.cuh"
#include "prefill_mma/mma_norms.cuh"
#include "prefill_mma/mma_steep.cuh"

namespace fkdai::portable {

inline constexpr int kMiddle = kGroups / 2;    // eights of tokens up to the anchor
inline constexpr int kLookAheadWarp = 1;       // its scores would be above the diagonal
using RawGates = uint32_t[8];                  // g of a lane as it came: pairs of bf16

// is_bounded: the gate is the bounded one, whose channels are never steep.
template <bool is_bounded, bool with_checkpoints>
struct PrepareRole : PrepareWarp {
    // ---------------------------------------------------------------- raw tiles

    // Into one tile, rows of the sequence only. All threads of the preparation: 16 bytes of two tokens each.
    __device__ __forceinline__ void copy_tile(Tile &to, const Tensor &of, int64_t first, const Step &at_step) const {
        const int token = 2 * warp + (lane >> 4), unit = lane & 15, rows = 8 * unit < p.K ? at_step.rows() - token : 0;
        const int64_t stride = of.strides.token, at = first + rows_on(stride, at_step.chunk() * kChunk + token) + 8 * unit;
        const auto *const from = static_cast<const __nv_bfloat16 *>(of.data) + at;
        uint8_t *const here = to.bytes + tile_offset(token, unit);
        if (rows > 0) copy_async(reinterpret_cast<uint4 *>(here), reinterpret_cast<const uint4 *>(from));
        if (rows > 16) copy_async(reinterpret_cast<uint4 *>(here + 16 * kWidth * 2), reinterpret_cast<const uint4 *>(from + 16 * stride));
    }
    // The chain reads V itself, but has no registers to do it early.
    __device__ __forceinline__ void prefetch_values(const Step &at_step) const {
        const int token = 4 * warp + (lane >> 3), column = 16 * (lane & 7);
        const int64_t at = work.v + rows_on(p.v.strides.token, at_step.chunk() * kChunk + token) + column;
        if (token < at_step.rows() && column < p.V && work.has_values) prefetch_line(static_cast<const __nv_bfloat16 *>(p.v.data) + at);
    }
    // k and q of a step to shared memory, g as bf16 to the registers of the lane that wants it.
    __device__ __forceinline__ void ask_for(const Step &at_step, RawGates &g) const {
        if (!at_step.is_none()) {
#pragma unroll 1    // less code: what does not fit its cache is fetched anew every step
            for (int i = 0; i < 2; i++) copy_tile(s->raw[i], p.keys_queries[i], work.keys_queries[i], at_step);
            prefetch_values(at_step);
            if (is_bounded || p.gate != GateKind::PrecomputedF32) load_gates<__nv_bfloat16>(at_step, g);
        }
        close_copies();
    }
    // Two channels of eight tokens; 0 where the sequence or the channels end.
    template <class T, class Pair>
    __device__ __forceinline__ void load_gates(const Step &at_step, Pair (&g)[8]) const {
        const int rows = 64 * half() < p.K ? at_step.rows() - 8 * group() : 0;
        const int64_t stride = p.g.strides.token, at = work.g + rows_on(stride, at_step.chunk() * kChunk + 8 * group()) + channel_here();
        const T *from = static_cast<const T *>(p.g.data) + at;
        if (rows >= 8) [[likely]] {
#pragma unroll
            for (int t = 0; t < 8; t++, from += stride) g[t] = *reinterpret_cast<const Pair *>(from);
        } else {
#pragma unroll
            for (int t = 0; t < 8; t++, from += stride) g[t] = t < rows ? *reinterpret_cast<const Pair *>(from) : Pair{};
        }
    }

    // ---------------------------------------------------------------- 1

    template <GateKind kind>
    __device__ __forceinline__ void sum_gates(const Gate<kind> &gate, const float2 (&g)[8], int rows, Lane &x) const {
#pragma unroll
        for (int t = 0; t < 8; t++) x.gamma[0][t] = gate.log2_alpha(g[t].x, 0), x.gamma[1][t] = gate.log2_alpha(g[t].y, 1);
        if (rows < kChunk) [[unlikely]]
#pragma unroll
            for (int t = 0; t < 8; t++)
                if (8 * group() + t >= rows) x.gamma[0][t] = x.gamma[1][t] = 0.f;
#pragma unroll
        for (int t = 1; t < 8; t++) x.gamma[0][t] += x.gamma[0][t - 1], x.gamma[1][t] += x.gamma[1][t - 1];
        store_float2(s.at(s->sums) + (group() * kWidth + channel_here()) * 4, x.gamma[0][7], x.gamma[1][7]);
    }
    // What the gates of this lane's channels read beside g.
    using Gates = Gate<is_bounded ? GateKind::Bounded : GateKind::Softplus>;
    __device__ __forceinline__ Gates gates_here() const {
        Gates gates;
        const int64_t first = static_cast<int64_t>(work.head) * p.K + (channel() < p.K ? channel() : 0);    // of channels beyond K: any
        gates.load(p, work.head, first, lane);
        return gates;
    }

    __device__ __forceinline__ void read(const Gates &gates, const RawGates &raw_gates, const Step &now, Lane &x) const {
        float2 g[8];
#pragma unroll
        for (int t = 0; t < 8; t++) g[t] = make_float2(low_bf16(raw_gates[t]), high_bf16(raw_gates[t]));
        if (!is_bounded && p.gate == GateKind::PrecomputedF32) load_gates<float>(now, g);
#pragma unroll
        for (int t = 0; t < 8; t++)
            x.k[t] = __float_as_uint(load_float(s.at(s->raw[0]) + pair(t))), x.q[t] = __float_as_uint(load_float(s.at(s->raw[1]) + pair(t)));
        RowNorms{{p, s, work, warp, lane_here()}}.sum_squares();
        if (is_bounded || p.gate == GateKind::Softplus) sum_gates(gates, g, now.rows(), x);
        else sum_gates(Gate<GateKind::Precomputed>{}, g, now.rows(), x);
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
        const int first = channel_here();
        const uint32_t sums = s.at(s->sums) + first * 4;
        float before[2] = {0.f, 0.f}, middle[2] = {0.f, 0.f}, all[2] = {0.f, 0.f};
#pragma unroll
        for (int i = 0; i < kGroups; i++) {
            const float2 sum = load_float2(sums + i * (kWidth * 4));
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
        if (group() == 0) store_float2(stage + uint32_t{offsetof(Stage, decay)} + decay_slot(first) * 4, end[0], end[1]);
        return anchor;
    }

    // x: q and k as they came.
    __device__ __forceinline__ void decay(uint32_t stage, const Anchor &anchor, int rows, Lane &x, LaneOperands &to) const {
        if (rows < kChunk) [[unlikely]]
#pragma unroll
            for (int t = 0; t < 8; t++)
                if (8 * group() + t >= rows) x.k[t] = x.q[t] = 0;  // rows past the sequence: zeros, whatever lies there
        float k_norm[8], q_norm[8];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const float4 k = load_float4(s.at(s->norms[warp][4 * i])), q = load_float4(s.at(s->norms[warp][8 + 4 * i]));
            k_norm[4 * i] = k.x, k_norm[4 * i + 1] = k.y, k_norm[4 * i + 2] = k.z, k_norm[4 * i + 3] = k.w;
            q_norm[4 * i] = q.x, q_norm[4 * i + 1] = q.y, q_norm[4 * i + 2] = q.z, q_norm[4 * i + 3] = q.w;
        }
#pragma unroll
        for (int t = 0; t < 8; t++) {
            const float f0 = exp2_fast(x.gamma[0][t] + anchor.to_scores[0]), f1 = exp2_fast(x.gamma[1][t] + anchor.to_scores[1]);
            const float k0 = low_bf16(x.k[t]) * k_norm[t], k1 = high_bf16(x.k[t]) * k_norm[t];
            const float i0 = k0 * exp2_fast(anchor.from_scores[0] - x.gamma[0][t]), i1 = k1 * exp2_fast(anchor.from_scores[1] - x.gamma[1][t]);
            to.k[t] = pack_bf16(k0 * -f0, k1 * -f1);
            to.q[t] = pack_bf16(low_bf16(x.q[t]) * q_norm[t] * f0, high_bf16(x.q[t]) * q_norm[t] * f1);
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), to.k[t]);
            store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), to.q[t]);
            store_word(s.at(s->keys) + pair(t), pack_bf16(i0, i1) & anchor.in_scores);
            store_word(stage + uint32_t{offsetof(Stage, recent)} + pair(t), pack_f16(i0 * anchor.to_end[0], i1 * anchor.to_end[1]));
        }
    }

    // ---------------------------------------------------------------- 3

    // Rows 16 i .. of keys or queries, by tokens 16 j ..: a warp has one such block of [-A/b ; M]. Those above the diagonal are not made.
    __device__ __forceinline__ void scores(int number, uint32_t stage, bool has_steep) const {
        const int i = score_row(), j = score_column();
        const bool is_query = scores_queries();
        if (j > i) return;
        float c[2][4] = {}, other[2][4] = {};    // two sums of each: half as long a chain of products
        if (!is_bounded && has_steep) [[unlikely]]
#pragma unroll
            for (int n = 0; n < 4; n++) {
                const uint32_t pair = s->steep[warp][n][lane];
                c[n >> 1][2 * (n & 1)] = low_f16(pair), c[n >> 1][2 * (n & 1) + 1] = high_f16(pair);
            }
        const Place a_place = place_of_rows(lane), b_place = place_of_columns(lane);
        const uint32_t a_tile = stage + (is_query ? uint32_t{offsetof(Stage, q)} : uint32_t{offsetof(Stage, k)});
        const uint32_t a_at = a_tile + tile_offset(16 * i + a_place.row, a_place.unit), b_at = s.at(s->keys) + tile_offset(16 * j + b_place.row, b_place.unit);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            uint32_t a[4], b[4];
            load_matrices(a, units_on(a_at, k)), load_matrices(b, units_on(b_at, k));
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
    __device__ __forceinline__ void store_mqk(uint32_t stage, int i, int j, float (&c)[2][4]) const {
        const int row = 16 * i + (lane >> 2), above = (lane >> 2) - 2 * (lane & 3);    // of 8x8 matrices of the diagonal: so many columns left of the row
        if (i == j) {
            c[1][0] = c[1][1] = 0.f;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float diagonal = s->diagonal[row + 8 * h];
#pragma unroll
                for (int e = 0; e < 2; e++) c[h][2 * h + e] = above > e ? c[h][2 * h + e] : above == e ? diagonal : 0.f;
            }
        }
        const uint32_t to = stage + uint32_t{offsetof(Stage, mqk)} + square_offset(row, 2 * j) + (lane & 3) * 4;
#pragma unroll
        for (int h = 0; h < 2; h++)    // eight rows on, units change places alike; the unit beside it is one bit away
            store_word(to + h * (8 * kChunk * 2), pack_f16(c[0][2 * h], c[0][2 * h + 1])),
                store_word((to ^ 16) + h * (8 * kChunk * 2), pack_f16(c[1][2 * h], c[1][2 * h + 1]));
    }

    // ---------------------------------------------------------------- 4

    __device__ __forceinline__ void leave_anchor(int number, uint32_t stage, uint32_t leave, LaneOperands &x) const {
#pragma unroll
        for (int t = 0; t < 8; t++) x.k[t] = multiply_pairs_bf16(x.k[t], leave), x.q[t] = multiply_pairs_bf16(x.q[t], leave);
        if (p.is_raw) [[unlikely]]
#pragma unroll
            for (int t = 0; t < 8; t++) {  // K S is what the state holds for a key as it came
                const float size = power_of_two(s->key_exponents[number & 1][8 * group() + t]);
                x.k[t] = multiply_pairs_bf16(x.k[t], pack_bf16(size, size));
            }
#pragma unroll
        for (int t = 0; t < 8; t++)
            store_word(stage + uint32_t{offsetof(Stage, k)} + pair(t), x.k[t]), store_word(stage + uint32_t{offsetof(Stage, q)} + pair(t), x.q[t]);
    }

    // ---------------------------------------------------------------- all

    // Everything of a step but its scores, which want the tiles of all warps.
    __device__ __forceinline__ uint32_t make_tiles(int number, const Step &now, Lane &x, bool &has_steep, LaneOperands &to) const {
        const uint32_t stage = s.stage(number);
        chunk_done(stage).wait(((number >> 1) & 1) ^ 1);
        mark(mark_prepare_has_stage, number, warp == 0);
        RowNorms{{p, s, work, warp, lane_here()}}.make_norms(number, now.rows(), x);
        const Anchor anchor = load_anchor(stage);
        mark(mark_prepare_has_anchor, number, warp == 0);
        if constexpr (!is_bounded) has_steep = SteepChannels{*this}.sum(number, now.rows(), x);
        decay(stage, anchor, now.rows(), x, to);
        mark(mark_prepare_has_tiles, number, warp == 0);
        return anchor.leave;
    }

    // One warp, that has no scores to make, before it says that those of the last step are there.
    __device__ __forceinline__ void look_ahead(int number) const {
        const Step behind = Steps<with_checkpoints>{p, work, lane}.behind(s.step(number + 1));
        if (lane == 0) s->steps[(number + 2) & 7] = behind;
        __syncwarp();
    }

    // A turn reads step `number` and ends the one before.
    __device__ __forceinline__ void run() const {
        const Gates gates = gates_here();
        Step now = s.step(0);
        RawGates g;
        LaneOperands operands;
        uint32_t leave = 0;
        bool has_steep = false;
        ask_for(now, g);
        await_copies<0>();
        meet();
#pragma unroll 1
        for (int number = 0;; number++) {
            const bool is_end = now.is_none();
            const uint32_t before = s.stage(number - 1);
            mark(mark_prepare_begins, number, warp == 0);
            if (warp == kLookAheadWarp) look_ahead(number);
            if (number > 0) {
                scores(number - 1, before, has_steep);
                scores_ready(before).arrive(lane);
            }
            mark(mark_prepare_has_scores, number, warp == 0);
            Lane x;
            if (!is_end) read(gates, g, now, x);
            mark(mark_prepare_has_read, number, warp == 0);
            meet();
            mark(mark_prepare_has_sums, number, warp == 0);
            if (number > 0) {
                leave_anchor(number - 1, before, leave, operands);
                operands_ready(before).arrive(lane);
            }
            if (is_end) return;
            mark(mark_prepare_has_operands, number, warp == 0);
            const Step next = s.step(number + 1);
            ask_for(next, g);
            mark(mark_prepare_has_asked, number, warp == 0);
            leave = make_tiles(number, now, x, has_steep, operands);
            await_copies<0>();
            meet();
            now = next;
        }
    }
};

}  // namespace fkdai::portable

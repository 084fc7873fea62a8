// The operands of a chunk, from its raw tiles: what a warpgroup makes of q, k, g, whatever the state is.
#pragma once

#include "device/row_squares.cuh"
#include "device/sm90/store_matrices.cuh"
#include "device/sm90/warpgroup_mma.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// Warp = 64 channels x 16 tokens, lane = channels 2 lane, 2 lane + 1 of the half.
// One pass away from the anchor between tokens 15 and 16 (m = gamma_15): the upper half of the tokens is walked
// upward, the lower half downward, so the running sum needs neither shuffles nor an array.
// `stage` counts the stages of shared memory, `place` those of akk.
template <class Smem>
struct Operands {
    const Params &p;
    SharedView<Smem> s;
    int warp, lane;  // of the warpgroup

    using Scores = float[16];
    struct Gate {  // log2 alpha = L sigmoid(exp(A_log) (g + dt_bias)) = 1 / (1/L + exp2(slope g + offset)/L)
        float inverse_bound;  // 1/L, L = lower_bound log2(e); the lower half walks with -1/L
        float slope, offset[2];
    };

    __device__ __forceinline__ int half() const { return warp >> 1; }
    __device__ __forceinline__ bool upward() const { return warp & 1; }

    __device__ __forceinline__ Gate load_gate(int head) const {
        const int64_t channel = static_cast<int64_t>(head) * kWidth + half() * kHalf + 2 * lane;
        const float A_log = p.A_log.at(head, 0.f);
        const float2 bias = p.dt_bias.pair_at(channel, 0.f);
        // A bound of 0 means no decay: a vanishing L keeps 1/L finite.
        const float bound = fminf(p.lower_bound * kLog2e, -1e-30f);
        Gate gate;
        // Each lane's own: two factors of one multiplication cannot both be uniform, and would be copied every time.
        gate.inverse_bound = fmaf(static_cast<float>(lane), 0.f, reciprocal(upward() ? bound : -bound));
        gate.slope = -kLog2e * capped(expf(A_log), 1e12f);
        gate.offset[0] = capped(gate.slope * bias.x, 1e30f);
        gate.offset[1] = capped(gate.slope * bias.y, 1e30f);
        return gate;
    }

    // |x| at most `limit`, NaN stays NaN: beyond these limits the sigmoid is 0 or 1 anyway, and no finite parameter
    // gives 0 * inf or inf - inf.
    __device__ __forceinline__ static float capped(float x, float limit) {
        return x > limit ? limit : x < -limit ? -limit : x;
    }

    // 1/|k| of 16 tokens for part 0 and 1, scale/|q| for part 2 and 3; rows past the sequence get 0.
    __device__ __forceinline__ void row_norms(uint32_t stage, int rows, int part) const {
        const uint32_t row = s.at(s->stages[stage].kq[0]) + 16 * part * 128;
        const uint32_t at = row + ((lane & 7) + (lane & 8)) * 128 + (((lane >> 4) ^ (lane & 7)) * 16);
        RowSquares squares;
        uint32_t x[8][4];
#pragma unroll
        for (int k = 0; k < 8; k++) load_matrices(x[k], (at ^ (k & 3) * 32) + (k >> 2) * uint32_t{sizeof(Stage::kq[0])});
#pragma unroll
        for (int k = 0; k < 8; k++) squares.add(x[k]);
        const float first = squares.first(lane), second = squares.second(lane);
        float inverse[2] = {inverse_sqrt(first + 1e-6f), inverse_sqrt(second + 1e-6f)};
        const bool overflows = RowSquares::knows(lane) && (first > 3e38f || second > 3e38f);
        if (__any_sync(~0u, overflows)) {
            if (first > 3e38f) inverse[0] = scaled_norm(row + (lane >> 2) * 128, lane >> 2);
            if (second > 3e38f) inverse[1] = scaled_norm(row + ((lane >> 2) + 8) * 128, lane >> 2);
        }
        if (!RowSquares::knows(lane)) return;
        const float factor = part < 2 ? 1.f : p.scale;
        float *const norms = part < 2 ? s->stages[stage].before_scores.norms.k : s->stages[stage].before_scores.norms.q;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int token = 16 * (part & 1) + (lane >> 2) + 8 * i;
            norms[token < 16 ? 15 - token : token] = token < rows ? inverse[i] * factor : 0.f;
        }
    }

    // 1/|x| of a row whose squares overflow, from x 2^-70.
    __device__ __forceinline__ static float scaled_norm(uint32_t row, int swizzle) {
        float sum = 0.f;
#pragma unroll 1
        for (int unit = 0; unit < 16; unit++) {
            const uint4 x = load_uint4(row + (unit >> 3) * uint32_t{sizeof(Stage::kq[0])} + (((unit & 7) ^ swizzle) * 16));
            const uint32_t pair[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float low = low_bf16(pair[j]) * 0x1p-70f, high = high_bf16(pair[j]) * 0x1p-70f;
                sum = fmaf(low, low, fmaf(high, high, sum));
            }
        }
        return inverse_sqrt(sum) * 0x1p-70f;
    }

    // -K = -k^ 2^(gamma-m), Q = scale q^ 2^(gamma-m), KI = k^ 2^(m-gamma), each rounded once to bf16, in place of
    // k, q, g; and this half's decay: 2^m or 2^(gamma_C-m).   [32,128]
    __device__ __forceinline__ void decay_tiles(uint32_t stage, int rows, const Gate &gate) const {
        if (upward()) decay_half<true>(stage, rows, gate);
        else decay_half<false>(stage, rows, gate);
    }
    // Upward a token's own decay counts; downward the anchor is exact.
    template <bool is_upward>
    __device__ __forceinline__ void decay_half(uint32_t stage, int rows, const Gate &gate) const {
        constexpr uint32_t step = is_upward ? 512u : 0u - 512u;  // four rows on
        constexpr int row_step = is_upward ? 1 : -1;
        const int row0 = is_upward ? 16 + (lane >> 3) : 15 - (lane >> 3);
        const uint32_t offset = row0 * 128 + ((lane & 7) ^ (row0 & 7)) * 16;
        uint32_t kq = s.at(s->stages[stage].kq[half()]) + offset, ki = s.at(s->stages[stage].ki[half()]) + offset;
        uint32_t norm = s.at(s->stages[stage].before_scores.norms) + (is_upward ? 64 : 0);
        int row = is_upward ? 16 : 15;
        float sum0 = 0.f, sum1 = 0.f;
        uint32_t g[4];
        load_matrices(g, ki);
#pragma unroll 1
        for (int t4 = 0; t4 < 4; t4++) {
            uint32_t k[4], q[4], kd[4], qd[4], kinv[4];
            load_matrices(k, kq), load_matrices(q, kq + kQueryRows);
            const float4 nk = load_float4(norm), nq = load_float4(norm + sizeof(Norms::k));
            const float k_norm[4] = {nk.x, nk.y, nk.z, nk.w}, q_norm[4] = {nq.x, nq.y, nq.z, nq.w};
            float a0[4], a1[4];
#pragma unroll
            for (int t = 0; t < 4; t++) {
                a0[t] = log2_alpha(low_bf16(g[t]), gate, 0);
                a1[t] = log2_alpha(high_bf16(g[t]), gate, 1);
            }
            if (t4 < 3) load_matrices(g, (ki ^ 64) + step);
            if (rows < kChunk) {  // rows past the sequence: no decay, and zeros whatever lies there
#pragma unroll
                for (int t = 0; t < 4; t++)
                    if (row + t * row_step >= rows) a0[t] = a1[t] = 0.f, k[t] = q[t] = 0;
            }
#pragma unroll
            for (int t = 0; t < 4; t++) {
                const float before0 = sum0, before1 = sum1;
                sum0 += a0[t], sum1 += a1[t];
                const float e0 = is_upward ? sum0 : before0, e1 = is_upward ? sum1 : before1;
                const float f0 = exp2_fast(e0), f1 = exp2_fast(e1);
                const float k0 = low_bf16(k[t]) * k_norm[t], k1 = high_bf16(k[t]) * k_norm[t];
                kd[t] = pack_bf16(k0 * -f0, k1 * -f1);
                qd[t] = pack_bf16(low_bf16(q[t]) * (q_norm[t] * f0), high_bf16(q[t]) * (q_norm[t] * f1));
                kinv[t] = pack_bf16(k0 * exp2_fast(-e0), k1 * exp2_fast(-e1));
            }
            store_matrices(kq, kd), store_matrices(kq + kQueryRows, qd), store_matrices(ki, kinv);
            kq = (kq ^ 64) + step, ki = (ki ^ 64) + step, norm += 16, row += 4 * row_step;
        }
        const uint32_t decay = s.at(is_upward ? s->stages[stage].gate_out : s->stages[stage].gate_in);
        store_float2(decay + decay_slot(half() * kHalf + 2 * lane) * 4, exp2_fast(is_upward ? sum0 : -sum0), exp2_fast(is_upward ? sum1 : -sum1));
    }

    // +log2 alpha upward, -log2 alpha downward.
    __device__ __forceinline__ float log2_alpha(float g, const Gate &gate, int i) const {
        return reciprocal(fmaf(exp2_fast(fmaf(g, gate.slope, gate.offset[i])), gate.inverse_bound, gate.inverse_bound));
    }

    // [-akk/beta ; M] = [-K ; Q] KI^T   [64,32] = [64,128] [128,32]
    __device__ __forceinline__ void begin_scores(uint32_t stage, Scores &c) const {
        const Operand<0, 1024, Swizzle::B128> a(s.at(s->stages[stage].kq[0])), b(s.at(s->stages[stage].ki[0]));
        pin(c);
        mma_begin();
#pragma unroll
        for (int k = 0; k < 8; k++)
            mma<MmaSharedN32>(a.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::kq[0])}),
                              b.at((k & 3) * 32 + (k >> 2) * uint32_t{sizeof(Stage::ki[0])}), c,
                              k == 0 ? ScaleOut::Zero : ScaleOut::One);
        mma_commit();
    }
    __device__ __forceinline__ void finish_scores(uint32_t stage, uint32_t place, Scores &c) const {
        mma_wait<0>();
        pin(c);
        if (stores_akk()) store_akk(c, place);
        else store_mqk(c, stage);
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

    // M (bf16), j <= i by select: the other half may hold inf. Its upper block stays zero from the start.
    __device__ __forceinline__ void store_mqk(const Scores &c, uint32_t stage) const {
        const int i = 16 * (warp - 2) + (lane >> 2);
#pragma unroll
        for (int b = 0; b < 4; b++) {
            if (b >= 2 && warp == 2) continue;
            const int j = 8 * b + 2 * (lane & 3);
            const uint32_t to = s.at(s->stages[stage].mqk) + i * 64 + ((b ^ ((i >> 1) & 3)) * 16) + (lane & 3) * 4;
            store_word(to, pack_bf16(j <= i ? c[4 * b] : 0.f, j + 1 <= i ? c[4 * b + 1] : 0.f));
            store_word(to + 8 * 64, pack_bf16(j <= i + 8 ? c[4 * b + 2] : 0.f, j + 1 <= i + 8 ? c[4 * b + 3] : 0.f));
        }
        fence_async_proxy();
    }
};

}  // namespace fkdai::prefill

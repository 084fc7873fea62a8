// What comes to a state: one warp for each of q, k, v, the gate, and what the output is multiplied by. Everything is requested before anything is
// used.
#pragma once

#include "decode_fused/decode_fused_config.cuh"
#include "decode_fused/decode_fused_taps.cuh"

namespace fkdai::decode_fused {

__device__ __forceinline__ int64_t offset_of(const fkdai_fused_tensor &x, const Job &job) { return job.n * x.batch + job.h * x.head; }
__device__ __forceinline__ uint4 words_of(const fkdai_fused_tensor &x, const Job &job, int channel) {
    return words_at(x.data, offset_of(x, job) + channel, x.is_f32);
}
__device__ __forceinline__ uint4 words_of(const fkdai_fused_vector &x, int64_t at) {
    return x.data == nullptr ? make_uint4(0, 0, 0, 0) : words_at(x.data, at, x.is_f32);
}

__device__ __forceinline__ float sum_warp(float x) {
#pragma unroll
    for (int d = 16; d > 0; d /= 2) x += __shfl_xor_sync(~0u, x, d);
    return x;
}

__device__ __forceinline__ float silu(float x) { return x * sigmoid(x); }

// x factor / sqrt(|x|^2 + 1e-6) of a row that the warp shares.
__device__ __forceinline__ float4 normalised(float4 x, float factor) {
    constexpr float kMost = 1e37f;
    float squares = sum_warp(dot4(x, x)), eps = 1e-6f;
    if (!(squares < kMost)) {  // they leave fp32: a smaller multiple of the row, to which eps is nothing
        x = times(x, 0x1p-70f), eps = 0.f;
        squares = sum_warp(dot4(x, x));
    }
    return times(x, factor * inverse_sqrt(squares + eps));
}

enum Role { kQuery, kKey, kValue, kDecay, kFactor, kRoles };  // of warps; those behind have none
static_assert(int{kRoles} <= int{FKDAI_FUSED_WARPS});

// Of one thread: four channels of its warp's row.
struct Inputs {
    int role, lane;
    uint4 first;           // q, k, v, g or output_gate
    uint4 weight[4];       // of the taps; [0]: dt_bias or norm_weight
    uint4 bias;
    TapWords taps;
    uint32_t A_log, beta;

    __device__ __forceinline__ int channel() const { return 4 * lane; }

    __device__ __forceinline__ void request(const fkdai_fused_call &p, const Job &job) {
        role = thread_here() / 32, lane = thread_here() % 32;
        const int64_t in_head = int64_t{job.h} * kWidth + channel();
        if (role <= kValue) {
            first = words_of(p.x[role], job, channel());
            if (p.conv.weight[0] == nullptr) return;
            const int64_t at = job.h * p.conv.weight_head + channel();
#pragma unroll
            for (int t = 0; t < 4; t++) weight[t] = words_at(p.conv.weight[role], at + t * p.conv.weight_tap, p.conv.is_weight_f32);
            bias = words_of(p.conv.bias[role], in_head);
        } else if (role == kDecay) {
            first = words_of(p.g, job, channel());
            weight[0] = words_of(p.dt_bias, in_head);
            A_log = p.A_log.data == nullptr ? 0 : word_at(p.A_log.data, job.h, p.A_log.is_f32);
            beta = word_at(p.beta.data, offset_of(p.beta, job), p.beta.is_f32);
        } else if (role == kFactor && p.output_gate.data != nullptr) {
            first = words_of(p.output_gate, job, channel());
            weight[0] = words_of(p.norm_weight, channel());
        }
    }

    // As soon as the row is known, and before the state, behind which they would wait.
    __device__ __forceinline__ void request_taps(const fkdai_fused_call &p, const Job &job, int64_t row, bool starts_from_0) {
        if (role <= kValue && p.conv.weight[0] != nullptr) taps.request(place(p, job, row), p.conv, p.x[0].is_f32, starts_from_0);
    }

    __device__ __forceinline__ int64_t place(const fkdai_fused_call &p, const Job &job, int64_t row) const {
        const int64_t number = (int64_t{role} * p.H + job.h) * kWidth + channel();
        return row * p.conv.row + number * p.conv.channel;
    }

    // q, k or v; its taps move on.
    __device__ __forceinline__ float4 convolved(const fkdai_fused_call &p, const Job &job, int64_t row) const {
        const int is_f32 = p.x[0].is_f32, is_weight_f32 = p.conv.is_weight_f32;
        const TapElements old = taps.elements(p.conv, is_f32);
        float4 y = floats_of(bias, p.conv.bias[0].is_f32);
#pragma unroll
        for (int t = 0; t < 4; t++) {
            const float4 w = floats_of(weight[t], is_weight_f32), x = t < kTaps ? old.floats(t, is_f32) : floats_of(first, is_f32);
            y = make_float4(fmaf(w.x, x.x, y.x), fmaf(w.y, x.y, y.y), fmaf(w.z, x.z, y.z), fmaf(w.w, x.w, y.w));
        }
        old.shifted(first, is_f32).store(place(p, job, row), p.conv, is_f32);
        return make_float4(silu(y.x), silu(y.y), silu(y.z), silu(y.w));
    }

    template <class Config>
    __device__ __forceinline__ void finish(const fkdai_fused_call &p, const Job &job, int64_t row, Shared<Config> &to) const {
        if (role <= kValue) {
            float4 x = p.conv.weight[0] != nullptr ? convolved(p, job, row) : floats_of(first, p.x[role].is_f32);
            const float factor = role == kQuery ? p.scale : 1.f;
            if (role != kValue) x = p.is_normalised ? normalised(x, factor) : times(x, factor);
            *reinterpret_cast<float4 *>((role == kQuery ? to.q : role == kKey ? to.k : to.v) + channel()) = x;
        } else if (role == kDecay) {
            const float rate = p.A_log.data == nullptr ? 1.f : rate_of(float_of(A_log, p.A_log.is_f32)), b = float_of(beta, p.beta.is_f32);
            *reinterpret_cast<float4 *>(to.decay + channel()) = coded_decays(log2_decays(
                static_cast<DecayForm>(p.gate), floats_of(first, p.g.is_f32), floats_of(weight[0], p.dt_bias.is_f32), rate, p.lower_bound));
            if (lane == 0) to.beta = p.beta_multiplier * (p.is_beta_activated ? b : sigmoid(b));
        } else if (role == kFactor && p.output_gate.data != nullptr) {
            const float4 g = floats_of(first, p.output_gate.is_f32), w = floats_of(weight[0], p.norm_weight.is_f32);
            *reinterpret_cast<float4 *>(to.factor + channel()) = make_float4(w.x * sigmoid(g.x), w.y * sigmoid(g.y), w.z * sigmoid(g.z), w.w * sigmoid(g.w));
        }
    }
};

}  // namespace fkdai::decode_fused

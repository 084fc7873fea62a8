// log2 alpha, a token's decay of a channel, from the gate that the caller gives.   At most 0, and finite but for NaN.
//
// `load` reads A_log, dt_bias and lower_bound of a kernel's parameters.
#pragma once

#include "device/scalar_math.cuh"
#include "device/call_tensors.cuh"
#include "device/requests.cuh"

namespace fkdai {

// Nothing that fits fp32 is left after a decay of this many powers of two; sums of 32 of them still have a fine unit in the last place.
inline constexpr float kStrongestDecay = -320.f;

// Of what a channel decays by in two blocks of 16 tokens: no anchor between them keeps both factors of its scores finite.
__device__ __forceinline__ bool is_steep(float first, float second) { return first < -120.f || second < -120.f; }

// |x| at most `limit`, NaN stays NaN: beyond these limits the gates are 0 or their bound anyway, and no finite parameter gives 0 * inf or inf - inf.
__device__ __forceinline__ float capped(float x, float limit) { return x > limit ? limit : x < -limit ? -limit : x; }

// What the gates of two channels read beside g, asked for now and looked at later. What is absent is 0.
struct GateRequest {
    uint32_t A_log = 0, bias[2] = {0, 0};
};
template <GateKind kind>
inline constexpr bool has_gate_parameters = kind == GateKind::Bounded || kind == GateKind::Softplus;
template <GateKind kind, class Params>
__device__ __forceinline__ GateRequest request_gate(const Params &p, int head, int64_t channel) {
    GateRequest request;
    if constexpr (has_gate_parameters<kind>) {
        const auto ask = [](const Vector &of, int64_t i) {
            return request_4_or_2(of.address(i), of.element != Element::Absent, of.element == Element::F32);
        };
        request.bias[0] = ask(p.dt_bias, channel), request.bias[1] = ask(p.dt_bias, channel + 1), request.A_log = ask(p.A_log, head);
    }
    return request;
}
__device__ __forceinline__ float requested(uint32_t bits, const Vector &of) {
    return of.element == Element::F32 ? __uint_as_float(bits) : low_bf16(bits);
}

// Of two channels.
template <GateKind kind>
struct Gate;

// L sigmoid(exp(A_log) (g + dt_bias)) = 1 / (1/L + exp2(slope g + offset)/L), L = lower_bound log2(e)
template <>
struct Gate<GateKind::Bounded> {
    float inverse_bound, slope, offset[2];

    template <class Params>
    __device__ __forceinline__ void load(const Params &p, int head, int64_t channel, int lane) {
        take(p, request_gate<GateKind::Bounded>(p, head, channel), lane);
    }
    template <class Params>
    __device__ __forceinline__ void take(const Params &p, const GateRequest &request, int lane) {
        const float2 bias = make_float2(requested(request.bias[0], p.dt_bias), requested(request.bias[1], p.dt_bias));
        // A bound of 0 means no decay: a vanishing L keeps 1/L finite. Each lane's own: two factors of one multiplication cannot both be
        // uniform, and would be copied every time.
        inverse_bound = fmaf(static_cast<float>(lane), 0.f, reciprocal(fminf(p.lower_bound * kLog2e, -1e-30f)));
        slope = -kLog2e * capped(expf(requested(request.A_log, p.A_log)), 1e12f);
        offset[0] = capped(slope * bias.x, 1e30f), offset[1] = capped(slope * bias.y, 1e30f);
    }
    __device__ __forceinline__ float log2_alpha(float g, int i) const {
        return reciprocal(fmaf(exp2_fast(fmaf(g, slope, offset[i])), inverse_bound, inverse_bound));
    }
};

// -exp(A_log) softplus(g + dt_bias) log2(e) = -exp(A_log) log2(1 + exp2(g log2(e) + offset))
template <>
struct Gate<GateKind::Softplus> {
    float minus_rate, offset[2];

    template <class Params>
    __device__ __forceinline__ void load(const Params &p, int head, int64_t channel, int lane) {
        take(p, request_gate<GateKind::Softplus>(p, head, channel), lane);
    }
    template <class Params>
    __device__ __forceinline__ void take(const Params &p, const GateRequest &request, int) {
        const float2 bias = make_float2(requested(request.bias[0], p.dt_bias), requested(request.bias[1], p.dt_bias));
        minus_rate = -capped(expf(requested(request.A_log, p.A_log)), 1e30f);
        offset[0] = capped(kLog2e * bias.x, 1e30f), offset[1] = capped(kLog2e * bias.y, 1e30f);
    }
    // log2(1 + 2^x) = max(x, 0) + log2(1 + t), t = 2^-|x|; the latter is t times a polynomial, within 2e-7 of it: a sum 1 + t would have lost what a
    // slow gate is made of. Without a branch: the elements of a lane go different ways.
    __device__ __forceinline__ float log2_alpha(float g, int i) const {
        const float x = fmaf(g, kLog2e, offset[i]), t = exp2_fast(-fabsf(x));
        float ratio = fmaf(t, -0.0123194745f, 0.0636079f);
        ratio = fmaf(t, ratio, -0.1553519f), ratio = fmaf(t, ratio, 0.25600976f);
        ratio = fmaf(t, ratio, -0.35339484f), ratio = fmaf(t, ratio, 0.4800637f);
        ratio = fmaf(t, ratio, -0.7213101f), ratio = fmaf(t, ratio, 1.4426948f);
        const float softplus = fmaf(t, ratio, fmaxf(fminf(x, 3e38f), 0.f));  // finite: the rate may be 0; NaN is in t
        return max_or_nan(minus_rate * softplus, kStrongestDecay);
    }
};

// g itself, a natural logarithm; above 0 counts as 0.
template <>
struct Gate<GateKind::Precomputed> {
    template <class Params>
    __device__ __forceinline__ void load(const Params &, int, int64_t, int) {}
    template <class Params>
    __device__ __forceinline__ void take(const Params &, const GateRequest &, int) {}
    __device__ __forceinline__ float log2_alpha(float g, int) const {
        return max_or_nan(min_or_nan(g, 0.f) * kLog2e, kStrongestDecay);
    }
};

template <>
struct Gate<GateKind::PrecomputedF32> : Gate<GateKind::Precomputed> {};

}  // namespace fkdai

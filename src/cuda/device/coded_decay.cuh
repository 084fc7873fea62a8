// The decay of a channel for one token, from the gate's logit to a code that loses nothing near 1.
#pragma once

#include <cfloat>

#include "device/scalar_math.cuh"

namespace fkdai {

// exp(A_log), positive and finite, so that 0 times infinity cannot happen; NaN stays.
__device__ __forceinline__ float rate_of(float A_log) {
    const float rate = exp2_fast(kLog2e * A_log);
    return rate < FLT_MIN ? FLT_MIN : rate > FLT_MAX ? FLT_MAX : rate;
}

// log(1 + e) for e in [0, 1], 2 ulp: 2 atanh(e / (2 + e)).
__device__ __forceinline__ float log1p_unit(float e) {
    const float s = e * reciprocal(2.f + e), z = s * s, twice = s + s;
    float p = 0.12215854f;
    p = fmaf(p, z, 0.106941275f);
    p = fmaf(p, z, 0.14310595f);
    p = fmaf(p, z, 0.19999337f);
    p = fmaf(p, z, 0.3333334f);
    return fmaf(p, z * twice, twice);
}
__device__ __forceinline__ float softplus(float x) { return (x < 0.f ? 0.f : x) + log1p_unit(exp2_fast(-kLog2e * fabsf(x))); }

__device__ __forceinline__ float no_growth(float log2_a) { return log2_a > 0.f ? 0.f : log2_a; }
__device__ __forceinline__ float log2_bounded(float lower_bound, float rate, float x) { return no_growth(lower_bound * kLog2e * sigmoid(rate * x)); }
__device__ __forceinline__ float log2_softplus(float rate, float x) { return no_growth(-kLog2e * (rate * softplus(x))); }

// e^x - 1 on [-0.35, 0], 1.5 ulp.
__device__ __forceinline__ float expm1_small(float x) {
    float p = 0.0011970117f;
    p = fmaf(p, x, 0.008259935f);
    p = fmaf(p, x, 0.041653547f);
    p = fmaf(p, x, 0.1666656f);
    p = fmaf(p, x, 0.49999997f);
    return fmaf(p, x * x, x);
}

// What decayed() takes: a itself, or where a is near 1, with the sign bit set, a - 1. One fma with it rounds a slow decay relative to what is
// lost; a product with a would round the same way in thousands of calls.
__device__ __forceinline__ float coded_decay(float log2_a) {
    const float lost = -fabsf(expm1_small(log2_a * 0.693147181f)), kept = exp2_fast(log2_a);
    return log2_a > -0.5f ? lost : kept;
}
__device__ __forceinline__ float decayed(float s, float code) { return fmaf(s, code, __float_as_uint(code) >> 31 ? s : 0.f); }

// 1 where a code is a - 1, else 0.
__device__ __forceinline__ float is_lost(float code) { return __float_as_uint(code) >> 31 ? 1.f : 0.f; }

// a itself, rounded once where it is near 1.
__device__ __forceinline__ float plain_decay(float code) { return decayed(1.f, code); }

enum class DecayForm { Bounded, Softplus, LogDecay };  // what g is

// log2 a of four channels.
__device__ __forceinline__ float4 log2_decays(DecayForm form, const float4 &g, const float4 &bias, float rate, float lower_bound) {
    const float4 x = make_float4(g.x + bias.x, g.y + bias.y, g.z + bias.z, g.w + bias.w);
    if (form == DecayForm::Bounded)
        return make_float4(log2_bounded(lower_bound, rate, x.x), log2_bounded(lower_bound, rate, x.y), log2_bounded(lower_bound, rate, x.z),
                        log2_bounded(lower_bound, rate, x.w));
    if (form == DecayForm::Softplus)
        return make_float4(log2_softplus(rate, x.x), log2_softplus(rate, x.y), log2_softplus(rate, x.z), log2_softplus(rate, x.w));
    return make_float4(no_growth(kLog2e * g.x), no_growth(kLog2e * g.y), no_growth(kLog2e * g.z), no_growth(kLog2e * g.w));
}

// The codes of four channels.
__device__ __forceinline__ float4 coded_decays(const float4 &log2_a) {
    return make_float4(coded_decay(log2_a.x), coded_decay(log2_a.y), coded_decay(log2_a.z), coded_decay(log2_a.w));
}

}  // namespace fkdai

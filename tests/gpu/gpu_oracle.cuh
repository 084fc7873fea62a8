// gpu_oracle.cuh: the float64 oracle as a plain CUDA kernel, and errors against it.
//
// One block per (sequence, head), 512 threads: thread = (row of V, quarter of K).
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kda_oracle.h"

namespace oracle {

struct Tensor {  // [B,T,H,128] (beta: width 1)
    const __nv_bfloat16 *data;
    int64_t batch, token, head;
    __device__ int64_t offset(int64_t b, int64_t t, int64_t h) const { return b * batch + t * token + h * head; }
    __device__ double at(int64_t b, int64_t t, int64_t h, int64_t c) const { return static_cast<double>(__bfloat162float(data[offset(b, t, h) + c])); }
};

struct DeviceProblem {
    Rule rule;
    Tensor q, k, v, g, beta;
    const float *A_log, *dt_bias;       // [H], [H,128], or null
    const int64_t *cu_seqlens;          // null: dense
    const float *initial;               // [N,H,V,K] or null
    double *out, *final;                // strides of v; [N,H,V,K]
    int64_t T, H;
};

__device__ inline double row_normaliser(const Rule &rule, const Tensor &x, int64_t b, int64_t t, int64_t h, double *scratch) {
    if (threadIdx.x < 128) {
        const double e = x.at(b, t, h, threadIdx.x);
        scratch[threadIdx.x] = e * e;
    }
    __syncthreads();
    double sum = 0;
    for (int c = 0; c < 128; c++) sum += scratch[c];
    __syncthreads();
    return normaliser(rule, sum);
}

// Of the four threads of a value channel.
__device__ inline double sum_of_four(double x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

__global__ void __launch_bounds__(512) forward(DeviceProblem p) {
    __shared__ double a[128], k[128], q[128], scratch[128];
    const int64_t n = blockIdx.x / p.H, h = blockIdx.x % p.H;
    const int row = threadIdx.x / 4, first = threadIdx.x % 4 * 32, c = threadIdx.x;
    const int64_t batch = p.cu_seqlens ? 0 : n, begin = p.cu_seqlens ? p.cu_seqlens[n] : 0, end = p.cu_seqlens ? p.cu_seqlens[n + 1] : p.T;
    const int64_t at_state = ((n * p.H + h) * 128 + row) * 128 + first;
    double S[32];
    for (int i = 0; i < 32; i++) S[i] = p.initial ? static_cast<double>(p.initial[at_state + i]) : 0.0;
    for (int64_t t = begin; t < end; t++) {
        const double k_factor = row_normaliser(p.rule, p.k, batch, t, h, scratch), q_factor = row_normaliser(p.rule, p.q, batch, t, h, scratch);
        if (c < 128) {
            a[c] = decay(p.rule, p.g.at(batch, t, h, c), p.A_log ? static_cast<double>(p.A_log[h]) : 0.0,
                         p.dt_bias ? static_cast<double>(p.dt_bias[h * 128 + c]) : 0.0);
            k[c] = p.k.at(batch, t, h, c) * k_factor, q[c] = p.q.at(batch, t, h, c) * q_factor;
        }
        __syncthreads();
        const double predicted = sum_of_four(decay_slice(S, a + first, k + first, 32));
        const double u = step_size(p.rule, p.beta.at(batch, t, h, 0)) * (p.v.at(batch, t, h, row) - predicted);
        const double o = sum_of_four(update_slice(S, k + first, q + first, u, 32));
        if (first == 0) p.out[p.v.offset(batch, t, h) + row] = p.rule.scale * o;
        __syncthreads();
    }
    for (int i = 0; i < 32; i++) p.final[at_state + i] = S[i];
}

// errors[0] += (x - ref)^2, errors[1] += ref^2, errors[2] += elements that are not finite.
template <class T>
__global__ void compare(const T *x, const double *ref, int64_t count, double *errors) {
    double d2 = 0, r2 = 0, bad = 0;
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count; i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const double value = static_cast<double>(static_cast<float>(x[i])), r = ref[i];
        if (isfinite(value)) d2 += (value - r) * (value - r);
        else bad += 1;
        r2 += r * r;
    }
    atomicAdd(errors, d2), atomicAdd(errors + 1, r2), atomicAdd(errors + 2, bad);
}

}  // namespace oracle

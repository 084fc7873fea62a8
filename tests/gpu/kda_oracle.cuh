// kda_oracle.cuh: the float64 token recurrence as a plain CUDA kernel, and errors against it.
//
//     q^ = q / sqrt(|q|^2 + 1e-6)   k^ = k / sqrt(|k|^2 + 1e-6)   b = sigmoid(beta)
//     alpha = exp(lower_bound sigmoid(exp(A_log) (g + dt_bias)))
//     S <- Diag(alpha) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^
//
// One block per (sequence, head), 512 threads: thread = (row of V, quarter of K). Shares nothing with the kernel.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

namespace oracle {

struct Tensor {  // [B,T,H,128] (beta: width 1)
    const __nv_bfloat16 *data;
    int64_t batch, token, head;
    __device__ double at(int64_t b, int64_t t, int64_t h, int64_t c) const {
        return static_cast<double>(__bfloat162float(data[b * batch + t * token + h * head + c]));
    }
};

struct Problem {
    Tensor q, k, v, g, beta;
    const float *A_log, *dt_bias;       // [H], [H,128], or null
    const int64_t *cu_seqlens;          // null: dense
    const float *initial;               // [N,H,V,K] or null
    double *out, *final;                // [B,T,H,V] contiguous, [N,H,V,K]
    int64_t T, H;
    double scale, lower_bound;
};

__device__ inline double row_norm(const Tensor &x, int64_t b, int64_t t, int64_t h, double *scratch) {
    if (threadIdx.x < 128) {
        const double e = x.at(b, t, h, threadIdx.x);
        scratch[threadIdx.x] = e * e;
    }
    __syncthreads();
    double sum = 0;
    for (int c = 0; c < 128; c++) sum += scratch[c];
    __syncthreads();
    return 1.0 / sqrt(sum + 1e-6);
}

__global__ void __launch_bounds__(512) forward(Problem p) {
    __shared__ double alpha[128], k_hat[128], q_hat[128], scratch[128];
    const int64_t n = blockIdx.x / p.H, h = blockIdx.x % p.H;
    const int row = threadIdx.x / 4, part = threadIdx.x % 4, c = threadIdx.x;
    const int64_t batch = p.cu_seqlens ? 0 : n, first = p.cu_seqlens ? p.cu_seqlens[n] : 0,
                  last = p.cu_seqlens ? p.cu_seqlens[n + 1] : p.T;
    const int64_t at_state = ((n * p.H + h) * 128 + row) * 128 + part * 32;
    double state[32];
    for (int i = 0; i < 32; i++) state[i] = p.initial ? static_cast<double>(p.initial[at_state + i]) : 0.0;
    for (int64_t t = first; t < last; t++) {
        const double k_norm = row_norm(p.k, batch, t, h, scratch), q_norm = row_norm(p.q, batch, t, h, scratch);
        if (c < 128) {
            const double x = exp(p.A_log ? static_cast<double>(p.A_log[h]) : 0.0) *
                             (p.g.at(batch, t, h, c) + (p.dt_bias ? static_cast<double>(p.dt_bias[h * 128 + c]) : 0.0));
            alpha[c] = exp(p.lower_bound / (1.0 + exp(-x)));
            k_hat[c] = p.k.at(batch, t, h, c) * k_norm;
            q_hat[c] = p.q.at(batch, t, h, c) * q_norm;
        }
        __syncthreads();
        double seen = 0, o = 0;
        for (int i = 0; i < 32; i++) {
            state[i] *= alpha[part * 32 + i];
            seen += state[i] * k_hat[part * 32 + i];
        }
        seen += __shfl_xor_sync(~0u, seen, 1), seen += __shfl_xor_sync(~0u, seen, 2);
        const double u = (p.v.at(batch, t, h, row) - seen) / (1.0 + exp(-p.beta.at(batch, t, h, 0)));
        for (int i = 0; i < 32; i++) {
            state[i] += k_hat[part * 32 + i] * u;
            o += state[i] * q_hat[part * 32 + i];
        }
        o += __shfl_xor_sync(~0u, o, 1), o += __shfl_xor_sync(~0u, o, 2);
        if (part == 0) p.out[((batch * p.T + t) * p.H + h) * 128 + row] = p.scale * o;
        __syncthreads();
    }
    for (int i = 0; i < 32; i++) p.final[at_state + i] = state[i];
}

// errors[0] += (x - ref)^2, errors[1] += ref^2, errors[2] += elements that are not finite.
template <class T>
__global__ void compare(const T *x, const double *ref, int64_t count, double *errors) {
    double d2 = 0, r2 = 0, bad = 0;
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x) {
        const double a = static_cast<double>(static_cast<float>(x[i])), r = ref[i];
        if (isfinite(a)) d2 += (a - r) * (a - r);
        else bad += 1;
        r2 += r * r;
    }
    atomicAdd(errors, d2), atomicAdd(errors + 1, r2), atomicAdd(errors + 2, bad);
}

}  // namespace oracle

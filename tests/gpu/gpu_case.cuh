// gpu_case.cuh: one problem on the device: seeded inputs, poisoned outputs between guards, a launch under a watchdog, and errors against
// the oracle.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "prefill_sm90/prefill_launch.h"
#include "gpu_watch.cuh"
#include "kda_oracle.cuh"

enum class Gates { Random, Slow, AllMinus5 };

inline int asked_mapping = -1;  // of all cases, from a program's last word: pair, solo or quad; else as chosen

// Takes the word away.
inline void read_mapping(int &argc, char **argv) {
    const std::string last = argc > 1 ? argv[argc - 1] : "";
    asked_mapping = last == "pair" ? FKDAI_DUO : last == "solo" ? FKDAI_SOLO : last == "quad" ? FKDAI_QUAD : -1;
    if (asked_mapping >= 0) argc--;
}

struct CaseShape {
    std::vector<int64_t> lengths;  // of the sequences
    int64_t H = 1;
    bool packed = true;            // dense: equal lengths
    Gates gates = Gates::Random;
    bool has_initial = true, is_int32 = false;
    float key_bias = 0.f;          // > 0: correlated keys
    int64_t tail_tokens = 0;       // packed: of one more sequence behind the others, NaN in every input; errors() leaves it out
    float value_scale = 1.f;
    bool heads_outside = false;    // strides of a [B,H,T,128] tensor
    int mapping = asked_mapping;   // < 0: as the library chooses
    unsigned seed = 1;
};

__device__ inline float unit_noise(uint64_t i, unsigned seed) {  // splitmix64, in (0, 1)
    uint64_t x = i + seed * 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull, x = (x ^ (x >> 27)) * 0x94d049bb133111ebull, x ^= x >> 31;
    return (static_cast<float>(x >> 40) + 0.5f) / 16777216.f;
}
__device__ inline float normal_noise(uint64_t i, unsigned seed) {
    return sqrtf(-2.f * logf(unit_noise(2 * i, seed))) * cospif(2.f * unit_noise(2 * i + 1, seed));
}
template <class T>
__global__ void fill_normal(T *x, int64_t count, float mean, float deviation, unsigned seed) {
    for (int64_t i = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; i < count;
         i += static_cast<int64_t>(gridDim.x) * blockDim.x)
        x[i] = static_cast<T>(mean + deviation * normal_noise(i, seed));
}

struct Errors {
    double out, state, bad;
};

struct DeviceCase {
    CaseShape shape;
    static constexpr int64_t kGuardBytes = 4096;  // on both sides of out and of the final state
    int64_t B, T, N;
    __nv_bfloat16 *q, *k, *v, *g, *beta, *out;
    float *A_log, *dt_bias, *initial, *final;
    int64_t *cu;
    int32_t *cu32;
    unsigned *status;       // what a broken cu_seqlens sets
    char *workspace;
    size_t workspace_bytes;
    int poison_byte = 0xff;
    fkdai_prefill_call call{};

    int64_t rows() const { return B * T * shape.H; }
    int64_t state_count() const { return N * shape.H * 128 * 128; }

    template <class X>
    static X *allocate(int64_t count) {
        X *x;
        CHECK_CUDA(cudaMalloc(&x, (count > 0 ? count : 1) * sizeof(X)));
        return x;
    }
    template <class X>
    static X *allocate_guarded(int64_t count) {
        return reinterpret_cast<X *>(allocate<char>(count * static_cast<int64_t>(sizeof(X)) + 2 * kGuardBytes) + kGuardBytes);
    }

    explicit DeviceCase(const CaseShape &s, int multiprocessors) : shape(s) {
        std::vector<int64_t> cumulative(1, 0);
        for (int64_t length : s.lengths) cumulative.push_back(cumulative.back() + length);
        if (s.tail_tokens > 0) cumulative.push_back(cumulative.back() + s.tail_tokens);
        N = static_cast<int64_t>(cumulative.size()) - 1;
        B = s.packed ? 1 : N, T = s.packed ? cumulative.back() : s.lengths[0];
        const int64_t count = rows() * 128;
        q = allocate<__nv_bfloat16>(count), k = allocate<__nv_bfloat16>(count), v = allocate<__nv_bfloat16>(count);
        g = allocate<__nv_bfloat16>(count), out = allocate_guarded<__nv_bfloat16>(count), beta = allocate<__nv_bfloat16>(rows());
        A_log = allocate<float>(s.H), dt_bias = allocate<float>(s.H * 128);
        initial = allocate<float>(state_count()), final = allocate_guarded<float>(state_count());
        status = allocate<unsigned>(1);
        CHECK_CUDA(cudaMemset(status, 0, sizeof *status));
        cu = allocate<int64_t>(N + 1), cu32 = allocate<int32_t>(N + 1);
        const std::vector<int32_t> narrow(cumulative.begin(), cumulative.end());
        CHECK_CUDA(cudaMemcpy(cu, cumulative.data(), (N + 1) * 8, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(cu32, narrow.data(), (N + 1) * 4, cudaMemcpyHostToDevice));
        fill_inputs();
        const int64_t t_stride = s.heads_outside ? 128 : s.H * 128, h_stride = s.heads_outside ? T * 128 : 128;
        const auto strided = [&](const void *x) { return fkdai_tensor{x, {T * s.H * 128, t_stride, h_stride}}; };
        call.q = strided(q), call.k = strided(k), call.v = strided(v), call.g = strided(g);
        call.out = out, call.out_stride = call.q.stride;
        call.beta = {beta, {T * s.H, s.H, 1}};
        call.A_log = {A_log, FKDAI_F32}, call.dt_bias = {dt_bias, FKDAI_F32};
        if (s.packed) call.cu_seqlens = {s.is_int32 ? static_cast<void *>(cu32) : cu, s.is_int32 ? FKDAI_I32 : FKDAI_I64};
        if (s.has_initial) call.initial_state = initial, call.initial_rows = {s.H * 128 * 128, FKDAI_F32};
        call.final_state = final, call.final_rows = {s.H * 128 * 128, FKDAI_F32};
        call.B = B, call.T = T, call.N = N, call.H = s.H;
        call.device_status = status;
        call.scale = 0.08838834764831845f, call.lower_bound = -5.f;
        call.grid = fkdai_prefill_make_grid(s.mapping < 0 ? FKDAI_EITHER : static_cast<fkdai_prefill_mapping>(s.mapping), B * T, N, s.H, multiprocessors);
        workspace_bytes = fkdai_prefill_workspace_bytes(N, s.H, call.grid);
        workspace = allocate<char>(static_cast<int64_t>(workspace_bytes));
        call.workspace = workspace;
    }
    ~DeviceCase() {
        for (void *x : {static_cast<void *>(q), static_cast<void *>(k), static_cast<void *>(v), static_cast<void *>(g),
                        guarded(out), static_cast<void *>(beta), static_cast<void *>(A_log),
                        static_cast<void *>(dt_bias), static_cast<void *>(initial), guarded(final), static_cast<void *>(status),
                        static_cast<void *>(cu), static_cast<void *>(cu32), static_cast<void *>(workspace)})
            cudaFree(x);
    }
    DeviceCase(const DeviceCase &) = delete;
    static void *guarded(void *data) { return static_cast<char *>(data) - kGuardBytes; }

    void reseed(unsigned seed) {
        shape.seed = seed;
        fill_inputs();
    }
    void fill_inputs() {
        const CaseShape &s = shape;
        const int64_t count = rows() * 128;
        const float mean = s.gates == Gates::Random ? 0.f : s.gates == Gates::Slow ? -4.f : 30.f;
        const float deviation = s.gates == Gates::Random ? 1.f : s.gates == Gates::Slow ? 2.f : 0.f;
        const bool plain = s.gates == Gates::AllMinus5;
        fill_normal<<<512, 256>>>(q, count, 0.f, 1.f, s.seed * 16 + 1);
        fill_normal<<<512, 256>>>(k, count, s.key_bias, 1.f, s.seed * 16 + 2);
        fill_normal<<<512, 256>>>(v, count, 0.f, s.value_scale, s.seed * 16 + 3);
        fill_normal<<<512, 256>>>(g, count, mean, deviation, s.seed * 16 + 4);
        fill_normal<<<512, 256>>>(beta, rows(), 0.f, 1.f, s.seed * 16 + 5);
        fill_normal<<<512, 256>>>(A_log, s.H, 0.f, plain ? 0.f : 0.3f, s.seed * 16 + 6);
        fill_normal<<<512, 256>>>(dt_bias, s.H * 128, 0.f, plain ? 0.f : 0.5f, s.seed * 16 + 7);
        fill_normal<<<512, 256>>>(initial, state_count(), 0.f, 0.1f * s.value_scale, s.seed * 16 + 8);
        CHECK_CUDA(cudaGetLastError());
        if (s.tail_tokens > 0) {
            const int64_t at = (T - s.tail_tokens) * s.H;
            for (__nv_bfloat16 *x : {q, k, v, g}) CHECK_CUDA(cudaMemset(x + at * 128, 0xff, s.tail_tokens * s.H * 256));
            CHECK_CUDA(cudaMemset(beta + at, 0xff, s.tail_tokens * s.H * 2));
        }
    }

    // Another byte every time: what a call leaves in its workspace, or finds in its outputs, must not matter.
    void poison(cudaStream_t on = nullptr) {
        poison_byte = poison_byte == 0xff ? 0x7f : poison_byte == 0x7f ? 0x00 : poison_byte == 0x00 ? 0xa5 : 0xff;
        CHECK_CUDA(cudaMemsetAsync(guarded(out), poison_byte, rows() * 256 + 2 * kGuardBytes, on));
        CHECK_CUDA(cudaMemsetAsync(guarded(final), poison_byte, state_count() * 4 + 2 * kGuardBytes, on));
        CHECK_CUDA(cudaMemsetAsync(workspace, poison_byte, workspace_bytes > 0 ? workspace_bytes : 1, on));
    }
    void launch(cudaStream_t on) { CHECK_CUDA(fkdai_prefill_launch(&call, on)); }
    void run() {
        launch(nullptr);
        watch(nullptr);
    }
    bool is_poison(const __nv_bfloat16 *data, int64_t count) const {
        std::vector<unsigned char> bytes(count * sizeof *data);
        CHECK_CUDA(cudaMemcpy(bytes.data(), data, bytes.size(), cudaMemcpyDeviceToHost));
        for (unsigned char byte : bytes)
            if (byte != poison_byte) return false;
        return true;
    }
    // Bytes of the guards that are no longer poison.
    int64_t touched() const {
        std::vector<unsigned char> bytes(kGuardBytes);
        int64_t count = 0;
        const auto look = [&](const void *at) {
            CHECK_CUDA(cudaMemcpy(bytes.data(), at, kGuardBytes, cudaMemcpyDeviceToHost));
            for (unsigned char byte : bytes) count += byte != poison_byte;
        };
        look(guarded(out)), look(out + rows() * 128), look(guarded(final)), look(final + state_count());
        return count;
    }
    std::vector<unsigned> bits() const {
        std::vector<unsigned> all(rows() * 64 + state_count());
        CHECK_CUDA(cudaMemcpy(all.data(), out, rows() * 256, cudaMemcpyDeviceToHost));
        CHECK_CUDA(cudaMemcpy(all.data() + rows() * 64, final, state_count() * 4, cudaMemcpyDeviceToHost));
        return all;
    }

    // Relative RMS of out and of the final state; elements of the sequences that are not finite.
    Errors errors() {
        const CaseShape &s = shape;
        const int64_t valid = (rows() - (s.packed ? s.tail_tokens * s.H : 0)) * 128;
        double *ref_out = allocate<double>(rows() * 128), *ref_final = allocate<double>(state_count());
        double *sums = allocate<double>(6), host[6];
        const auto tensor = [](const fkdai_tensor &x) {
            return oracle::Tensor{static_cast<const __nv_bfloat16 *>(x.data), x.stride.batch, x.stride.token, x.stride.head};
        };
        const oracle::Problem problem{tensor(call.q), tensor(call.k), tensor(call.v), tensor(call.g), tensor(call.beta),
                                      A_log, dt_bias, s.packed ? cu : nullptr, s.has_initial ? initial : nullptr,
                                      ref_out, ref_final, T, s.H, 0.08838834764831845, -5.0};
        CHECK_CUDA(cudaMemset(sums, 0, sizeof host));
        CHECK_CUDA(cudaMemset(ref_out, 0, rows() * 1024));
        oracle::forward<<<static_cast<unsigned>(N * s.H), 512>>>(problem);
        CHECK_CUDA(cudaGetLastError());
        oracle::compare<<<512, 256>>>(out, ref_out, valid, sums);
        oracle::compare<<<512, 256>>>(final, ref_final, static_cast<int64_t>(s.lengths.size()) * s.H * 16384, sums + 3);
        CHECK_CUDA(cudaMemcpy(host, sums, sizeof host, cudaMemcpyDeviceToHost));
        cudaFree(ref_out), cudaFree(ref_final), cudaFree(sums);
        return {std::sqrt(host[0] / (host[1] > 0 ? host[1] : 1)), std::sqrt(host[3] / (host[4] > 0 ? host[4] : 1)),
                host[2] + host[5]};
    }
};

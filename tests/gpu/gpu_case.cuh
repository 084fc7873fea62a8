// gpu_case.cuh: one case on the device: seeded inputs, poisoned outputs between guards, a launch under a watchdog, and errors against
// the oracle.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "bars.h"
#include "gpu_inputs.cuh"
#include "gpu_oracle.cuh"
#include "gpu_watch.cuh"
#include "prefill_mma/prefill_mma_launch.h"
#include "prefill_sm90/prefill_launch.h"

inline constexpr int kCall = 99;  // the public API (gpu_call.cuh)
inline constexpr int kMma = 100;  // beside fkdai_prefill_mapping: the portable kernel; kMma + n: in n slices of V
inline int asked_mapping = -1;     // of all cases, from a program's last word: duo, solo or quad, mma or mma1 ... mma8, call, mma_call or mma_spans; else as chosen

// Takes the word away.
inline void read_mapping(int &argc, char **argv) {
    const std::string last = argc > 1 ? argv[argc - 1] : "";
    asked_mapping = last == "duo" ? FKDAI_DUO : last == "solo" ? FKDAI_SOLO : last == "quad" ? FKDAI_QUAD : last == "octet" ? FKDAI_OCTET : last == "quint" ? FKDAI_QUINT : last == "sextet" ? FKDAI_SEXTET : last == "call" ? kCall : -1;
    if (last == "mma_spans") setenv("FKDA_CUDA_SPANS", "64,32", 1);
    if (last == "mma_call" || last == "mma_spans") asked_mapping = setenv("FKDA_CUDA_KERNEL", "mma", 1) == 0 ? kCall : -1;
    else if (last.compare(0, 3, "mma") == 0) asked_mapping = kMma + (last.size() > 3 ? last[3] - '0' : 0);
    if (asked_mapping >= 0) argc--;
}

inline std::vector<int64_t> lengths_of(const case_spec &s) {
    std::vector<int64_t> lengths;
    for (int64_t n = 0; n < s.N; n++) lengths.push_back(s.bounds[n + 1] - s.bounds[n]);
    return lengths;
}

struct Errors {
    double out, state, bad;  // M1; elements that are not finite
};

inline void load_kernels() {
    CHECK_CUDA(fkdai_prefill_load());
    CHECK_CUDA(fkdai_mma_load());
}

// How the public API does a case, where a program has it.
struct DeviceCase;
struct OfferedCall {
    size_t (*workspace_bytes)(const DeviceCase &);
    void (*launch)(const DeviceCase &, cudaStream_t);
};
inline OfferedCall offered_call{};

struct DeviceCase {
    static constexpr int64_t kGuardBytes = 4096;  // on both sides of out and of the final state
    case_spec spec;
    std::vector<int64_t> lengths;  // of the sequences: those of the spec, or a list that a program made
    unsigned seed;
    int64_t B, T, N, H;
    __nv_bfloat16 *q, *k, *v, *g, *beta, *out;
    float *A_log, *dt_bias, *initial, *final;
    int64_t *cu;
    int32_t *cu32;
    std::vector<int64_t> on_host;        // what these hold; a call has a copy, too, unless they are stored again
    std::vector<int32_t> on_host32;
    unsigned *status;       // what a broken cu_seqlens sets
    char *workspace;
    size_t workspace_bytes;
    int poison_byte = 0xff;
    fkdai_prefill_call call{};
    bool is_mma = false;    // the portable kernel does the call
    bool is_public = false; // the public API does
    fkdai_mma_grid mma{};

    int64_t rows() const { return B * T * H; }
    int64_t state_count() const { return N * H * 128 * 128; }
    bool is_packed() const { return spec.cu != FKDA_NONE; }

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

    DeviceCase(const case_spec &s, int multiprocessors, int mapping = asked_mapping) : DeviceCase(s, lengths_of(s), multiprocessors, mapping) {}
    // Packed sequences of these lengths.
    DeviceCase(const case_spec &s, const std::vector<int64_t> &list, int multiprocessors, int mapping = asked_mapping)
        : spec(s), lengths(list), seed(seed_of(s)), H(s.H) {
        expect_launchable(s);
        std::vector<int64_t> cumulative(1, 0);
        for (int64_t length : lengths) cumulative.push_back(cumulative.back() + length);
        N = static_cast<int64_t>(lengths.size());
        B = is_packed() ? 1 : s.B, T = is_packed() ? cumulative.back() : s.T;
        const int64_t count = rows() * 128;
        q = allocate<__nv_bfloat16>(count), k = allocate<__nv_bfloat16>(count), v = allocate<__nv_bfloat16>(count);
        g = allocate<__nv_bfloat16>(count), out = allocate_guarded<__nv_bfloat16>(count), beta = allocate<__nv_bfloat16>(rows());
        A_log = allocate<float>(H), dt_bias = allocate<float>(H * 128);
        initial = allocate<float>(state_count()), final = allocate_guarded<float>(state_count());
        status = allocate<unsigned>(1);
        CHECK_CUDA(cudaMemset(status, 0, sizeof *status));
        cu = allocate<int64_t>(N + 1), cu32 = allocate<int32_t>(N + 1);
        store_bounds(cumulative);
        fill_inputs();
        make_call(multiprocessors, mapping);
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

    void store_bounds(const std::vector<int64_t> &bounds) {
        on_host = bounds, on_host32.assign(bounds.begin(), bounds.end()), call.cu_seqlens_host = nullptr;
        CHECK_CUDA(cudaMemcpy(cu, on_host.data(), on_host.size() * 8, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(cu32, on_host32.data(), on_host32.size() * 4, cudaMemcpyHostToDevice));
    }

    void make_call(int multiprocessors, int mapping) {
        const bool is_heads_first = spec.view == VIEW_HEADS_FIRST;
        const auto strided = [&](const void *x) {
            return fkdai_tensor{x, {T * H * 128, is_heads_first ? 128 : H * 128, is_heads_first ? T * 128 : 128}, FKDAI_BF16};
        };
        const auto element = [](int dtype) { return dtype == FKDA_BF16 ? FKDAI_BF16 : FKDAI_F32; };
        call.q = strided(q), call.k = strided(k), call.v = strided(v), call.g = strided(g);
        call.out = out, call.out_stride = call.q.stride;
        call.beta = {beta, {T * H, H, 1}, FKDAI_BF16}, call.beta_multiplier = 1.f;
        if (spec.A_log != FKDA_NONE) call.A_log = {A_log, FKDAI_F32};
        if (spec.dt_bias != FKDA_NONE) call.dt_bias = {dt_bias, FKDAI_F32};
        if (is_packed()) call.cu_seqlens = {spec.cu == FKDA_I32 ? static_cast<void *>(cu32) : cu, spec.cu == FKDA_I32 ? FKDAI_I32 : FKDAI_I64};
        if (is_packed()) call.cu_seqlens_host = spec.cu == FKDA_I32 ? static_cast<const void *>(on_host32.data()) : on_host.data();
        if (spec.initial != FKDA_NONE) call.initial_state = initial, call.initial_rows = {H * 128 * 128, element(spec.initial), 0, {}, 0, 0};
        call.final_state = final, call.final_rows = {H * 128 * 128, element(spec.final), 0, {}, 0, 0};
        call.B = B, call.T = T, call.N = N, call.H = call.HV = H;
        call.device_status = status;
        call.scale = static_cast<float>(spec.scale), call.lower_bound = static_cast<float>(spec.lower_bound);
        is_mma = mapping >= kMma, is_public = mapping == kCall;
        if (is_public) mapping = -1;
        if (is_mma) mma = fkdai_mma_make_grid(N, H, 128, multiprocessors, mapping - kMma), mapping = -1;
        call.grid = fkdai_prefill_make_grid(mapping < 0 ? FKDAI_EITHER : static_cast<fkdai_prefill_mapping>(mapping), jobs(), call.checkpoints.stops, multiprocessors);
        allocate_workspace();
    }
    fkdai_prefill_jobs jobs() const { return {B * T, N, H, is_packed()}; }
    void allocate_workspace() {
        workspace_bytes = is_public ? offered_call.workspace_bytes(*this) : fkdai_prefill_workspace_bytes(jobs(), call.grid, call.checkpoints.stops);
        call.workspace = workspace = allocate<char>(static_cast<int64_t>(workspace_bytes));
    }

    void reseed(unsigned new_seed) {
        seed = new_seed;
        fill_inputs();
    }
    void fill_inputs() {
        const int64_t count = rows() * 128;
        const Spread normal{0.f, 1.f};
        fill_normal<<<512, 256>>>(q, count, normal, seed * 16 + 1);
        if (const int rank = rank_of_keys(spec); rank > 0) fill_low_rank<<<512, 256>>>(k, rows(), H, rank, seed * 16 + 2);
        else fill_normal<<<512, 256>>>(k, count, spread_of_keys(spec), seed * 16 + 2);
        fill_normal<<<512, 256>>>(v, count, normal, seed * 16 + 3);
        fill_normal<<<512, 256>>>(g, count, spread_of_gates(spec), seed * 16 + 4);
        fill_normal<<<512, 256>>>(beta, rows(), spread_of_betas(spec), seed * 16 + 5);
        fill_normal<<<512, 256>>>(A_log, H, Spread{0.f, 0.3f}, seed * 16 + 6);
        fill_normal<<<512, 256>>>(dt_bias, H * 128, Spread{0.f, 0.5f}, seed * 16 + 7);
        if (spec.initial == FKDA_BF16) fill_normal<<<512, 256>>>(reinterpret_cast<__nv_bfloat16 *>(initial), state_count(), Spread{0.f, 0.1f}, seed * 16 + 8);
        else fill_normal<<<512, 256>>>(initial, state_count(), Spread{0.f, 0.1f}, seed * 16 + 8);
        CHECK_CUDA(cudaGetLastError());
        if (!spec.last_is_nan) return;
        const int64_t at = (T - lengths.back()) * H;
        for (__nv_bfloat16 *x : {q, k, v, g}) CHECK_CUDA(cudaMemset(x + at * 128, 0xff, lengths.back() * H * 256));
        CHECK_CUDA(cudaMemset(beta + at, 0xff, lengths.back() * H * 2));
    }

    // Another byte every time: what a call leaves in its workspace, or finds in its outputs, must not matter.
    void poison(cudaStream_t on = nullptr) {
        poison_byte = poison_byte == 0xff ? 0x7f : poison_byte == 0x7f ? 0x00 : poison_byte == 0x00 ? 0xa5 : 0xff;
        CHECK_CUDA(cudaMemsetAsync(guarded(out), poison_byte, rows() * 256 + 2 * kGuardBytes, on));
        CHECK_CUDA(cudaMemsetAsync(guarded(final), poison_byte, state_count() * 4 + 2 * kGuardBytes, on));
        CHECK_CUDA(cudaMemsetAsync(workspace, poison_byte, workspace_bytes > 0 ? workspace_bytes : 1, on));
    }
    // The same call of the portable kernel; it may have fewer sequences than the case.
    fkdai_mma_call mma_call(const fkdai_prefill_call &of) const {
        const fkdai_checkpoints &c = of.checkpoints;
        fkdai_mma_grid grid = mma;
        grid.blocks = static_cast<uint32_t>(of.N * of.HV * grid.slices);
        return {.q = of.q, .k = of.k, .v = of.v, .g = of.g, .beta = of.beta, .is_beta_activated = of.is_beta_activated,
                .beta_multiplier = of.beta_multiplier, .A_log = of.A_log, .dt_bias = of.dt_bias, .cu_seqlens = of.cu_seqlens, .spans = {},
                .initial_state = of.initial_state, .final_state = of.final_state, .out = of.out, .initial_rows = of.initial_rows,
                .final_rows = of.final_rows, .initial_mask = of.initial_mask, .checkpoint_state = c.state, .checkpoint_rows = c.rows,
                .checkpoint_count = c.count, .checkpoints_per_sequence = c.stops.per_sequence, .checkpoint_every = c.stops.every,
                .checkpoint_offsets = c.offsets, .out_stride = of.out_stride, .B = of.B, .T = of.T, .N = of.N, .H = of.H, .HV = of.HV,
                .K = 128, .V = 128, .gate = of.gate, .scale = of.scale, .lower_bound = of.lower_bound, .is_raw = of.is_raw, .grid = grid,
                .device_status = of.device_status};
    }
    void launch(cudaStream_t on) {
        if (is_public) {
            offered_call.launch(*this, on);
        } else {
            launch_alone(call, on);
        }
    }
    // Another call by the kernel of this case.
    void launch_alone(const fkdai_prefill_call &of, cudaStream_t on) const {
        if (is_mma) {
            const fkdai_mma_call to_mma = mma_call(of);
            CHECK_CUDA(fkdai_mma_launch(&to_mma, on));
        } else {
            CHECK_CUDA(fkdai_prefill_launch(&of, on));
        }
    }
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

    // Of the sequences that are not NaN. States in fp32.
    Errors errors() {
        const int64_t sequences = N - spec.last_is_nan, valid = rows() - (spec.last_is_nan ? lengths.back() * H : 0);
        double *ref_out = allocate<double>(rows() * 128), *ref_final = allocate<double>(state_count());
        double *sums = allocate<double>(6), host[6];
        const auto tensor = [](const fkdai_tensor &x) {
            return oracle::Tensor{static_cast<const __nv_bfloat16 *>(x.data), x.stride.batch, x.stride.token, x.stride.head};
        };
        const oracle::Rule rule{FKDA_GATE_BOUNDED, FKDA_BETA_LOGIT, FKDA_QK_NORM_L2, 1.0, call.lower_bound, call.scale};
        const oracle::DeviceProblem problem{rule, tensor(call.q), tensor(call.k), tensor(call.v), tensor(call.g), tensor(call.beta),
                                            static_cast<const float *>(call.A_log.data), static_cast<const float *>(call.dt_bias.data),
                                            is_packed() ? cu : nullptr, spec.initial == FKDA_NONE ? nullptr : initial, ref_out, ref_final, T, H};
        CHECK_CUDA(cudaMemset(sums, 0, sizeof host));
        CHECK_CUDA(cudaMemset(ref_out, 0, rows() * 1024));
        oracle::forward<<<static_cast<unsigned>(N * H), 512>>>(problem);
        CHECK_CUDA(cudaGetLastError());
        oracle::compare<<<512, 256>>>(out, ref_out, valid * 128, sums);
        oracle::compare<<<512, 256>>>(final, ref_final, sequences * H * 16384, sums + 3);
        CHECK_CUDA(cudaMemcpy(host, sums, sizeof host, cudaMemcpyDeviceToHost));
        cudaFree(ref_out), cudaFree(ref_final), cudaFree(sums);
        return {std::sqrt(host[0] / (host[1] > 0 ? host[1] : 1)), std::sqrt(host[3] / (host[4] > 0 ? host[4] : 1)), host[2] + host[5]};
    }
};

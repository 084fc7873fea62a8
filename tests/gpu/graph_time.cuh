// Launches of a model's layers in a CUDA graph, their time, and what the bytes of their states cost alone.
//
// A graph has one launch a layer. Layers share one slot row and one set of inputs, as in a model step, and have states of their own, at least 320 MB
// together, so that states come from memory. Time: median over replays, divided by the launches. Roof: the best of a few kernels that read and write
// the same bytes of the same slots, and do nothing else, in the same graph. Copy: cudaMemcpyAsync of 1 GB on the device.
#pragma once

#include <cuda_bf16.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "gpu_inputs.cuh"
#include "gpu_watch.cuh"

inline constexpr int64_t kMatrix = 128 * 128, kColdBytes = 320'000'000;

template <class T>
T *device_array(int64_t count) {
    void *memory;
    CHECK_CUDA(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)));
    return static_cast<T *>(memory);
}

inline __nv_bfloat16 *random_bf16(int64_t count, unsigned seed) {
    auto *const x = device_array<__nv_bfloat16>(count);
    fill_normal<<<256, 256>>>(x, count, Spread{0.f, 1.f}, seed);
    return x;
}

inline float *random_f32(int64_t count, float spread, unsigned seed) {
    auto *const x = device_array<float>(count);
    fill_normal<<<32, 256>>>(x, count, Spread{0.f, spread}, seed);
    return x;
}

// N slots in an order of chance.
inline int32_t *shuffled_slots(int N) {
    std::vector<int32_t> order(static_cast<size_t>(N));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(8));
    auto *const slots = device_array<int32_t>(N);
    CHECK_CUDA(cudaMemcpy(slots, order.data(), order.size() * sizeof order[0], cudaMemcpyHostToDevice));
    return slots;
}

// The states of all layers: for each of N sequences some rows of H matrices each.
struct LayerStates {
    int N, H;
    bool is_bf16;
    int rows_of_sequence;
    int layers;
    uint8_t *states;
    int32_t *slots;

    LayerStates(int n, int h, bool bf16, int rows = 1) : N(n), H(h), is_bf16(bf16), rows_of_sequence(rows), slots(shuffled_slots(n * rows)) {
        layers = static_cast<int>(std::clamp<int64_t>((kColdBytes + layer_bytes() - 1) / layer_bytes(), 2, 1024));
        states = device_array<uint8_t>(layer_bytes() * layers);
        CHECK_CUDA(cudaMemset(states, 0, static_cast<size_t>(layer_bytes() * layers)));
    }
    ~LayerStates() {
        cudaFree(states);
        cudaFree(slots);
    }
    LayerStates(const LayerStates &) = delete;

    int slot_count() const { return N * rows_of_sequence; }
    int64_t layer_bytes() const { return int64_t{slot_count()} * H * kMatrix * (is_bf16 ? 2 : 4); }
    int launches() const { return std::max(layers, 8); }
    uint8_t *of(int launch) const { return states + launch % layers * layer_bytes(); }
};

// ---------------------------------------------------------------- time

inline double median(std::vector<float> times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

// Microseconds of one of `launches` launches in a graph.
template <class Launch>
double time_of(int launches, int repeats, const Launch &launch) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t from, to;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < launches; i++) CHECK_CUDA(launch(i, stream));
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    CHECK_CUDA(cudaEventCreate(&from));
    CHECK_CUDA(cudaEventCreate(&to));
    std::vector<float> times;
    for (int i = 0; i < repeats + 3; i++) {
        CHECK_CUDA(cudaEventRecord(from, stream));
        CHECK_CUDA(cudaGraphLaunch(replay, stream));
        CHECK_CUDA(cudaEventRecord(to, stream));
        watch(stream);
        float ms;
        CHECK_CUDA(cudaEventElapsedTime(&ms, from, to));
        if (i >= 3) times.push_back(ms);
    }
    CHECK_CUDA(cudaGraphExecDestroy(replay));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaEventDestroy(from));
    CHECK_CUDA(cudaEventDestroy(to));
    CHECK_CUDA(cudaStreamDestroy(stream));
    return 1e3 * median(times) / launches;
}

// ---------------------------------------------------------------- the same bytes, read and written

struct Roof {
    uint4 *states;
    const int32_t *slots;
    int heads, units;  // units: of 512 bytes in a matrix
    int step, copies;  // slots from one sequence to the next; how many of them are written
    float one;
};

template <int rows_of_warp, int warps>
__global__ __launch_bounds__(32 * warps) void roof_kernel(const __grid_constant__ Roof p) {
    constexpr int kUnits = rows_of_warp * warps;
    const uint32_t per_matrix = static_cast<uint32_t>(p.units) / kUnits, matrix = blockIdx.x / per_matrix, part = blockIdx.x % per_matrix;
    asm volatile("griddepcontrol.wait;" ::: "memory");
    const uint32_t n = matrix / static_cast<uint32_t>(p.heads), h = matrix % static_cast<uint32_t>(p.heads);
    const int32_t *const slots = p.slots + int64_t{n} * p.step;
    const auto place = [&](int slot) {
        return p.states + ((int64_t{slot} * p.heads + h) * p.units + part * kUnits + threadIdx.x / 32 * rows_of_warp) * 32 + threadIdx.x % 32;
    };
    uint4 *const at = place(slots[0]);
    uint4 x[rows_of_warp];
#pragma unroll
    for (int i = 0; i < rows_of_warp; i++) x[i] = at[i * 32];
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    for (int copy = 0; copy < p.copies; copy++) {
        uint4 *const to = copy == 0 ? at : place(slots[copy]);
#pragma unroll
        for (int i = 0; i < rows_of_warp; i++) {
            x[i].x = __float_as_uint(__uint_as_float(x[i].x) * p.one);
            to[i * 32] = x[i];
        }
    }
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < rows_of_warp; i++) all |= x[i].x ^ x[i].y ^ x[i].z ^ x[i].w;
    if (p.copies == 0 && all == 0x7fffffff) at[0].x = all;  // never: what is read is used
}

template <int rows_of_warp, int warps>
cudaError_t launch_roof(const LayerStates &s, int copies, int launch, cudaStream_t stream) {
    const int units = s.is_bf16 ? 64 : 128;
    const Roof p{reinterpret_cast<uint4 *>(s.of(launch)), s.slots, s.H, units, s.rows_of_sequence, copies, 1.f};
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(s.N * s.H * (units / (rows_of_warp * warps))));
    config.blockDim = dim3(32 * warps), config.stream = stream, config.attrs = &attribute, config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, roof_kernel<rows_of_warp, warps>, p);
}

// copies: how many states are written for one that is read; 0 only reads.
inline double roof_of(const LayerStates &s, int repeats, int copies = 1) {
    const int n = s.launches();
    const double all[] = {
        time_of(n, repeats, [&](int i, cudaStream_t stream) { return launch_roof<2, 4>(s, copies, i, stream); }),
        time_of(n, repeats, [&](int i, cudaStream_t stream) { return launch_roof<4, 4>(s, copies, i, stream); }),
        time_of(n, repeats, [&](int i, cudaStream_t stream) { return launch_roof<4, 8>(s, copies, i, stream); }),
        time_of(n, repeats, [&](int i, cudaStream_t stream) { return launch_roof<8, 8>(s, copies, i, stream); }),
    };
    return *std::min_element(std::begin(all), std::end(all));
}

// Bytes read and written per microsecond.
inline double copy_rate() {
    constexpr int64_t kBytes = 1 << 30;
    auto *const from = device_array<uint8_t>(kBytes), *const to = device_array<uint8_t>(kBytes);
    cudaEvent_t begin, end;
    CHECK_CUDA(cudaEventCreate(&begin));
    CHECK_CUDA(cudaEventCreate(&end));
    std::vector<float> times;
    for (int i = 0; i < 12; i++) {
        CHECK_CUDA(cudaEventRecord(begin));
        CHECK_CUDA(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice));
        CHECK_CUDA(cudaEventRecord(end));
        CHECK_CUDA(cudaEventSynchronize(end));
        float ms;
        CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
        if (i >= 2) times.push_back(ms);
    }
    cudaFree(from);
    cudaFree(to);
    return 2.0 * kBytes / (1e3 * median(times));
}

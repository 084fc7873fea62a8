// decode_time.cu: the decode kernel in a CUDA graph, one launch for each layer of a model, beside what its bytes cost alone.
//
//     decode_time [repeats] [first row] [rows]
//
// A graph has one launch a layer. Layers share one slot row and one set of inputs, as in a model step, and have states of their own, at least 320 MB
// together, so that states come from memory. Time: median over replays, divided by the launches. Roof: the best of a few kernels that read and write
// the same bytes of the same slots in place, and do nothing else, in the same graph; of rows that only read states, one that only reads. Copy:
// cudaMemcpyAsync of 1 GB on the device. A row has a commit: last; none; half (num_accepted, the first half of the tokens); fold (the same without out);
// each (every token's state to a slot of its own). The columns behind "us" are the other shapes of the kernel. The targets are those of an H200.
#include <cuda_bf16.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "decode/decode_launch.h"
#include "gpu_inputs.cuh"
#include "gpu_watch.cuh"

namespace {

constexpr int kMostTokens = FKDAI_DECODE_MAX_TOKENS;
constexpr int64_t kMatrix = 128 * 128, kColdBytes = 320'000'000;

enum class Commit { LAST, NONE, HALF, FOLD, EACH };
const char *const commit_names[] = {"last", "none", "half", "fold", "each"};

struct Row {
    int N, H, S;
    bool is_bf16, is_k_first;
    Commit commit;
    double target;  // us; 0: none
};
constexpr Commit L = Commit::LAST, R = Commit::NONE;
const Row rows[] = {
    {1, 8, 1, false, false, L, 2.0},      {1, 12, 1, false, false, L, 2.1},    {1, 32, 1, false, false, L, 2.7},     {1, 96, 1, false, false, L, 4.7},
    {8, 32, 1, false, false, L, 10.0},    {64, 32, 1, false, false, L, 70.5},  {256, 32, 1, false, false, L, 273},   {1024, 32, 1, false, false, L, 1080},
    {64, 12, 1, false, false, L, 27.8},   {1024, 12, 1, false, false, L, 414}, {64, 96, 1, false, false, L, 204},    {256, 96, 1, false, false, L, 801},
    {1, 32, 1, true, false, L, 0},        {8, 32, 1, true, false, L, 0},       {64, 32, 1, true, false, L, 0},       {256, 32, 1, true, false, L, 0},
    {256, 96, 1, true, false, L, 0},      {64, 32, 1, false, true, L, 0},      {64, 32, 1, true, true, L, 0},        {64, 32, 2, false, false, L, 0},
    {64, 32, 3, false, false, L, 0},      {64, 32, 4, false, false, L, 76},    {64, 32, 5, false, false, L, 0},      {64, 32, 6, false, false, L, 0},
    {64, 32, 8, false, false, L, 93},     {1, 32, 4, false, false, L, 0},      {1, 32, 8, false, false, L, 0},       {8, 32, 4, false, false, L, 0},
    {64, 12, 4, false, false, L, 0},      {64, 32, 4, true, false, L, 0},      {64, 32, 8, true, false, L, 0},       {64, 32, 1, false, false, R, 0},
    {64, 32, 2, false, false, R, 0},      {64, 32, 4, false, false, R, 0},     {64, 32, 6, false, false, R, 0},      {64, 32, 8, false, false, R, 63},
    {1, 32, 8, false, false, R, 0},       {64, 32, 8, true, false, R, 0},      {64, 32, 8, false, false, Commit::HALF, 0},
    {64, 32, 8, false, false, Commit::FOLD, 0}, {64, 32, 4, false, false, Commit::FOLD, 0}, {64, 32, 4, false, false, Commit::EACH, 0},
    {64, 32, 8, false, false, Commit::EACH, 0}, {1, 32, 4, false, false, Commit::EACH, 0},
};

template <class T>
T *device_array(int64_t count) {
    void *memory;
    CHECK_CUDA(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)));
    return static_cast<T *>(memory);
}

// Everything that the launches of one row share, and the states of all layers.
struct Problem {
    Row row;
    int layers;
    int64_t state_elements;  // of a layer
    uint8_t *states;
    __nv_bfloat16 *q, *k, *v, *g, *beta, *out;
    float *A_log, *dt_bias;
    int32_t *slots, *accepted;

    explicit Problem(const Row &of) : row(of), state_elements(int64_t{of.N} * of.H * kMatrix * columns()) {
        const int64_t bytes = layer_bytes(), tokens = int64_t{row.N} * row.S * row.H;
        layers = static_cast<int>(std::clamp<int64_t>((kColdBytes + bytes - 1) / bytes, 2, 1024));
        states = device_array<uint8_t>(bytes * layers);
        CHECK_CUDA(cudaMemset(states, 0, static_cast<size_t>(bytes * layers)));
        q = input(tokens * 128, 1), k = input(tokens * 128, 2), v = input(tokens * 128, 3), g = input(tokens * 128, 4), beta = input(tokens, 5);
        out = device_array<__nv_bfloat16>(tokens * 128);
        A_log = device_array<float>(row.H), dt_bias = device_array<float>(row.H * 128);
        fill_normal<<<32, 256>>>(A_log, row.H, Spread{0.f, 0.3f}, 6);
        fill_normal<<<32, 256>>>(dt_bias, row.H * 128, Spread{0.f, 0.5f}, 7);
        std::vector<int32_t> order(static_cast<size_t>(slot_count()));
        std::iota(order.begin(), order.end(), 0);
        std::shuffle(order.begin(), order.end(), std::mt19937(8));
        slots = device_array<int32_t>(slot_count());
        CHECK_CUDA(cudaMemcpy(slots, order.data(), order.size() * sizeof order[0], cudaMemcpyHostToDevice));
        const std::vector<int32_t> half(static_cast<size_t>(row.N), (row.S + 1) / 2);
        accepted = device_array<int32_t>(row.N);
        CHECK_CUDA(cudaMemcpy(accepted, half.data(), half.size() * sizeof half[0], cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaDeviceSynchronize());
    }
    ~Problem() {
        void *const all[] = {states, q, k, v, g, beta, out, A_log, dt_bias, slots, accepted};
        for (void *memory : all) cudaFree(memory);
    }
    Problem(const Problem &) = delete;

    int columns() const { return row.commit == Commit::EACH ? row.S : 1; }    // slots of a sequence
    int slot_count() const { return row.N * columns(); }
    int64_t layer_bytes() const { return state_elements * (row.is_bf16 ? 2 : 4); }
    int launches() const { return std::max(layers, 8); }
    void *states_of(int launch) const { return states + launch % layers * layer_bytes(); }

    static __nv_bfloat16 *input(int64_t count, unsigned seed) {
        auto *const x = device_array<__nv_bfloat16>(count);
        fill_normal<<<256, 256>>>(x, count, Spread{0.f, 1.f}, seed);
        return x;
    }

    fkdai_decode_tensor tensor(const void *data, int64_t width) const {
        return {const_cast<void *>(data), row.S * row.H * width, row.H * width, width, 0};
    }
    fkdai_decode_call call(int launch, fkdai_decode_shape shape) const {
        fkdai_decode_call c{};
        c.q = tensor(q, 128), c.k = tensor(k, 128), c.v = tensor(v, 128), c.g = tensor(g, 128), c.beta = tensor(beta, 1), c.out = tensor(out, 128);
        c.A_log = {A_log, 1}, c.dt_bias = {dt_bias, 1}, c.slots = {slots, 0}, c.slot_span = static_cast<uint32_t>(slot_count());
        c.state = states_of(launch), c.row_stride = row.H * kMatrix;
        c.gate = FKDAI_DECODE_BOUNDED, c.T = row.S, c.S = row.S, c.HV = row.H;
        c.by_heads = fkdai_decode_make_divisor(static_cast<uint32_t>(row.H)), c.by_group = fkdai_decode_make_divisor(1);
        c.is_normalised = 1, c.beta_multiplier = 1, c.lower_bound = -5.f, c.scale = 0.08838835f;
        static const fkdai_decode_commit commits[] = {FKDAI_DECODE_LAST, FKDAI_DECODE_NONE, FKDAI_DECODE_ACCEPTED, FKDAI_DECODE_ACCEPTED, FKDAI_DECODE_EACH};
        c.commit = commits[static_cast<int>(row.commit)], c.slots_stride = c.slots_per_sequence = columns();
        if (c.commit == FKDAI_DECODE_ACCEPTED) c.num_accepted = {accepted, 0};
        if (row.commit == Commit::FOLD) c.only_accepted = 1, c.out.data = nullptr;
        c.grid.shape = shape, c.grid.is_bf16_state = row.is_bf16, c.grid.is_k_first = row.is_k_first, c.grid.has_plain_input = 1, c.grid.is_programmatic = 1;
        c.grid.blocks = static_cast<uint32_t>(row.N * row.H * fkdai_decode_blocks_per_state(shape, row.is_bf16));
        return c;
    }
};

// ---------------------------------------------------------------- the same bytes, read and written

struct Roof {
    uint4 *states;
    const int32_t *slots;
    int heads, units;   // units: of 512 bytes in a matrix
    int step, copies;   // of slots, from one sequence to the next; how many are written: 0: none
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
cudaError_t launch_roof(const Problem &problem, int launch, cudaStream_t stream) {
    const int units = problem.row.is_bf16 ? 64 : 128;
    const int copies = problem.row.commit == Commit::NONE ? 0 : problem.columns();
    const Roof p{static_cast<uint4 *>(problem.states_of(launch)), problem.slots, problem.row.H, units, problem.columns(), copies, 1.f};
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(problem.row.N * problem.row.H * (units / (rows_of_warp * warps))));
    config.blockDim = dim3(32 * warps), config.stream = stream, config.attrs = &attribute, config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, roof_kernel<rows_of_warp, warps>, p);
}

// ---------------------------------------------------------------- time

double median(std::vector<float> times) {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

// Microseconds of one launch in a graph of all layers.
template <class Launch>
double time_of(const Problem &problem, int repeats, const Launch &launch) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t from, to;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    for (int i = 0; i < problem.launches(); i++) CHECK_CUDA(launch(i, stream));
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
    return 1e3 * median(times) / problem.launches();
}

double roof_of(const Problem &p, int repeats) {
    const double all[] = {
        time_of(p, repeats, [&](int i, cudaStream_t s) { return launch_roof<2, 4>(p, i, s); }),
        time_of(p, repeats, [&](int i, cudaStream_t s) { return launch_roof<4, 4>(p, i, s); }),
        time_of(p, repeats, [&](int i, cudaStream_t s) { return launch_roof<4, 8>(p, i, s); }),
        time_of(p, repeats, [&](int i, cudaStream_t s) { return launch_roof<8, 8>(p, i, s); }),
    };
    return *std::min_element(std::begin(all), std::end(all));
}

// Bytes read and written per microsecond.
double copy_rate() {
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

}  // namespace

int main(int argc, char **argv) {
    multiprocessors_or_skip("decode_time");
    const int count = static_cast<int>(std::size(rows)), repeats = argc > 1 ? atoi(argv[1]) : 21;
    const int first = argc > 2 ? atoi(argv[2]) : 0, last = argc > 3 ? std::min(count, first + atoi(argv[3])) : count;
    static_assert(kMostTokens == 8);
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(fkdai_decode_load());
    const double copy = copy_rate();
    printf("%s, copy %.3f TB/s, median of %d replays\n", properties.name, copy * 1e-6, repeats);
    const char *const shape_names[] = {"one", "few", "many", "whole"};
    constexpr int kShapes = FKDAI_DECODE_STEPS;
    printf("%3s %5s %3s  %-9s %2s %-6s  %9s %9s %7s  shapes:", "row", "N", "H", "state", "S", "commit", "us", "roof us", "% roof");
    for (const char *name : shape_names) printf(" %8s", name);
    printf(" %8s\n", "target");
    static_assert(std::size(shape_names) == kShapes);
    for (int i = first; i < last; i++) {
        const Problem p(rows[i]);
        const bool is_each = rows[i].commit == Commit::EACH;
        const fkdai_decode_request request{rows[i].N, rows[i].H, rows[i].S, is_each, rows[i].is_bf16, rows[i].is_k_first, 1};
        const fkdai_decode_shape planned = fkdai_decode_make_grid(&request, 9).shape;
        double us[FKDAI_DECODE_SHAPES] = {};
        const auto time_shape = [&](int shape) {
            watched = "the decode kernel";
            us[shape] = time_of(p, repeats, [&](int layer, cudaStream_t s) {
                const fkdai_decode_call call = p.call(layer, static_cast<fkdai_decode_shape>(shape));
                return static_cast<cudaError_t>(fkdai_decode_launch(&call, s));
            });
        };
        if (is_each) time_shape(FKDAI_DECODE_STEPS);
        else for (int shape = rows[i].S == 1 ? FKDAI_DECODE_ONE : FKDAI_DECODE_FEW; shape < kShapes; shape++) time_shape(shape);
        watched = "the roof";
        const double roof = roof_of(p, repeats), took = us[planned];
        printf("%3d %5d %3d  %-9s %2d %-6s  %9.2f %9.2f %7.1f  %7s", i, rows[i].N, rows[i].H,
               rows[i].is_bf16 ? (rows[i].is_k_first ? "bf16 [K,V]" : "bf16") : (rows[i].is_k_first ? "f32 [K,V]" : "f32"), rows[i].S,
               commit_names[static_cast<int>(rows[i].commit)], took, roof, 100 * roof / took, "");
        for (int shape = 0; shape < kShapes; shape++) {
            if (us[shape] > 0) printf(" %8.2f", us[shape]);
            else printf(" %8s", "-");
        }
        if (rows[i].target > 0) printf(" %8.1f%s", rows[i].target, took <= rows[i].target ? "" : "  MISSED");
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

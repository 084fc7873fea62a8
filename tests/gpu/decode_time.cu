// decode_time.cu: the decode kernel in a CUDA graph, one launch for each layer of a model, beside what its bytes cost alone.
//
//     decode_time [repeats] [first row] [rows]
//
// graph_time.cuh says what is measured, and what roof and copy are. Some: the shape for more tokens, also where there is one. The targets are those of
// an H200.
#include "decode/decode_launch.h"
#include "graph_time.cuh"

namespace {

constexpr int kMostTokens = FKDAI_DECODE_MAX_TOKENS;

struct Row {
    int N, H, S;
    bool is_bf16, is_k_first;
    double target;  // us; 0: none
};
const Row rows[] = {
    {1, 8, 1, false, false, 2.0},     {1, 12, 1, false, false, 2.1},   {1, 32, 1, false, false, 2.7},      {1, 96, 1, false, false, 4.7},
    {8, 32, 1, false, false, 10.0},   {64, 32, 1, false, false, 70.5}, {256, 32, 1, false, false, 273},    {1024, 32, 1, false, false, 1080},
    {64, 12, 1, false, false, 27.8},  {1024, 12, 1, false, false, 414}, {64, 96, 1, false, false, 204},    {256, 96, 1, false, false, 801},
    {1, 32, 1, true, false, 0},       {8, 32, 1, true, false, 0},      {64, 32, 1, true, false, 0},        {256, 32, 1, true, false, 0},
    {256, 96, 1, true, false, 0},     {64, 32, 1, false, true, 0},     {64, 32, 1, true, true, 0},         {64, 32, 2, false, false, 0},
    {64, 32, 3, false, false, 0},     {64, 32, 4, false, false, 76},   {64, 32, 6, false, false, 0},       {64, 32, 8, false, false, 93},
    {1, 32, 4, false, false, 0},      {1, 32, 8, false, false, 0},     {64, 32, 4, true, false, 0},        {64, 32, 8, true, false, 0},
};

// Everything that the launches of one row share, and the states of all layers.
struct Problem {
    Row row;
    LayerStates states;
    __nv_bfloat16 *q, *k, *v, *g, *beta, *out;
    float *A_log, *dt_bias;

    explicit Problem(const Row &of) : row(of), states(of.N, of.H, of.is_bf16) {
        const int64_t tokens = int64_t{row.N} * row.S * row.H;
        q = random_bf16(tokens * 128, 1), k = random_bf16(tokens * 128, 2), v = random_bf16(tokens * 128, 3), g = random_bf16(tokens * 128, 4);
        beta = random_bf16(tokens, 5), out = device_array<__nv_bfloat16>(tokens * 128);
        A_log = random_f32(row.H, 0.3f, 6), dt_bias = random_f32(row.H * 128, 0.5f, 7);
        CHECK_CUDA(cudaDeviceSynchronize());
    }
    ~Problem() {
        void *const all[] = {q, k, v, g, beta, out, A_log, dt_bias};
        for (void *memory : all) cudaFree(memory);
    }
    Problem(const Problem &) = delete;

    fkdai_decode_tensor tensor(const void *data, int64_t width) const {
        return {const_cast<void *>(data), row.S * row.H * width, row.H * width, width, 0};
    }
    fkdai_decode_call call(int launch, fkdai_decode_shape shape) const {
        fkdai_decode_call c{};
        c.q = tensor(q, 128), c.k = tensor(k, 128), c.v = tensor(v, 128), c.g = tensor(g, 128), c.beta = tensor(beta, 1), c.out = tensor(out, 128);
        c.A_log = {A_log, 1}, c.dt_bias = {dt_bias, 1}, c.slots = {states.slots, 0}, c.slot_count = row.N;
        c.state = states.of(launch), c.row_stride = row.H * kMatrix;
        c.gate = FKDAI_DECODE_BOUNDED, c.T = row.S, c.S = row.S, c.HV = row.H;
        c.by_heads = fkdai_decode_make_divisor(static_cast<uint32_t>(row.H)), c.by_group = fkdai_decode_make_divisor(1);
        c.is_normalised = 1, c.beta_multiplier = 1, c.lower_bound = -5.f, c.scale = 0.08838835f;
        c.grid = fkdai_decode_make_grid(row.N, row.H, shape == FKDAI_DECODE_ONE ? 1 : 2, row.is_bf16, row.is_k_first, 9);
        return c;
    }
};

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
    printf("%3s %5s %3s  %-9s %8s %7s  %9s %9s %7s %7s %9s %8s\n", "row", "N", "H", "state", "MB", "tokens", "us", "roof us", "% roof", "% copy", "some us",
           "target");
    for (int i = first; i < last; i++) {
        const Problem p(rows[i]);
        const auto time_shape = [&](fkdai_decode_shape shape) {
            watched = "the decode kernel";
            return time_of(p.states.launches(), repeats, [&](int layer, cudaStream_t s) {
                const fkdai_decode_call call = p.call(layer, shape);
                return static_cast<cudaError_t>(fkdai_decode_launch(&call, s));
            });
        };
        const double some = time_shape(FKDAI_DECODE_SOME), us = rows[i].S == 1 ? time_shape(FKDAI_DECODE_ONE) : some;
        watched = "the roof";
        const double roof = roof_of(p.states, repeats), megabytes = static_cast<double>(p.states.layer_bytes()) * 1e-6;
        printf("%3d %5d %3d  %-9s %8.1f %7d  %9.2f %9.2f %7.1f %7.1f %9.2f", i, rows[i].N, rows[i].H,
               rows[i].is_bf16 ? (rows[i].is_k_first ? "bf16 [K,V]" : "bf16") : (rows[i].is_k_first ? "f32 [K,V]" : "f32"), megabytes, rows[i].S, us, roof,
               100 * roof / us, 100 * 2e6 * megabytes / copy / us, some);
        if (rows[i].target > 0) printf(" %8.1f%s", rows[i].target, us <= rows[i].target ? "" : "  MISSED");
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

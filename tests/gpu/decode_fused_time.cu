// decode_fused_time.cu: the kernel of fkda_decode_fused in a CUDA graph, one launch for each layer of a model, beside what its bytes cost alone.
//
//     decode_fused_time [repeats] [first row] [rows]
//
// graph_time.cuh says what is measured. Taps of the convolution are a layer's own, as states are; weights are shared. Roof: that of the states times the
// bytes that a block moves to and from memory over those of its state. Step: without convolution and norm. The targets are those of an H200.
#include "decode_fused/decode_fused_launch.h"
#include "graph_time.cuh"

namespace {

struct Row {
    int N, H;
    bool is_bf16, is_columns;  // states; taps as [slot,C,3], not [slot,3,C]
    double target;             // us; 0: none
};
const Row rows[] = {
    {1, 12, false, false, 4.5},   {8, 12, false, false, 7.7},   {16, 12, false, false, 0},   {32, 12, false, false, 0},    {64, 12, false, false, 31},
    {256, 12, false, false, 116}, {1, 32, false, false, 0},     {8, 32, false, false, 0},    {64, 32, false, false, 0},    {256, 32, false, false, 0},
    {1, 96, false, false, 7.9},   {64, 96, false, false, 227},  {256, 96, false, false, 880}, {1, 12, false, true, 4.5},   {64, 12, false, true, 31},
    {256, 96, false, true, 880},  {1, 12, true, false, 0},      {64, 12, true, false, 0},    {256, 96, true, false, 0},
};

// Everything that the launches of one row share, and what all layers have.
struct Problem {
    Row row;
    LayerStates states;
    int64_t channels;
    __nv_bfloat16 *x, *g, *beta, *output_gate, *out, *taps;
    float *A_log, *dt_bias, *weight, *norm_weight;

    explicit Problem(const Row &of) : row(of), states(of.N, of.H, of.is_bf16), channels(3 * int64_t{of.H} * 128) {
        const int64_t width = int64_t{row.N} * row.H * 128;
        x = random_bf16(3 * width, 1), g = random_bf16(width, 4), beta = random_bf16(int64_t{row.N} * row.H, 5), output_gate = random_bf16(width, 9);
        out = device_array<__nv_bfloat16>(width), taps = random_bf16(states.layers * layer_taps(), 10);
        A_log = random_f32(row.H, 0.3f, 6), dt_bias = random_f32(row.H * 128, 0.5f, 7);
        weight = random_f32(4 * channels, 0.5f, 11), norm_weight = random_f32(128, 1.f, 12);
        CHECK_CUDA(cudaDeviceSynchronize());
    }
    ~Problem() {
        void *const all[] = {x, g, beta, output_gate, out, taps, A_log, dt_bias, weight, norm_weight};
        for (void *memory : all) cudaFree(memory);
    }
    Problem(const Problem &) = delete;

    int64_t layer_taps() const { return int64_t{row.N} * 3 * channels; }
    fkdai_fused_tensor tensor(const void *data, int64_t row_elements, int64_t width) const { return {const_cast<void *>(data), row_elements, width, 0}; }

    fkdai_fused_conv conv(int launch) const {
        fkdai_fused_conv c{};
        for (int part = 0; part < 3; part++) c.weight[part] = weight + 4 * part * int64_t{row.H} * 128;
        c.is_weight_f32 = 1, c.weight_tap = int64_t{row.H} * 128, c.weight_head = 128;
        c.taps = taps + launch % states.layers * layer_taps(), c.row = 3 * channels;
        c.tap = row.is_columns ? 1 : channels, c.channel = row.is_columns ? 3 : 1, c.lie = fkdai_fused_choose_taps(c.row, c.tap, c.channel);
        return c;
    }

    fkdai_fused_call call(int launch, bool is_whole) const {
        const int64_t width = int64_t{row.H} * 128;
        fkdai_fused_call c{};
        for (int part = 0; part < 3; part++) c.x[part] = tensor(x + part * width, 3 * width, 128);
        c.g = tensor(g, width, 128), c.beta = tensor(beta, row.H, 1), c.out = tensor(out, width, 128);
        if (is_whole) c.output_gate = tensor(output_gate, width, 128), c.norm_weight = {norm_weight, 1}, c.conv = conv(launch);
        c.A_log = {A_log, 1}, c.dt_bias = {dt_bias, 1};
        c.state = states.of(launch), c.row_stride = row.H * kMatrix, c.slots = states.slots, c.slot_count = row.N;
        c.gate = FKDAI_FUSED_BOUNDED, c.H = row.H, c.is_normalised = 1, c.beta_multiplier = 1, c.lower_bound = -5.f, c.scale = 0.08838835f, c.norm_eps = 1e-5f;
        c.grid = fkdai_fused_make_grid(row.N, row.H, row.is_bf16, 0, 9);
        return c;
    }
};

// Bytes that a block moves to and from memory: state and taps both ways; x, gates, out.
double bytes_over_state(bool is_bf16) {
    const double state = 2.0 * kMatrix * (is_bf16 ? 2 : 4), taps = 2 * 3 * 3 * 128 * 2, rows_of_128 = 6 * 128 * 2;
    return (state + taps + rows_of_128) / state;
}

}  // namespace

int main(int argc, char **argv) {
    multiprocessors_or_skip("decode_fused_time");
    const int count = static_cast<int>(std::size(rows)), repeats = argc > 1 ? atoi(argv[1]) : 21;
    const int first = argc > 2 ? atoi(argv[2]) : 0, last = argc > 3 ? std::min(count, first + atoi(argv[3])) : count;
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(fkdai_decode_fused_load());
    const double copy = copy_rate();
    printf("%s, copy %.3f TB/s, median of %d replays\n", properties.name, copy * 1e-6, repeats);
    printf("%3s %5s %3s  %-10s %-8s %8s  %9s %9s %7s %9s %8s\n", "row", "N", "H", "state", "taps", "MB", "us", "roof us", "% roof", "step us", "target");
    for (int i = first; i < last; i++) {
        const Problem p(rows[i]);
        const auto time_parts = [&](bool is_whole) {
            watched = "the kernel of decode_fused";
            return time_of(p.states.launches(), repeats, [&](int layer, cudaStream_t s) {
                const fkdai_fused_call call = p.call(layer, is_whole);
                return static_cast<cudaError_t>(fkdai_decode_fused_launch(&call, s));
            });
        };
        const double us = time_parts(true), step = time_parts(false);
        watched = "the roof";
        const double roof = roof_of(p.states, repeats) * bytes_over_state(rows[i].is_bf16), megabytes = static_cast<double>(p.states.layer_bytes()) * 1e-6;
        printf("%3d %5d %3d  %-10s %-8s %8.1f  %9.2f %9.2f %7.1f %9.2f", i, rows[i].N, rows[i].H, rows[i].is_bf16 ? "bf16" : "f32",
               rows[i].is_columns ? "[C,3]" : "[3,C]", megabytes, us, roof, 100 * roof / us, step);
        if (rows[i].target > 0) printf(" %8.1f%s", rows[i].target, us <= rows[i].target ? "" : "  MISSED");
        printf("\n");
        fflush(stdout);
    }
    return 0;
}

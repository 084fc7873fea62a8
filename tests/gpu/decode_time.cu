// decode_time.cu: the decode kernel in a CUDA graph, one launch for each layer of a model, beside what its bytes cost alone.
//
//     decode_time [repeats] [first row] [rows]
//
// graph_time.cuh says what is measured, and what roof and copy are. A row has a commit: last; none; half (num_accepted, the first half of the tokens);
// fold (the same without out); each (every token's state to a slot of its own). The columns behind "us" are the other shapes of the kernel. The targets
// are those of an H200.
#include "decode/decode_launch.h"
#include "graph_time.cuh"

namespace {

constexpr int kMostTokens = FKDAI_DECODE_MAX_TOKENS;

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

// Everything that the launches of one row share, and the states of all layers.
struct Problem {
    Row row;
    LayerStates states;
    __nv_bfloat16 *q, *k, *v, *g, *beta, *out;
    float *A_log, *dt_bias;
    int32_t *accepted;

    explicit Problem(const Row &of) : row(of), states(of.N, of.H, of.is_bf16, of.commit == Commit::EACH ? of.S : 1) {
        const int64_t tokens = int64_t{row.N} * row.S * row.H;
        q = random_bf16(tokens * 128, 1), k = random_bf16(tokens * 128, 2), v = random_bf16(tokens * 128, 3), g = random_bf16(tokens * 128, 4);
        beta = random_bf16(tokens, 5), out = device_array<__nv_bfloat16>(tokens * 128);
        A_log = random_f32(row.H, 0.3f, 6), dt_bias = random_f32(row.H * 128, 0.5f, 7);
        const std::vector<int32_t> half(static_cast<size_t>(row.N), (row.S + 1) / 2);
        accepted = device_array<int32_t>(row.N);
        CHECK_CUDA(cudaMemcpy(accepted, half.data(), half.size() * sizeof half[0], cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaDeviceSynchronize());
    }
    ~Problem() {
        void *const all[] = {q, k, v, g, beta, out, A_log, dt_bias, accepted};
        for (void *memory : all) cudaFree(memory);
    }
    Problem(const Problem &) = delete;

    fkdai_decode_tensor tensor(const void *data, int64_t width) const {
        return {const_cast<void *>(data), row.S * row.H * width, row.H * width, width, 0};
    }
    fkdai_decode_call call(int launch, fkdai_decode_shape shape, int is_early) const {
        fkdai_decode_call c{};
        c.q = tensor(q, 128), c.k = tensor(k, 128), c.v = tensor(v, 128), c.g = tensor(g, 128), c.beta = tensor(beta, 1), c.out = tensor(out, 128);
        c.A_log = {A_log, 1}, c.dt_bias = {dt_bias, 1}, c.slots = {states.slots, 0}, c.slot_span = static_cast<uint32_t>(states.slot_count());
        c.state = states.of(launch), c.row_stride = row.H * kMatrix;
        c.gate = FKDAI_DECODE_BOUNDED, c.T = row.S, c.S = row.S, c.HV = row.H;
        c.by_heads = fkdai_decode_make_divisor(static_cast<uint32_t>(row.H)), c.by_group = fkdai_decode_make_divisor(1);
        c.is_normalised = 1, c.beta_multiplier = 1, c.lower_bound = -5.f, c.scale = 0.08838835f;
        static const fkdai_decode_commit commits[] = {FKDAI_DECODE_LAST, FKDAI_DECODE_NONE, FKDAI_DECODE_ACCEPTED, FKDAI_DECODE_ACCEPTED, FKDAI_DECODE_EACH};
        c.commit = commits[static_cast<int>(row.commit)], c.slots_stride = c.slots_per_sequence = states.rows_of_sequence;
        if (c.commit == FKDAI_DECODE_ACCEPTED) c.num_accepted = {accepted, 0};
        if (row.commit == Commit::FOLD) c.only_accepted = 1, c.out.data = nullptr;
        c.grid.shape = shape, c.grid.is_bf16_state = row.is_bf16, c.grid.is_k_first = row.is_k_first, c.grid.is_programmatic = 1, c.grid.is_early = is_early;
        c.grid.has_plain_input = fkdai_decode_is_built(shape, row.is_bf16, row.is_k_first, 1);
        c.grid.blocks = static_cast<uint32_t>(row.N * row.H * fkdai_decode_blocks_per_state(shape, row.is_bf16));
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
    const char *const shape_names[] = {"one", "few", "many", "chunk"};
    constexpr int kShapes = FKDAI_DECODE_STEPS;
    printf("%3s %5s %3s  %-9s %2s %-6s  %9s %9s %7s  shapes:", "row", "N", "H", "state", "S", "commit", "us", "roof us", "% roof");
    for (const char *name : shape_names) printf(" %8s", name);
    printf(" %8s\n", "target");
    static_assert(std::size(shape_names) == kShapes);
    for (int i = first; i < last; i++) {
        const Problem p(rows[i]);
        const bool is_each = rows[i].commit == Commit::EACH;
        const fkdai_decode_request request{rows[i].N, rows[i].H, rows[i].S, is_each, rows[i].commit == Commit::NONE, rows[i].is_bf16, rows[i].is_k_first, 1};
        const fkdai_decode_grid grid = fkdai_decode_make_grid(&request, 9);
        const fkdai_decode_shape planned = grid.shape;
        double us[FKDAI_DECODE_SHAPES] = {};
        const auto time_shape = [&](int shape) {
            watched = "the decode kernel";
            us[shape] = time_of(p.states.launches(), repeats, [&](int layer, cudaStream_t s) {
                const fkdai_decode_call call = p.call(layer, static_cast<fkdai_decode_shape>(shape), grid.is_early);
                return static_cast<cudaError_t>(fkdai_decode_launch(&call, s));
            });
        };
        if (is_each) time_shape(FKDAI_DECODE_STEPS);
        const int end = is_each ? 0 : rows[i].commit == Commit::NONE ? kShapes : FKDAI_DECODE_CHUNK;
        for (int shape = rows[i].S == 1 ? FKDAI_DECODE_ONE : FKDAI_DECODE_FEW; shape < end; shape++)
            if (fkdai_decode_is_built(static_cast<fkdai_decode_shape>(shape), rows[i].is_bf16, rows[i].is_k_first, 1)) time_shape(shape);
        watched = "the roof";
        const double roof = roof_of(p.states, repeats, rows[i].commit == Commit::NONE ? 0 : p.states.rows_of_sequence), took = us[planned];
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

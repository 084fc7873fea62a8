// decode_time.cu: the decode kernel in a CUDA graph, one launch for each layer of a model, beside what its bytes cost alone.
//
//     decode_time [repeats] [first row] [rows]
//
// graph_time.cuh says what is measured, and what roof and copy are. A row has a commit: last; none; half (num_accepted, the first half of the tokens);
// fold (the same without out); each (every token's state to a slot of its own). "us" is what the plan chooses; behind it are all shapes of the kernel that
// can run the row, those that guess their slots early with a star. The targets are those of an H200.
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
    {8, 32, 8, false, false, L, 0},       {8, 32, 8, false, false, R, 0},      {16, 32, 8, false, false, L, 0},      {16, 32, 8, false, false, R, 0},
    {256, 32, 8, false, false, L, 0},     {256, 32, 8, false, false, R, 0},      {1, 64, 1, false, false, L, 0},       {64, 12, 1, true, false, L, 0},
    {32, 32, 1, true, false, L, 0},       {1, 32, 4, false, false, R, 0},        {8, 32, 4, false, false, R, 0},       {64, 12, 8, false, false, L, 0},
    {64, 12, 8, false, false, R, 0},      {1, 32, 6, false, false, L, 0},        {8, 32, 6, false, false, L, 0},
    {2, 32, 8, false, false, L, 0},       {4, 32, 8, false, false, L, 0},        {4, 32, 8, false, false, R, 0},       {5, 32, 8, false, false, L, 0},
    {1, 32, 8, true, false, L, 0},        {4, 32, 8, true, false, L, 0},         {4, 32, 8, true, false, R, 0},        {4, 32, 1, false, false, L, 0},
    {12, 32, 1, false, false, L, 0},      {1, 32, 2, false, false, L, 0},        {1, 32, 2, false, false, R, 0},       {1, 32, 3, false, false, R, 0},
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
    fkdai_decode_call call(int launch, fkdai_decode_shape shape, int is_early, int multiprocessors) const {
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
        c.grid.has_plain_input = fkdai_decode_is_built(shape, row.is_bf16, row.is_k_first, 1, is_early, 9);
        c.grid.states = static_cast<uint32_t>(row.N * row.H);
        c.grid.blocks = shape == FKDAI_DECODE_PERSISTENT ? std::min(c.grid.states, static_cast<uint32_t>(multiprocessors))
                                                         : c.grid.states * static_cast<uint32_t>(fkdai_decode_blocks_per_state(shape, row.is_bf16));
        return c;
    }
};

// A way to run a row.
struct Way {
    const char *name;
    fkdai_decode_shape shape;
    int is_early;
};
const Way ways[] = {{"small*", FKDAI_DECODE_ONE_SMALL, 1}, {"one*", FKDAI_DECODE_ONE, 1},    {"some", FKDAI_DECODE_ONE_SOME, 0}, {"few*", FKDAI_DECODE_FEW, 1},
                    {"many", FKDAI_DECODE_MANY, 0},        {"many*", FKDAI_DECODE_MANY, 1},  {"half*", FKDAI_DECODE_CHUNK_HALF, 1}, {"chunk", FKDAI_DECODE_CHUNK, 0},
                    {"chunk*", FKDAI_DECODE_CHUNK, 1},     {"stay*", FKDAI_DECODE_PERSISTENT, 1}, {"steps", FKDAI_DECODE_STEPS, 0}};

bool can_run(const Row &row, const Way &way) {
    if (!fkdai_decode_is_built(way.shape, row.is_bf16, row.is_k_first, way.shape != FKDAI_DECODE_STEPS, way.is_early, 9)) return false;
    if (row.commit == Commit::EACH || way.shape == FKDAI_DECODE_STEPS) return row.commit == Commit::EACH && way.shape == FKDAI_DECODE_STEPS;
    if (way.shape == FKDAI_DECODE_CHUNK || way.shape == FKDAI_DECODE_CHUNK_HALF || way.shape == FKDAI_DECODE_PERSISTENT)
        return row.S > 1 && (row.commit == L || row.commit == R);
    return row.S == 1 || way.shape == FKDAI_DECODE_FEW || way.shape == FKDAI_DECODE_MANY;
}

fkdai_decode_request request_of(const Row &row) {
    fkdai_decode_request r{};
    r.N = row.N, r.HV = row.H, r.S = row.S, r.writes_steps = row.commit == Commit::EACH, r.is_read_only = row.commit == R, r.writes_last = row.commit == L;
    r.is_bf16_state = row.is_bf16, r.is_k_first = row.is_k_first, r.has_plain_input = 1;
    return r;
}

void print_head() {
    printf("%3s %5s %3s  %-9s %2s %-6s  %9s %9s %7s ", "row", "N", "H", "state", "S", "commit", "us", "roof us", "% roof");
    for (const Way &way : ways) printf(" %8s", way.name);
    printf(" %8s\n", "target");
}

void time_row(int number, int repeats, int multiprocessors) {
    const Row &row = rows[number];
    const Problem p(row);
    const fkdai_decode_request request = request_of(row);
    const fkdai_decode_grid grid = fkdai_decode_make_grid(&request, 9, multiprocessors);
    double us[std::size(ways)] = {}, took = 0;
    watched = "the decode kernel";
    for (size_t i = 0; i < std::size(ways); i++) {
        if (!can_run(row, ways[i])) continue;
        us[i] = time_of(p.states.launches(), repeats, [&](int layer, cudaStream_t s) {
            const fkdai_decode_call call = p.call(layer, ways[i].shape, ways[i].is_early, multiprocessors);
            return static_cast<cudaError_t>(fkdai_decode_launch(&call, s));
        });
        if (ways[i].shape == grid.shape && ways[i].is_early == grid.is_early) took = us[i];
    }
    watched = "the roof";
    const double roof = roof_of(p.states, repeats, row.commit == R ? 0 : p.states.rows_of_sequence);
    printf("%3d %5d %3d  %-9s %2d %-6s  %9.2f %9.2f %7.1f ", number, row.N, row.H,
           row.is_bf16 ? (row.is_k_first ? "bf16 [K,V]" : "bf16") : (row.is_k_first ? "f32 [K,V]" : "f32"), row.S, commit_names[static_cast<int>(row.commit)], took,
           roof, 100 * roof / took);
    for (const double x : us) {
        if (x > 0) printf(" %8.2f", x);
        else printf(" %8s", "-");
    }
    if (row.target > 0) printf(" %8.1f%s", row.target, took <= row.target ? "" : "  MISSED");
    printf("\n");
    fflush(stdout);
}

}  // namespace

int main(int argc, char **argv) {
    const int multiprocessors = multiprocessors_or_skip("decode_time");
    const int count = static_cast<int>(std::size(rows)), repeats = argc > 1 ? atoi(argv[1]) : 21;
    const int first = argc > 2 ? atoi(argv[2]) : 0, last = argc > 3 ? std::min(count, first + atoi(argv[3])) : count;
    static_assert(kMostTokens == 8);
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(fkdai_decode_load());
    printf("%s, copy %.3f TB/s, median of %d replays\n", properties.name, copy_rate() * 1e-6, repeats);
    print_head();
    for (int i = first; i < last; i++) time_row(i, repeats, multiprocessors);
    return 0;
}

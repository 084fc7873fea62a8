// prefill_bounds.cu: arguments at their limits: broken cu_seqlens, more jobs than a grid dimension holds, states at any allowed place.
//
//     prefill_bounds [fuzz | many | states]... [duo | solo | quad | mma]      without a word: all of them
//
// Prints one line per check and "ran N, failed M"; exit code 1 if any failed, 3 after a hang, 77 without a GPU.
#include <array>
#include <cstdint>
#include <cstring>
#include <random>

#include "gpu_repeat.cuh"

namespace {

Tally tally;
int multiprocessors = 0;
std::mt19937_64 noise(11);

// ------------------------------------------------------------------ broken cu_seqlens

bool is_broken(const std::vector<int64_t> &bounds, int64_t T) {
    for (size_t n = 1; n < bounds.size(); n++)
        if (bounds[n] < bounds[n - 1]) return true;
    return bounds.front() != 0 || bounds.back() > T;
}

// One of the ways to break an array, or none.
void mutate(std::vector<int64_t> &bounds, int64_t T, bool is_int32) {
    const int64_t widest = is_int32 ? INT32_MAX : INT64_MAX;
    const int64_t odd[] = {-1, T + 1, widest, -widest - 1, 0, T, 1, T - 1, -T, int64_t{1} << 31, int64_t{1} << 32};
    int64_t &entry = bounds[noise() % bounds.size()];
    switch (noise() % 7) {
    case 0: break;
    case 1: std::swap(entry, bounds[noise() % bounds.size()]); break;
    case 2: entry = odd[noise() % (sizeof odd / sizeof *odd)]; break;
    case 3: bounds.front() = odd[noise() % (sizeof odd / sizeof *odd)]; break;
    case 4: bounds.back() = odd[noise() % (sizeof odd / sizeof *odd)]; break;
    case 5: for (int64_t &b : bounds) b = static_cast<int64_t>(noise()); break;
    case 6: for (int64_t &b : bounds) b = static_cast<int64_t>(noise() % (2 * T + 1)) - T / 2; break;
    }
    if (is_int32)
        for (int64_t &b : bounds) b = static_cast<int32_t>(b);
}

// Runs on these bounds. Good: the sequences finite, the rows behind them as they were, no bit set. Broken: everything NaN, the bit set. Never a byte outside.
bool is_answered(DeviceCase &c, const std::vector<int64_t> &bounds, unsigned long long *counter) {
    unsigned long long nans = 0;
    unsigned status = 0;
    c.poison();
    c.store_bounds(bounds);
    CHECK_CUDA(cudaMemset(c.status, 0, sizeof *c.status));
    CHECK_CUDA(cudaMemset(counter, 0, sizeof *counter));
    c.run();
    const bool broken = is_broken(bounds, c.T);
    const int64_t valid = (broken ? c.T : bounds.back()) * c.H * 128;
    count_nans<<<64, 256>>>(c.out, valid, counter);
    count_nans<<<64, 256>>>(c.final, c.state_count(), counter);
    CHECK_CUDA(cudaMemcpy(&nans, counter, sizeof nans, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaMemcpy(&status, c.status, sizeof status, cudaMemcpyDeviceToHost));
    const unsigned long long all = static_cast<unsigned long long>(c.rows() * 128 + c.state_count());
    return c.touched() == 0 && c.is_poison(c.out + valid, c.rows() * 128 - valid) && status == (broken ? FKDAI_SEQLENS_BROKEN : 0u) && nans == (broken ? all : 0);
}

void fuzz() {
    watched = "fuzzed cu_seqlens";
    unsigned long long *const counter = DeviceCase::allocate<unsigned long long>(1);
    int wrong = 0, broken = 0, arrays = 0;
    for (int group = 0; group < 100; group++) {
        case_spec s = packed_spec("fuzz", 1 + static_cast<int64_t>(noise() % 4));
        std::vector<int64_t> lengths;
        const uint64_t most = std::array<uint64_t, 3>{15, 100, 700}[group % 3];  // sequences: one cluster each, a schedule, a plan kernel
        for (uint64_t n = 1 + noise() % most; n > 0; n--) lengths.push_back(static_cast<int64_t>(noise() % 40));
        lengths.push_back(1), s.cu = group % 2 == 0 ? FKDA_I32 : FKDA_I64;
        DeviceCase c(s, lengths, multiprocessors);
        std::vector<int64_t> good(1, 0);
        for (int64_t length : lengths) good.push_back(good.back() + length);
        for (int i = 0; i < 100; i++, arrays++) {
            std::vector<int64_t> bounds = good;
            mutate(bounds, c.T, s.cu == FKDA_I32);
            broken += is_broken(bounds, c.T);
            if (is_answered(c, bounds, counter)) continue;
            if (++wrong <= 5) printf("     group %d, array %d: N=%lld H=%lld T=%lld\n", group, i, (long long)c.N, (long long)c.H, (long long)c.T);
        }
    }
    cudaFree(counter);
    tally.report("fuzz: " + std::to_string(arrays) + " cu_seqlens", wrong == 0 && broken > arrays / 2, std::to_string(broken) + " of them broken");
}

// ------------------------------------------------------------------ many jobs

// Sequence n of `whole`, alone, in the memory of `whole` but for its outputs.
bool is_as_alone(const DeviceCase &whole, int64_t n, int64_t start, int64_t length) {
    const int64_t H = whole.H, row = H * 128, matrices = H * 16384;
    __nv_bfloat16 *const out = DeviceCase::allocate<__nv_bfloat16>(length * row);
    float *const final = DeviceCase::allocate<float>(matrices);
    fkdai_prefill_call call = whole.call;
    for (fkdai_tensor *x : {&call.q, &call.k, &call.v, &call.g}) x->data = static_cast<const __nv_bfloat16 *>(x->data) + start * row;
    call.beta.data = static_cast<const __nv_bfloat16 *>(call.beta.data) + start * H;
    call.out = out, call.final_state = final, call.initial_state = whole.initial + n * matrices;
    call.cu_seqlens = {nullptr, FKDAI_ABSENT}, call.device_status = nullptr;
    call.N = 1, call.T = length, call.grid = fkdai_prefill_make_grid(FKDAI_EITHER, {length, 1, H, 0}, {0, 0}, multiprocessors);
    whole.launch_alone(call, nullptr);
    watch(nullptr);
    unsigned long long *const differences = DeviceCase::allocate<unsigned long long>(1);
    CHECK_CUDA(cudaMemset(differences, 0, sizeof *differences));
    const auto words = [](const void *x) { return static_cast<const uint32_t *>(x); };
    count_differences<<<64, 256>>>(words(out), words(whole.out + start * row), length * row / 2, differences);
    count_differences<<<64, 256>>>(words(final), words(whole.final + n * matrices), matrices, differences);
    unsigned long long found = 1;
    CHECK_CUDA(cudaMemcpy(&found, differences, sizeof found, cudaMemcpyDeviceToHost));
    cudaFree(out), cudaFree(final), cudaFree(differences);
    return found == 0;
}

void many() {
    watched = "8192 sequences, H=12";
    std::vector<int64_t> lengths;
    for (int n = 0; n < 8192; n++) lengths.push_back(1 + static_cast<int64_t>(noise() % 40));
    DeviceCase c(packed_spec("many", 12), lengths, multiprocessors);
    c.poison();
    c.run();
    int differ = 0, looked = 0;
    int64_t start = 0;
    for (int64_t n = 0; n < c.N; start += lengths[n], n++)
        if (n % 61 == 0 || n == c.N - 1) looked++, differ += !is_as_alone(c, n, start, lengths[n]);
    tally.report("many: 8192 sequences, H=12: as alone, bitwise", differ == 0 && c.touched() == 0, std::to_string(looked) + " of them looked at");
}

// ------------------------------------------------------------------ states

struct StatePlace {
    bool is_bf16, is_in_place;
    int64_t shift, gap;  // elements before the first row, between rows
};

template <class X>
bool state_is_right(const DeviceCase &c, const StatePlace &at, const std::vector<float> &initial, const std::vector<float> &want,
                    const KeptBits &want_out) {
    const int64_t row = c.H * 16384, stride = row + at.gap, count = at.shift + c.N * stride + 64;
    std::vector<X> before(count, X(7.f)), after(count);
    for (int64_t i = 0; i < c.N * row; i++) before[at.shift + i / row * stride + i % row] = X(initial[i]);
    X *const from = DeviceCase::allocate<X>(count), *const to = at.is_in_place ? from : DeviceCase::allocate<X>(count);
    for (X *x : {to, from}) CHECK_CUDA(cudaMemcpy(x, before.data(), count * sizeof(X), cudaMemcpyHostToDevice));
    fkdai_prefill_call call = c.call;
    const fkdai_state_rows rows{stride, at.is_bf16 ? FKDAI_BF16 : FKDAI_F32, 0, {}, 0, 0};
    call.initial_state = from + at.shift, call.initial_rows = rows, call.final_state = to + at.shift, call.final_rows = rows;
    c.launch_alone(call, nullptr);
    watch(nullptr);
    CHECK_CUDA(cudaMemcpy(after.data(), to, count * sizeof(X), cudaMemcpyDeviceToHost));
    cudaFree(from);
    if (to != from) cudaFree(to);
    for (int64_t i = 0; i < c.N * row; i++) before[at.shift + i / row * stride + i % row] = X(want[i]);
    CHECK_CUDA(cudaMemcpy(c.final, want_out.final, c.state_count() * 4, cudaMemcpyDeviceToDevice));
    return want_out.differ() == 0 && memcmp(before.data(), after.data(), count * sizeof(X)) == 0;
}

// Initial states that bf16 holds exactly: wherever and however they are stored, out has the same bits, the final state the rounded ones.
void states() {
    for (const int64_t H : {3, 20}) {
        watched = "states";
        case_spec spec = kernel_case_at("states", 0);
        spec.H = spec.HV = H;
        DeviceCase c(spec, multiprocessors);
        std::vector<float> initial(c.state_count()), want(c.state_count());
        CHECK_CUDA(cudaMemcpy(initial.data(), c.initial, c.state_count() * 4, cudaMemcpyDeviceToHost));
        for (float &x : initial) x = static_cast<float>(__nv_bfloat16(x));
        CHECK_CUDA(cudaMemcpy(c.initial, initial.data(), c.state_count() * 4, cudaMemcpyHostToDevice));
        const KeptBits first(c);
        c.poison(), c.run(), first.keep();
        CHECK_CUDA(cudaMemcpy(want.data(), c.final, c.state_count() * 4, cudaMemcpyDeviceToHost));
        for (int i = 0; i < 16; i++) {
            c.poison();
            const StatePlace at{(i & 1) != 0, (i & 2) != 0, i & 4 ? 2 : 0, i & 8 ? 6 : 0};
            const bool good = at.is_bf16 ? state_is_right<__nv_bfloat16>(c, at, initial, want, first)
                                         : state_is_right<float>(c, at, initial, want, first);
            tally.report("states: H=" + std::to_string(H) + (at.is_bf16 ? ", bf16" : ", fp32") + (at.is_in_place ? ", in place" : "") +
                         (at.shift ? ", 2 elements off" : "") + (at.gap ? ", rows apart" : ""), good);
        }
    }
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    multiprocessors = multiprocessors_or_skip("prefill_bounds");
    load_kernels();
    const std::pair<const char *, void (*)()> parts[] = {{"fuzz", fuzz}, {"many", many}, {"states", states}};
    for (const auto &[name, run] : parts) {
        bool is_wanted = argc == 1;
        for (int i = 1; i < argc; i++) is_wanted = is_wanted || strcmp(argv[i], name) == 0;
        if (is_wanted) run();
    }
    return tally.end("prefill_bounds");
}

// prefill_stress.cu: the prefill kernel many times over: bits that must not change, launches that must end. No oracle.
//
//     prefill_stress [races | beside | streams | hang]... [duo | solo | quad | mma | mma_spans]      without a word: all of them. Suites of
//                                      cases.def; mma_spans: through the public API, sequences in spans
//
// Prints one line per check and "ran N, failed M"; exit code 1 if any failed, 3 after a hang, 77 without a GPU.
#include <cstring>
#include <memory>
#include <random>

#include "gpu_repeat.cuh"
#ifndef FKDA_KERNELS_ALONE
#include "gpu_call.cuh"
#endif

namespace {

Tally tally;
int multiprocessors = 0;
constexpr int kRuns = 6;

// A stream that works while the one under test does: arithmetic on a few SMs, and copies through L2.
struct Background {
    static constexpr int64_t kCount = 8 << 20;
    cudaStream_t stream;
    float *from, *to;
    Background() : from(DeviceCase::allocate<float>(kCount)), to(DeviceCase::allocate<float>(kCount)) {
        CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    }
    ~Background() { cudaStreamSynchronize(stream), cudaStreamDestroy(stream), cudaFree(from), cudaFree(to); }
    void work(unsigned seed) const {
        fill_normal<<<24, 128, 0, stream>>>(from, 200000, Spread{0.f, 1.f}, seed);
        CHECK_CUDA(cudaMemcpyAsync(to, from, kCount * sizeof(float), cudaMemcpyDeviceToDevice, stream));
    }
};

// Fresh inputs for every seed, each run six times on other poison: a tile overwritten too early shows once in hundreds of problems.
int problems_that_differ(DeviceCase &c, unsigned first_seed, int64_t seeds, const Background *beside) {
    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    const KeptBits first(c);
    int differ = 0;
    for (int64_t seed = 0; seed < seeds; seed++) {
        c.reseed(first_seed + static_cast<unsigned>(seed));
        CHECK_CUDA(cudaDeviceSynchronize());
        bool is_equal = true;
        for (int run = 0; run < kRuns; run++) {
            c.poison(stream);
            if (beside != nullptr) beside->work(static_cast<unsigned>(run));
            c.launch(stream);
            watch(stream);
            if (run == 0) first.keep(stream);
            else is_equal = first.differ(stream) == 0 && is_equal;
        }
        differ += !is_equal;
    }
    if (c.touched() != 0) differ += 1000000;
    CHECK_CUDA(cudaStreamDestroy(stream));
    return differ;
}

// All cases of a suite, as often as each says.
void repeat(const char *suite, const Background *beside = nullptr) {
    for (int i = 0; i < kernel_case_count(suite); i++) {
        const case_spec spec = kernel_case_at(suite, i);
        const std::string title = std::string(suite) + ": " + spec.name;
        watched = title.c_str();
        DeviceCase c(spec, multiprocessors);
        const int differ = problems_that_differ(c, 1000, spec.draws, beside);
        tally.report(title, differ == 0, std::to_string(spec.draws) + " problems, 6 runs each, " + std::to_string(differ) + " differ");
    }
}

void races() {
    repeat("races");
    const int64_t choice[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 257, 700};
    std::mt19937 random(3);
    int differ = 0;
    watched = "races, mixed lengths";
    for (unsigned set = 0; set < 30; set++) {
        case_spec s = packed_spec("races_mixed", 1 + random() % 12);
        strcpy(s.gates, set % 3 == 0 ? "slow" : "usual"), s.cu = set % 2 ? FKDA_I32 : FKDA_I64, s.initial = set % 5 != 0 ? FKDA_F32 : FKDA_NONE;
        std::vector<int64_t> lengths;
        for (unsigned n = 0; n < 6 + random() % 30; n++) lengths.push_back(choice[random() % (sizeof choice / sizeof *choice)]);
        lengths.push_back(33);
        DeviceCase c(s, lengths, multiprocessors);
        differ += problems_that_differ(c, 50 * set, 10, nullptr);
    }
    tally.report("races: 30 sets of mixed lengths", differ == 0, "300 problems, 6 runs each, " + std::to_string(differ) + " differ");
}

void beside() {
    const Background background;
    repeat("beside", &background);
}

__global__ void spin(long long cycles) {
    for (const long long start = clock64(); clock64() - start < cycles;) {}
}

// The problems of the suite on two streams, issued in any order, one stream held back: the answers are those of calls one by one.
void streams() {
    watched = "streams";
    const unsigned count = static_cast<unsigned>(kernel_case_count("streams"));
    std::vector<std::unique_ptr<DeviceCase>> cases;
    std::vector<std::unique_ptr<KeptBits>> bits;
    for (unsigned i = 0; i < count; i++) {
        cases.push_back(std::make_unique<DeviceCase>(kernel_case_at("streams", static_cast<int>(i)), multiprocessors));
        bits.push_back(std::make_unique<KeptBits>(*cases.back()));
        cases.back()->poison(), cases.back()->run(), bits.back()->keep();
    }
    cudaStream_t stream[2];
    for (cudaStream_t &s : stream) CHECK_CUDA(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    std::mt19937 random(9);
    int differ = 0;
    for (int round = 0; round < 200; round++) {
        for (auto &c : cases) c->poison();
        CHECK_CUDA(cudaDeviceSynchronize());
        spin<<<1, 1, 0, stream[random() % 2]>>>(random() % 400000);
        const unsigned start = static_cast<unsigned>(random() % count), step = random() % 2 ? 1 : count - 1;
        for (unsigned i = 0; i < count; i++) {
            const unsigned which = (start + i * step) % count;
            cases[which]->launch(stream[which % 2]);
            if (random() % 3 == 0) spin<<<1, 1, 0, stream[random() % 2]>>>(random() % 100000);
        }
        for (cudaStream_t s : stream) watch(s);
        for (auto &b : bits) differ += b->differ() != 0;
    }
    for (cudaStream_t s : stream) CHECK_CUDA(cudaStreamDestroy(s));
    tally.report("streams: " + std::to_string(count) + " problems on 2 streams, out of order", differ == 0, "200 rounds, " + std::to_string(differ) + " answers differ");
}

// Launches queued one behind the other: all of them end, and the last is right where the first was.
void hang() {
    for (int i = 0; i < kernel_case_count("hang"); i++)
        for (const int64_t H : {1, 2, 5, 12}) {
            case_spec spec = kernel_case_at("hang", i);
            spec.H = spec.HV = H;
            const std::string title = std::string("hang: ") + spec.name + ", H=" + std::to_string(H);
            watched = title.c_str();
            DeviceCase c(spec, multiprocessors);
            const KeptBits first(c);
            c.poison(), c.run(), first.keep();
            for (int launch = 0; launch < 200; launch++) c.launch(nullptr);
            watch(nullptr);
            tally.report(title, first.differ() == 0 && c.touched() == 0, "201 launches");
        }
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    multiprocessors = multiprocessors_or_skip("prefill_stress");
    load_kernels();
    const std::pair<const char *, void (*)()> parts[] = {{"races", races}, {"beside", beside}, {"streams", streams}, {"hang", hang}};
    for (const auto &[name, run] : parts) {
        bool is_wanted = argc == 1;
        for (int i = 1; i < argc; i++) is_wanted = is_wanted || strcmp(argv[i], name) == 0;
        if (is_wanted) run();
    }
    return tally.end("prefill_stress");
}

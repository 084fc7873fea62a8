// prefill_stress.cu: the prefill kernel many times over: bits that must not change, launches that must end. No oracle.
//
//     prefill_stress [races | beside | streams | hang]...      without a word: all of them
//
// Prints one line per check and "ran N, failed M"; exit code 1 if any failed, 3 after a hang, 77 without a GPU.
#include <cstring>
#include <memory>
#include <random>

#include "gpu_repeat.cuh"

namespace {

Tally tally;
int multiprocessors = 0;

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
        fill_normal<<<24, 128, 0, stream>>>(from, 200000, 0.f, 1.f, seed);
        CHECK_CUDA(cudaMemcpyAsync(to, from, kCount * sizeof(float), cudaMemcpyDeviceToDevice, stream));
    }
};

// Fresh inputs for every seed, each run `runs` times on other poison: a tile overwritten too early shows once in hundreds of problems.
int problems_that_differ(const CaseShape &shape, unsigned first_seed, int seeds, int runs, const Background *beside) {
    cudaStream_t stream;
    CHECK_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    DeviceCase c(shape, multiprocessors);
    const KeptBits first(c);
    int differ = 0;
    for (int seed = 0; seed < seeds; seed++) {
        c.reseed(first_seed + static_cast<unsigned>(seed));
        CHECK_CUDA(cudaDeviceSynchronize());
        bool is_equal = true;
        for (int run = 0; run < runs; run++) {
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

void repeat(const std::string &name, const CaseShape &shape, int seeds, int runs, const Background *beside = nullptr) {
    watched = name.c_str();
    const int differ = problems_that_differ(shape, 1000, seeds, runs, beside);
    const std::string note = std::to_string(seeds) + " problems, " + std::to_string(runs) + " runs each, " + std::to_string(differ) + " differ";
    tally.report(name, differ == 0, note);
}

CaseShape five_of_200(int64_t H) {
    CaseShape s = packed_shape(std::vector<int64_t>(5, 200), H);
    s.packed = false;
    return s;
}

void races() {
    repeat("races: 5 x 200, H=10", five_of_200(10), 1000, 6);
    repeat("races: 5 x 200, H=40, cut", five_of_200(40), 300, 6);
    const int64_t lengths[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 129, 257, 700};
    std::mt19937 random(3);
    int differ = 0;
    watched = "races, mixed lengths";
    for (unsigned set = 0; set < 30; set++) {
        CaseShape s = packed_shape({}, 1 + random() % 12);
        for (unsigned n = 0; n < 6 + random() % 30; n++) s.lengths.push_back(lengths[random() % (sizeof lengths / sizeof *lengths)]);
        s.lengths.push_back(33);
        s.gates = set % 3 == 0 ? Gates::Slow : Gates::Random, s.is_int32 = set % 2, s.has_initial = set % 5 != 0;
        differ += problems_that_differ(s, 50 * set, 10, 6, nullptr);
    }
    tally.report("races: 30 sets of mixed lengths", differ == 0, "300 problems, 6 runs each, " + std::to_string(differ) + " differ");
}

void beside() {
    const Background background;
    repeat("beside another stream: 5 x 200, H=10", five_of_200(10), 300, 6, &background);
    repeat("beside another stream: mixed, H=12, cut", packed_shape({1300, 547, 64, 963, 271, 0, 31}, 12), 60, 6, &background);
}

__global__ void spin(long long cycles) {
    for (const long long start = clock64(); clock64() - start < cycles;) {}
}

// Two problems on each of two streams, issued in any order, one stream held back: the answers are those of calls one by one.
void streams() {
    watched = "streams";
    const std::vector<CaseShape> shapes{packed_shape({300, 41, 0, 700}, 24, 5), five_of_200(10), packed_shape(repeated({64, 1}, 40), 3, 6),
                                        five_of_200(30)};
    std::vector<std::unique_ptr<DeviceCase>> cases;
    std::vector<std::unique_ptr<KeptBits>> bits;
    for (const CaseShape &s : shapes) {
        cases.push_back(std::make_unique<DeviceCase>(s, multiprocessors));
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
        const unsigned start = random() % 4, step = random() % 2 ? 1 : 3;
        for (unsigned i = 0; i < 4; i++) {
            const unsigned which = (start + i * step) % 4;
            cases[which]->launch(stream[which % 2]);
            if (random() % 3 == 0) spin<<<1, 1, 0, stream[random() % 2]>>>(random() % 100000);
        }
        for (cudaStream_t s : stream) watch(s);
        for (auto &b : bits) differ += b->differ() != 0;
    }
    for (cudaStream_t s : stream) CHECK_CUDA(cudaStreamDestroy(s));
    tally.report("streams: 4 problems on 2 streams, out of order", differ == 0, "200 rounds, " + std::to_string(differ) + " answers differ");
}

// Launches queued one behind the other: all of them end, and the last is right where the first was.
void hang() {
    const std::pair<const char *, std::vector<int64_t>> lists[] = {{"[64,0]*96", repeated({64, 0}, 96)},
                                                                   {"[1]*512", repeated({1}, 512)},
                                                                   {"[128]*148", repeated({128}, 148)},
                                                                   {"[0]*512", repeated({0}, 512)},
                                                                   {"[1,0,33]*200", repeated({1, 0, 33}, 200)}};
    for (const auto &[name, lengths] : lists)
        for (const int64_t H : {1, 2, 5, 12}) {
            const std::string title = std::string("hang: ") + name + ", H=" + std::to_string(H);
            watched = title.c_str();
            DeviceCase c(packed_shape(lengths, H), multiprocessors);
            const KeptBits first(c);
            c.poison(), c.run(), first.keep();
            for (int i = 0; i < 200; i++) c.launch(nullptr);
            watch(nullptr);
            tally.report(title, first.differ() == 0 && c.touched() == 0, "201 launches");
        }
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    multiprocessors = multiprocessors_or_skip("prefill_stress");
    CHECK_CUDA(fkdai_prefill_load());
    const std::pair<const char *, void (*)()> parts[] = {{"races", races}, {"beside", beside}, {"streams", streams}, {"hang", hang}};
    for (const auto &[name, run] : parts) {
        bool is_wanted = argc == 1;
        for (int i = 1; i < argc; i++) is_wanted = is_wanted || strcmp(argv[i], name) == 0;
        if (is_wanted) run();
    }
    return tally.end("prefill_stress");
}

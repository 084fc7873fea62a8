// prefill_time.cu: CUDA-graph replays of the prefill kernel alone, fp32 states in and out; median of single replays.
//
//     prefill_time [repeats]
#include <algorithm>

#include "gpu_case.cuh"

namespace {

struct TimeCase {
    const char *name;
    std::vector<int64_t> lengths;
    int64_t H;
    bool packed;
};

std::vector<TimeCase> cases() {
    const std::vector<int64_t> mixed{1300, 547, 2048, 963, 271, 3063}, even(8, 1024);
    std::vector<TimeCase> all;
    for (int64_t H : {96, 64}) {
        all.push_back({"8192 fixed", {8192}, H, false});
        all.push_back({"mixed", mixed, H, true});
        all.push_back({"8 x 1024", even, H, true});
    }
    all.push_back({"8192 fixed", {8192}, 32, false});
    all.push_back({"8192 fixed", {8192}, 8, false});
    all.push_back({"2048", {2048}, 12, false});
    all.push_back({"1024", {1024}, 4, false});
    all.push_back({"64 x 128", std::vector<int64_t>(64, 128), 32, true});
    all.push_back({"8 x 2048", std::vector<int64_t>(8, 2048), 16, true});
    return all;
}

float median_ms(DeviceCase &c, int repeats, float *spread) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t from, to;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK_CUDA(fkdai_prefill_launch(&c.call, stream));
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    CHECK_CUDA(cudaEventCreate(&from));
    CHECK_CUDA(cudaEventCreate(&to));
    std::vector<float> times;
    for (int i = 0; i < repeats + 10; i++) {
        CHECK_CUDA(cudaEventRecord(from, stream));
        CHECK_CUDA(cudaGraphLaunch(replay, stream));
        CHECK_CUDA(cudaEventRecord(to, stream));
        CHECK_CUDA(cudaStreamSynchronize(stream));
        float ms;
        CHECK_CUDA(cudaEventElapsedTime(&ms, from, to));
        if (i >= 10) times.push_back(ms);
    }
    std::sort(times.begin(), times.end());
    *spread = times[times.size() * 9 / 10] - times[times.size() / 10];
    CHECK_CUDA(cudaGraphExecDestroy(replay));
    CHECK_CUDA(cudaGraphDestroy(graph));
    CHECK_CUDA(cudaStreamDestroy(stream));
    return times[times.size() / 2];
}

}  // namespace

int main(int argc, char **argv) {
    read_mapping(argc, argv);
    const int repeats = argc > 1 ? atoi(argv[1]) : 50;
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    CHECK_CUDA(fkdai_prefill_load());
    printf("%-12s %3s  %9s %9s %9s  spread   TB/s   (random, slow, all -5; ms)\n", "case", "H", "random", "slow", "-5");
    for (const TimeCase &t : cases()) {
        float ms[3], spread[3];
        double bytes = 0;
        for (const Gates g : {Gates::Random, Gates::Slow, Gates::AllMinus5}) {
            CaseShape s;
            s.lengths = t.lengths, s.H = t.H, s.packed = t.packed, s.gates = g;
            DeviceCase c(s, properties.multiProcessorCount);
            ms[static_cast<int>(g)] = median_ms(c, repeats, &spread[static_cast<int>(g)]);
            bytes = 1280.0 * static_cast<double>(c.rows()) + 8.0 * static_cast<double>(c.state_count());
        }
        printf("%-12s %3d  %9.4f %9.4f %9.4f  %.4f  %5.2f\n", t.name, static_cast<int>(t.H), ms[0], ms[1], ms[2], spread[0],
               bytes / ms[0] * 1e-9);
        fflush(stdout);
    }
    return 0;
}

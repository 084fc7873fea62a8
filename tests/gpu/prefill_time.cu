// prefill_time.cu: CUDA-graph replays of a prefill kernel alone, fp32 states in and out, as the case says; median of single replays.
//
//     prefill_time [repeats [suite]] [duo | solo | quad | mma | mma<slices> | call | mma_call] [cold]      suite time of cases.def, or few
// call: through the public API, which may make several launches; mma_call: with the portable kernel. cold: nothing is in caches before each replay
#include <algorithm>
#include <cstring>
#include <memory>

#include "gpu_call.cuh"
#include "gpu_cold.cuh"
#include "gpu_states.cuh"

namespace {

// cold: null, or what empties the caches.
float median_ms(DeviceCase &c, int repeats, const ColdCaches *cold, float *spread) {
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    cudaEvent_t from, to;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    c.launch(stream);
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiate(&replay, graph, 0));
    CHECK_CUDA(cudaEventCreate(&from));
    CHECK_CUDA(cudaEventCreate(&to));
    std::vector<float> times;
    for (int i = 0; i < repeats + 10; i++) {
        if (cold != nullptr) cold->enqueue(stream);
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
    const bool is_cold = argc > 1 && strcmp(argv[argc - 1], "cold") == 0;
    if (is_cold) argc--;
    read_mapping(argc, argv);
    const auto cold = is_cold ? std::make_unique<ColdCaches>() : nullptr;
    const int repeats = argc > 1 ? atoi(argv[1]) : 50;
    const char *const suite = argc > 2 ? argv[2] : "time";
    cudaDeviceProp properties;
    CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
    load_kernels();
    printf("%-20s %3s  %9s %9s %9s  spread   TB/s   (gates; ms)\n", "case", "H", "usual", "slow", "floor");
    for (int i = 0; i < kernel_case_count(suite); i++) {
        case_spec spec = kernel_case_at(suite, i);
        float ms[3], spread[3];
        double bytes = 0;
        for (int g = 0; g < 3; g++) {
            strcpy(spec.gates, g == 0 ? "usual" : g == 1 ? "slow" : "floor");
            DeviceCase c(spec, properties.multiProcessorCount);
            const DeviceStates states(c);
            ms[g] = median_ms(c, repeats, cold.get(), &spread[g]);
            bytes = 1280.0 * static_cast<double>(c.rows()) + 8.0 * static_cast<double>(c.state_count()) + states.checkpoint_bytes();
        }
        printf("%-20s %3d  %9.4f %9.4f %9.4f  %.4f  %5.2f\n", spec.name, static_cast<int>(spec.H), ms[0], ms[1], ms[2], spread[0], bytes / ms[0] * 1e-9);
        fflush(stdout);
    }
    return 0;
}

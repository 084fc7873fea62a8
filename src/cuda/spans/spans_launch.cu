// The launches of the kernels that cut sequences in spans.
#include <cuda_runtime.h>

#include "spans/span_carry.cuh"
#include "spans/span_setup.cuh"

using namespace fkdai::spans;

static constexpr int kAlignment = 1024;  // that dynamic_shared may want
static constexpr int64_t kMostIdentities = 16, kMostSequences = 64;  // heads and sequences that have blocks of their own

static_assert(fkdai::kBrokenCheckpoint == FKDAI_CHECKPOINT_BROKEN);

static cudaLaunchConfig_t config_of(dim3 grid, int threads, void *stream) {
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = dim3(static_cast<unsigned>(threads)), config.stream = static_cast<cudaStream_t>(stream);
    return config;
}
static unsigned at_most(int64_t count, int64_t most) { return static_cast<unsigned>(count < most ? count : most); }

extern "C" int fkdai_span_load(void) {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, set_up_kernel);
    return error != cudaSuccess ? error : cudaFuncSetAttribute(carry_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(CarrySmem) + kAlignment);
}

extern "C" int fkdai_span_set_up(const fkdai_span_setup *setup, void *stream) {
    const cudaLaunchConfig_t config = config_of(dim3(1 + at_most(setup->HV, kMostIdentities)), kSetupThreads, stream);
    return cudaLaunchKernelEx(&config, set_up_kernel, *setup);
}

extern "C" int fkdai_span_carry_states(const fkdai_span_carry *carry, void *stream) {
    const dim3 grid(static_cast<unsigned>(kSlices * carry->HV) * at_most(carry->most_cut, kMostSequences));
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization, attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = config_of(grid, kCarryThreads, stream);
    config.attrs = &attribute, config.numAttrs = 1, config.dynamicSmemBytes = sizeof(CarrySmem) + kAlignment;
    return cudaLaunchKernelEx(&config, carry_kernel, *carry);
}

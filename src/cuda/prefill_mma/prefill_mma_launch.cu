// Parameters, and the launch of the portable prefill kernel.
#include "prefill_mma/prefill_mma_launch.h"

#include <cuda_runtime.h>

#include "prefill_mma/prefill_mma_kernel.cuh"

using namespace fkdai::portable;

extern "C" int fkdai_mma_shared_bytes(void) { return kSharedBytes; }

extern "C" int fkdai_mma_load(void) {
    return cudaFuncSetAttribute(mma_prefill_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
}

extern "C" int fkdai_mma_launch(const fkdai_mma_call *call, void *stream) {
    if (call->grid.blocks == 0) return cudaSuccess;
    const Params p = params_of(*call);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(call->grid.blocks), config.blockDim = dim3(static_cast<unsigned>(fkdai_mma_threads(call->grid)));
    config.dynamicSmemBytes = kSharedBytes, config.stream = static_cast<cudaStream_t>(stream);
    return cudaLaunchKernelEx(&config, mma_prefill_kernel, p);
}

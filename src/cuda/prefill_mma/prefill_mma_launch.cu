// Parameters, and the launch of the portable prefill kernel.
#include "prefill_mma/prefill_mma_launch.h"

#include <cuda_runtime.h>

#include "prefill_mma/mma_call.cuh"
#include "prefill_mma/prefill_mma_kernel.cuh"

using namespace fkdai::portable;

namespace {

using Kernel = void (*)(Params);
constexpr Kernel kKernels[] = {mma_prefill_kernel<true, false>, mma_prefill_kernel<true, true>, mma_prefill_kernel<false, true>};
// The usual call has the bounded gate and no checkpoints.
Kernel kernel_of(const Params &p) {
    if (p.gate != fkdai::GateKind::Bounded) return kKernels[2];
    return kKernels[p.checkpoints.element != fkdai::Element::Absent];
}

}  // namespace

extern "C" int fkdai_mma_shared_bytes(void) { return kSharedBytes; }

extern "C" int fkdai_mma_load(void) {
    for (const Kernel kernel : kKernels)
        if (const cudaError_t error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
            error != cudaSuccess)
            return error;
    return cudaSuccess;
}

extern "C" int fkdai_mma_launch(const fkdai_mma_call *call, void *stream) {
    if (call->grid.blocks == 0) return cudaSuccess;
    const Params p = params_of(*call);
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(call->grid.blocks), config.blockDim = dim3(static_cast<unsigned>(fkdai_mma_threads(call->grid)));
    config.dynamicSmemBytes = kSharedBytes, config.stream = static_cast<cudaStream_t>(stream);
    cudaLaunchAttribute attribute{};  // behind another launch of the same call: it may start beside that one, and waits inside
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization, attribute.val.programmaticStreamSerializationAllowed = 1;
    if (call->spans.table != nullptr || call->spans.is_cut != nullptr) config.attrs = &attribute, config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel_of(p), p);
}

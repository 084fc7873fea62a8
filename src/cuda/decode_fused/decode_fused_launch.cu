// The table of the kernel's variants, and their launch.
#include "decode_fused/decode_fused_launch.h"

#include <cuda_runtime.h>

#include "decode_fused/decode_fused_kernel.cuh"
#include "device/programmatic.h"

namespace fkdai::decode_fused {
namespace {

using Kernel = void (*)(fkdai_fused_call);

struct Variant {
    Kernel kernel;
    int threads, shared_bytes;
};

template <Stored stored, Axes axes>
constexpr Variant variant() {
    using C = Config<stored, axes>;
    return {decode_fused_kernel<C>, C::kThreads, sizeof(Shared<C>) + 1024};    // dynamic_shared aligns it
}

// By dtype and axes of the state.
constexpr Variant variants[2][2] = {{variant<Stored::F32, Axes::VK>(), variant<Stored::F32, Axes::KV>()},
                                    {variant<Stored::BF16, Axes::VK>(), variant<Stored::BF16, Axes::KV>()}};

cudaError_t prepare(const Variant &v) {
    cudaFuncAttributes attributes{};
    if (const cudaError_t error = cudaFuncGetAttributes(&attributes, v.kernel); error != cudaSuccess) return error;
    if (!fkdai_waits_as_planned(attributes.binaryVersion, attributes.ptxVersion)) return cudaErrorNoKernelImageForDevice;
    const cudaError_t error = cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.shared_bytes);
    return error != cudaSuccess ? error
                                : cudaFuncSetAttribute(v.kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
}

}  // namespace
}  // namespace fkdai::decode_fused

using namespace fkdai::decode_fused;

extern "C" int fkdai_decode_fused_load(void) {
    for (const auto &of_dtype : variants)
        for (const Variant &v : of_dtype)
            if (const cudaError_t error = prepare(v); error != cudaSuccess) return error;
    return cudaSuccess;
}

extern "C" int fkdai_decode_fused_launch(const fkdai_fused_call *call, void *stream) {
    const fkdai_fused_grid &grid = call->grid;
    if (grid.blocks == 0) return cudaSuccess;
    const Variant &v = variants[grid.is_bf16_state][grid.is_k_first];
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.blocks), config.blockDim = dim3(static_cast<unsigned>(v.threads));
    config.dynamicSmemBytes = static_cast<size_t>(v.shared_bytes);
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = &attribute, config.numAttrs = grid.is_programmatic ? 1 : 0;
    return cudaLaunchKernelEx(&config, v.kernel, *call);
}

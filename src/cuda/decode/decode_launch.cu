// The table of the decode kernel's variants, and their launch.
#include "decode/decode_launch.h"

#include <cuda_runtime.h>

#include "decode/decode_kernel.cuh"

namespace fkdai::decode {
namespace {

using Kernel = void (*)(fkdai_decode_call);

struct Variant {
    Kernel kernel;
    int threads;
};

template <fkdai_decode_shape shape, Stored stored, Axes axes>
constexpr Variant variant() {
    using C = Config<shape, stored, axes>;
    return {decode_kernel<C>, C::kThreads};
}

// By shape, dtype and axes of the state.
constexpr Variant variants[FKDAI_DECODE_SHAPES][2][2] = {
    {{variant<FKDAI_DECODE_ONE, Stored::F32, Axes::VK>(), variant<FKDAI_DECODE_ONE, Stored::F32, Axes::KV>()},
     {variant<FKDAI_DECODE_ONE, Stored::BF16, Axes::VK>(), variant<FKDAI_DECODE_ONE, Stored::BF16, Axes::KV>()}},
    {{variant<FKDAI_DECODE_SOME, Stored::F32, Axes::VK>(), variant<FKDAI_DECODE_SOME, Stored::F32, Axes::KV>()},
     {variant<FKDAI_DECODE_SOME, Stored::BF16, Axes::VK>(), variant<FKDAI_DECODE_SOME, Stored::BF16, Axes::KV>()}},
};

}  // namespace
}  // namespace fkdai::decode

using namespace fkdai::decode;

extern "C" int fkdai_decode_load(void) {
    cudaFuncAttributes attributes;
    for (const auto &of_shape : variants)
        for (const auto &of_dtype : of_shape)
            for (const Variant &v : of_dtype)
                if (const cudaError_t error = cudaFuncGetAttributes(&attributes, v.kernel); error != cudaSuccess) return error;
    return cudaSuccess;
}

extern "C" int fkdai_decode_launch(const fkdai_decode_call *call, void *stream) {
    const fkdai_decode_grid &grid = call->grid;
    if (grid.blocks == 0) return cudaSuccess;
    const Variant &v = variants[grid.shape][grid.is_bf16_state][grid.is_k_first];
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(grid.blocks), config.blockDim = dim3(static_cast<unsigned>(v.threads));
    config.stream = static_cast<cudaStream_t>(stream);
    config.attrs = &attribute, config.numAttrs = grid.is_programmatic ? 1 : 0;
    return cudaLaunchKernelEx(&config, v.kernel, *call);
}

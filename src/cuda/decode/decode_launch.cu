// The table of the decode kernel's variants, and their launch.
#include "decode/decode_launch.h"

#include <cuda_runtime.h>

#include "decode/decode_kernel.cuh"
#include "device/programmatic.h"

namespace fkdai::decode {
namespace {

using Kernel = void (*)(fkdai_decode_call);

struct Variant {
    Kernel kernel;
    int threads, shared_bytes;    // dynamic
};

template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs, Start start>
constexpr Variant variant() {
    if constexpr (is_built_for<shape, stored, axes, inputs, start>(8) || is_built_for<shape, stored, axes, inputs, start>(9)) {
        using C = Config<shape, stored, axes, inputs, start>;
        return {decode_kernel<C>, C::kBlockThreads, kPersistentBytes<C>};
    } else {
        return {nullptr, 0, 0};
    }
}

// By dtype and axes of the state, and dtype of the inputs.
struct Variants {
    Variant of[2][2][2];
};
template <fkdai_decode_shape shape, Start start>
constexpr Variants variants_of() {
    return {{{{variant<shape, Stored::F32, Axes::VK, Inputs::ANY, start>(), variant<shape, Stored::F32, Axes::VK, Inputs::BF16, start>()},
              {variant<shape, Stored::F32, Axes::KV, Inputs::ANY, start>(), variant<shape, Stored::F32, Axes::KV, Inputs::BF16, start>()}},
             {{variant<shape, Stored::BF16, Axes::VK, Inputs::ANY, start>(), variant<shape, Stored::BF16, Axes::VK, Inputs::BF16, start>()},
              {variant<shape, Stored::BF16, Axes::KV, Inputs::ANY, start>(), variant<shape, Stored::BF16, Axes::KV, Inputs::BF16, start>()}}}};
}
template <Start start>
constexpr Variants variants[FKDAI_DECODE_SHAPES] = {
    variants_of<FKDAI_DECODE_ONE, start>(), variants_of<FKDAI_DECODE_ONE_SMALL, start>(), variants_of<FKDAI_DECODE_ONE_SOME, start>(),
    variants_of<FKDAI_DECODE_FEW, start>(), variants_of<FKDAI_DECODE_MANY, start>(), variants_of<FKDAI_DECODE_CHUNK, start>(),
    variants_of<FKDAI_DECODE_CHUNK_HALF, start>(), variants_of<FKDAI_DECODE_PERSISTENT, start>(), variants_of<FKDAI_DECODE_STEPS, start>()};

template <Start start>
int load() {
    cudaFuncAttributes attributes{};
    for (int i = 0; i < 8 * FKDAI_DECODE_SHAPES; i++) {
        const Variant &v = variants<start>[i / 8].of[i / 4 % 2][i / 2 % 2][i % 2];
        if (v.kernel == nullptr) continue;
        if (const cudaError_t error = cudaFuncGetAttributes(&attributes, v.kernel); error != cudaSuccess) return error;
        if (!fkdai_waits_as_planned(attributes.binaryVersion, attributes.ptxVersion)) return cudaErrorNoKernelImageForDevice;
        if (v.shared_bytes == 0 || attributes.binaryVersion / 10 != 9) continue;    // of PERSISTENT, where a plan has it
        const cudaError_t error = cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.shared_bytes);
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

}  // namespace
}  // namespace fkdai::decode

using namespace fkdai::decode;

extern "C" int fkdai_decode_load(void) {
    const int error = load<Start::LATE>();
    return error != cudaSuccess ? error : load<Start::EARLY>();
}

extern "C" int fkdai_decode_launch(const fkdai_decode_call *call, void *stream) {
    const fkdai_decode_grid &grid = call->grid;
    if (grid.blocks == 0) return cudaSuccess;
    const Variants &of_shape = grid.is_early ? variants<Start::EARLY>[grid.shape] : variants<Start::LATE>[grid.shape];
    const Variant &v = of_shape.of[grid.is_bf16_state][grid.is_k_first][grid.has_plain_input];
    if (v.kernel == nullptr) return cudaErrorInvalidValue;
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

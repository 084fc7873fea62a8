// The table of the decode kernel's variants, and their launch.
#include "decode/decode_launch.h"

#include <cuda_runtime.h>

#include "decode/decode_kernel.cuh"

namespace fkdai::decode {
namespace {

using Kernel = void (*)(fkdai_decode_call);

struct Variant {
    Kernel kernel;
    int threads, shared_bytes;    // dynamic
};

template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs, Start start>
constexpr Variant variant() {
    if constexpr (fkdai_decode_is_built(shape, stored == Stored::BF16, axes == Axes::KV, inputs == Inputs::BF16)) {
        using C = Config<shape, stored, axes, inputs, kMayStart<shape, axes, start> ? start : Start::LATE>;
        return {decode_kernel<C>, C::kBlockThreads, kPersistentBytes<C>};
    } else {
        return {nullptr, 0, 0};
    }
}

#ifndef FKDAI_TRY_LATE
#define FKDAI_TRY_LATE LATE
#endif

// By dtype and axes of the state, dtype of the inputs, and start.
struct Variants {
    Variant of[2][2][2][2];
};
template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs>
constexpr Variant late() { return variant<shape, stored, axes, inputs, Start::FKDAI_TRY_LATE>(); }
template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs>
constexpr Variant early() { return variant<shape, stored, axes, inputs, Start::EARLY>(); }
template <fkdai_decode_shape shape>
constexpr Variants variants_of() {
    return {{{{{late<shape, Stored::F32, Axes::VK, Inputs::ANY>(), early<shape, Stored::F32, Axes::VK, Inputs::ANY>()},
               {late<shape, Stored::F32, Axes::VK, Inputs::BF16>(), early<shape, Stored::F32, Axes::VK, Inputs::BF16>()}},
              {{late<shape, Stored::F32, Axes::KV, Inputs::ANY>(), early<shape, Stored::F32, Axes::KV, Inputs::ANY>()},
               {late<shape, Stored::F32, Axes::KV, Inputs::BF16>(), early<shape, Stored::F32, Axes::KV, Inputs::BF16>()}}},
             {{{late<shape, Stored::BF16, Axes::VK, Inputs::ANY>(), early<shape, Stored::BF16, Axes::VK, Inputs::ANY>()},
               {late<shape, Stored::BF16, Axes::VK, Inputs::BF16>(), early<shape, Stored::BF16, Axes::VK, Inputs::BF16>()}},
              {{late<shape, Stored::BF16, Axes::KV, Inputs::ANY>(), early<shape, Stored::BF16, Axes::KV, Inputs::ANY>()},
               {late<shape, Stored::BF16, Axes::KV, Inputs::BF16>(), early<shape, Stored::BF16, Axes::KV, Inputs::BF16>()}}}}};
}
constexpr Variants variants[FKDAI_DECODE_SHAPES] = {variants_of<FKDAI_DECODE_ONE>(), variants_of<FKDAI_DECODE_ONE_SMALL>(), variants_of<FKDAI_DECODE_ONE_SOME>(), variants_of<FKDAI_DECODE_FEW>(),
                                                    variants_of<FKDAI_DECODE_MANY>(), variants_of<FKDAI_DECODE_CHUNK>(),
                                                    variants_of<FKDAI_DECODE_CHUNK_SMALL>(), variants_of<FKDAI_DECODE_PERSISTENT>(),
                                                    variants_of<FKDAI_DECODE_STEPS>()};

}  // namespace
}  // namespace fkdai::decode

using namespace fkdai::decode;

extern "C" int fkdai_decode_load(void) {
    cudaFuncAttributes attributes{};
    for (int i = 0; i < 16 * FKDAI_DECODE_SHAPES; i++) {
        const Variant &v = variants[i / 16].of[i / 8 % 2][i / 4 % 2][i / 2 % 2][i % 2];
        if (v.kernel == nullptr) continue;
        if (const cudaError_t error = cudaFuncGetAttributes(&attributes, v.kernel); error != cudaSuccess) return error;
        if (v.shared_bytes == 0 || attributes.binaryVersion / 10 != 9) continue;    // of PERSISTENT, where a plan has it
        if (const cudaError_t error = cudaFuncSetAttribute(v.kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, v.shared_bytes); error != cudaSuccess)
            return error;
    }
    return cudaSuccess;
}

extern "C" int fkdai_decode_launch(const fkdai_decode_call *call, void *stream) {
    const fkdai_decode_grid &grid = call->grid;
    if (grid.blocks == 0) return cudaSuccess;
    const Variant &v = variants[grid.shape].of[grid.is_bf16_state][grid.is_k_first][grid.has_plain_input][grid.is_early];
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

// The launches of the copying kernels.
#include <cuda_runtime.h>

#include "strided_copy/strided_copy_kernel.cuh"

namespace fkdai::strided_copy {
namespace {

cudaError_t launch(void (*kernel)(Params), const fkdai_copies *list, void *stream) {
    const Params p{*list, fkdai_copy_make_grid(list)};
    if (p.grid.blocks == 0) return cudaSuccess;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(p.grid.blocks)), config.blockDim = dim3(kThreads);
    config.stream = static_cast<cudaStream_t>(stream);
    return cudaLaunchKernelEx(&config, kernel, p);
}

}  // namespace
}  // namespace fkdai::strided_copy

using namespace fkdai::strided_copy;

extern "C" int fkdai_copy_load(void) {
    cudaFuncAttributes attributes;
    const cudaError_t error = cudaFuncGetAttributes(&attributes, copy_in_kernel);
    return error != cudaSuccess ? error : cudaFuncGetAttributes(&attributes, copy_out_kernel);
}

extern "C" int fkdai_copy_in(const fkdai_copies *copies, void *stream) { return launch(copy_in_kernel, copies, stream); }
extern "C" int fkdai_copy_out(const fkdai_copies *copies, void *stream) { return launch(copy_out_kernel, copies, stream); }

/* The ordered list of CUDA kernels. */
#include "cuda_kernel.h"

const fkdai_cuda_kernel *const fkdai_cuda_kernels[] = {
    &fkdai_prefill_sm90,
    &fkdai_prefill_mma,
    &fkdai_decode,
    &fkdai_decode_fused,
    NULL,
};

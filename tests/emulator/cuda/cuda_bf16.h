// What the kernels' headers use of CUDA's cuda_bf16.h.
#pragma once

#include "cuda_language.h"

struct __nv_bfloat16 {
    uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) { return __uint_as_float(static_cast<uint32_t>(x.bits) << 16); }

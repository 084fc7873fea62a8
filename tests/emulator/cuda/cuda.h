// What the kernels' headers use of the CUDA driver's cuda.h, for machines without a toolkit.
#pragma once

#include <cstdint>

struct alignas(128) CUtensorMap {    // opaque; emulator::TensorMap lies in it
    uint64_t opaque[16];
};

// Host stand-in for src/cuda/device/flag.cuh.
#pragma once
#include "emulator.h"
namespace fkdai {
inline void raise_flag(unsigned *flag) { *flag = 1; }
inline void await_flag(const unsigned *flag) { emulator::block_until([flag] { return *flag != 0; }); }
}  // namespace fkdai

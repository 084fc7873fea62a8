// Host stand-in for src/cuda/device/flag.cuh.
#pragma once
#include "emulator.h"
namespace fkdai {
inline void raise_flag(uint64_t *flag, uint64_t value) { *flag = value, emulator::changes++; }
inline void await_flag(const uint64_t *flag, uint64_t value) { emulator::block_until([flag, value] { return *flag == value; }); }
}  // namespace fkdai

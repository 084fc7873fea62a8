// Host stand-in for src/cuda/device/registers.cuh.
#pragma once
namespace fkdai {
template <int> void grow_registers() {}
template <int> void shrink_registers() {}
}  // namespace fkdai

// Registers move between warpgroups: those that compute little give them up, those that hold the state take them.
//
// All warps of a warpgroup call it, each role in its own branch; the kernel needs __launch_bounds__(threads, 1).
#pragma once

namespace fkdai {

template <int registers>
__device__ __forceinline__ void grow_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

template <int registers>
__device__ __forceinline__ void shrink_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}

}  // namespace fkdai

// Programmatic launch: a kernel's blocks may start while the kernel before it still runs, and wait here for its results. Before sm_90 there is none:
// kernels run one after the other, and both functions do nothing.
#pragma once

#include <cstdint>

namespace fkdai {

// The next kernel's blocks may start as soon as every block of this one has said so or ended.
__device__ __forceinline__ void release_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Until the kernel before has ended and what it wrote is visible. Returns at once after an ordinary launch.
__device__ __forceinline__ void await_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// The same, but not before `known` is: the compiler would wait at once, and compute afterwards what needs no result of that kernel. It is stored in
// shared memory, where nobody reads it: by all threads in one place, which racecheck would report.
__device__ __forceinline__ void await_previous_kernel(uint64_t known, uint32_t *unread) {
#ifdef FKDA_EVERY_LANE_ARRIVES
    (void)known, (void)unread;
#else
    *static_cast<volatile uint32_t *>(unread) = static_cast<uint32_t>(known ^ known >> 32);
#endif
    await_previous_kernel();
}

}  // namespace fkdai

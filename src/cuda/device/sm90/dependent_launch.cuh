// Programmatic launch: a kernel's blocks may start while the kernel before it still runs, and wait here for its results.
#pragma once

namespace fkdai {

// The next kernel's blocks may start as soon as every block of this one has said so or ended.
__device__ __forceinline__ void release_next_kernel() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// Until the kernel before has ended and what it wrote is visible. Returns at once after an ordinary launch.
__device__ __forceinline__ void await_previous_kernel() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

}  // namespace fkdai

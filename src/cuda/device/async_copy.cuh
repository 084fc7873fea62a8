// Copies from global to shared memory that hold no register while they are in flight (cp.async, sm_80 and later).
//
// A thread sees what it has copied itself as soon as it has waited for the group; other threads after a barrier besides.
#pragma once

#include "device/shared_access.cuh"

namespace fkdai {

// A whole T of 8 or 16 bytes, aligned to its size on both sides.
template <class T>
__device__ __forceinline__ void copy_async(T *shared, const T *global) {
    static_assert(sizeof(T) == 8 || sizeof(T) == 16);
    if constexpr (sizeof(T) == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}

// Closes a group: the thread's copies since the last one.
__device__ __forceinline__ void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the last `left` groups have arrived.
template <int left>
__device__ __forceinline__ void await_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
}

}  // namespace fkdai

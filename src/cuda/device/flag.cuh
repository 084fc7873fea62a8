// A flag in global memory that one CTA raises for another: release and acquire at the scope of the device.
#pragma once

#include <cstdint>

namespace fkdai {

// What this thread wrote, and what it saw before a block-wide barrier, is visible to who sees the flag at `value`.
__device__ __forceinline__ void raise_flag(uint64_t *flag, uint64_t value) {
    asm volatile("st.release.gpu.global.u64 [%0], %1;" ::"l"(flag), "l"(value) : "memory");
}

__device__ __forceinline__ void await_flag(const uint64_t *flag, uint64_t value) {
    uint64_t seen;
    do asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(seen) : "l"(flag) : "memory");
    while (seen != value);
}

}  // namespace fkdai

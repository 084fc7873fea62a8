// A flag in global memory that one CTA raises for another: release and acquire at the scope of the device.
#pragma once

namespace fkdai {

// What this thread wrote, and what it saw before a block-wide barrier, is visible to who sees the flag up.
__device__ __forceinline__ void raise_flag(unsigned *flag) {
    asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(flag) : "memory");
}

__device__ __forceinline__ void await_flag(const unsigned *flag) {
    unsigned is_up;
    do asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(is_up) : "l"(flag) : "memory");
    while (is_up == 0);
}

}  // namespace fkdai

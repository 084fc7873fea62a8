// Loads that are asked for now and looked at later. All of them are one predicated instruction: a branch around a load would end in a copy of its
// result, and that waits for it. Not wanted: 0, or `otherwise`.
#pragma once

#include <cstdint>

namespace fkdai {

__device__ __forceinline__ uint32_t request_word(const void *at, bool is_wanted, uint32_t otherwise = 0) {
    uint32_t x;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %2, 0;\nmov.b32 %0, %3;\n@p ld.global.b32 %0, [%1];\n}"
                 : "=r"(x) : "l"(at), "r"(int(is_wanted)), "r"(otherwise));
    return x;
}

// A word that the kernel before may still be writing (device/dependent_launch.cuh): old, new, and in each thread another. It comes from where kernels
// meet, and leaves nothing in a cache that is asked again.
__device__ __forceinline__ uint32_t request_early_word(const void *at, bool is_wanted, uint32_t otherwise = 0) {
    uint32_t x;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %2, 0;\nmov.b32 %0, %3;\n@p ld.relaxed.gpu.global.b32 %0, [%1];\n}"
                 : "=r"(x) : "l"(at), "r"(int(is_wanted)), "r"(otherwise));
    return x;
}

// Asks for the line of memory at this address in L2, which changes nothing that anybody reads.
__device__ __forceinline__ void prefetch_line(const void *at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

__device__ __forceinline__ uint32_t request_byte(const void *at, bool is_wanted, uint32_t otherwise) {
    uint32_t x;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %2, 0;\nmov.b32 %0, %3;\n@p ld.global.u8 %0, [%1];\n}"
                 : "=r"(x) : "l"(at), "r"(int(is_wanted)), "r"(otherwise));
    return x;
}

// A store in one instruction too, aligned to 16 bytes.
__device__ __forceinline__ void store_16(void *at, const uint4 &x, bool is_wanted) {
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p st.global.v4.b32 [%0], {%1, %2, %3, %4};\n}"
                 ::"l"(at), "r"(x.x), "r"(x.y), "r"(x.z), "r"(x.w), "r"(int(is_wanted)) : "memory");
}

// 8 and 16 bytes, aligned to them.
__device__ __forceinline__ uint2 request_8(const void *at, bool is_wanted) {
    uint2 x;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %3, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\n@p ld.global.v2.b32 {%0, %1}, [%2];\n}"
                 : "=r"(x.x), "=r"(x.y) : "l"(at), "r"(int(is_wanted)));
    return x;
}

__device__ __forceinline__ uint4 request_16(const void *at, bool is_wanted) {
    uint4 x;
    asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
                 "@p ld.global.v4.b32 {%0, %1, %2, %3}, [%4];\n}"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at), "r"(int(is_wanted)));
    return x;
}

// 16 bytes, or the first 8.
__device__ __forceinline__ uint4 request_16_or_8(const void *at, bool is_wanted, bool is_16) {
    uint4 x;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.s32 p, %5, 0;\nsetp.ne.s32 q, %6, 0;\nmov.b32 %0, 0;\nmov.b32 %1, 0;\nmov.b32 %2, 0;\nmov.b32 %3, 0;\n"
                 "@p ld.global.v4.b32 {%0, %1, %2, %3}, [%4];\n@q ld.global.v2.b32 {%0, %1}, [%4];\n}"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w) : "l"(at), "r"(int(is_wanted && is_16)), "r"(int(is_wanted && !is_16)));
    return x;
}

// 4 bytes, or 2.
__device__ __forceinline__ uint32_t request_4_or_2(const void *at, bool is_wanted, bool is_4) {
    uint32_t x;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.s32 p, %2, 0;\nsetp.ne.s32 q, %3, 0;\nmov.b32 %0, 0;\n"
                 "@p ld.global.b32 %0, [%1];\n@q ld.global.u16 %0, [%1];\n}"
                 : "=r"(x) : "l"(at), "r"(int(is_wanted && is_4)), "r"(int(is_wanted && !is_4)));
    return x;
}

// 0, but of the compiler's knowledge another number in each thread. In an address that is the same for all threads it keeps what is read out of the
// uniform registers: the way into them waits for it, in the middle of other requests.
__device__ __forceinline__ uint32_t zero_of_thread() {
    uint32_t below;
    asm("mov.u32 %0, %%lanemask_lt;" : "=r"(below));
    return below >> 31;
}

}  // namespace fkdai

// Shared memory by 32-bit address: loads, stores, and the 8x8 matrix form (ldmatrix).
//
// Addresses are shared-window addresses (`shared_address`). Matrix forms: lane l supplies the address of row l & 7
// of matrix l >> 3; afterwards lane l holds elements 2*(l & 3), 2*(l & 3) + 1 of row l >> 2 of each matrix, or,
// with `_transposed`, of column l >> 2.
#pragma once

#include <cstdint>

namespace fkdai {

__device__ __forceinline__ uint32_t shared_address(const void *p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// The block's dynamic shared memory as a T, aligned to 1024 bytes or as is said (the runtime aligns it to 16: ask for as many more).
template <class T, uint32_t alignment = 1024>
__device__ __forceinline__ T &dynamic_shared() {
    extern __shared__ uint8_t dynamic_smem[];
    return *reinterpret_cast<T *>(dynamic_smem + (-shared_address(dynamic_smem) & (alignment - 1)));
}

// The same pointer, of which the compiler does not know where it leads: of one that leads to global or to shared memory nvcc 13.0 takes it for granted
// that it is global, and the access faults.
template <class T>
__device__ __forceinline__ T *generic(T *x) {
    T *same;
    asm("mov.b64 %0, %1;" : "=l"(same) : "l"(x));
    return same;
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}

__device__ __forceinline__ float load_float(uint32_t address) {
    float v;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(address) : "memory");
    return v;
}

__device__ __forceinline__ float4 load_float4(uint32_t address) {
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(address) : "memory");
    return v;
}

__device__ __forceinline__ float2 load_float2(uint32_t address) {
    float2 v;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(address) : "memory");
    return v;
}

__device__ __forceinline__ uint4 load_uint4(uint32_t address) {
    uint4 v;
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return v;
}

__device__ __forceinline__ void store_word(uint32_t address, uint32_t x) {
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(x) : "memory");
}

__device__ __forceinline__ void store_float2(uint32_t address, float x, float y) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(x), "f"(y) : "memory");
}

__device__ __forceinline__ void store_float4(uint32_t address, const float4 &x) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(address), "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w) : "memory");
}

__device__ __forceinline__ void store_uint4(uint32_t address, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};"
                 ::"r"(address), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}

}  // namespace fkdai

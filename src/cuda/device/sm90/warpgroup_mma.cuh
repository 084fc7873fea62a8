// wgmma for bf16 or fp16 operands and fp32 accumulators (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions").
//
// Accumulators are plain arrays: element 4*b + 2*half + e of lane l in warp w is row 16*w + l/4 + 8*half, column
// 8*b + 2*(l%4) + e. The same layout, packed to 16 bits, is the A operand of the next product (`as_operand`).
// Arrays that a product in flight writes go through `pin` before and after, so that no move crosses it.
#pragma once

#include <cstdint>

#include "device/scalar_math.cuh"

namespace fkdai {

enum class ScaleOut : int { Zero = 0, One = 1 };  // c = A B, c += A B
enum class Major : int { K = 0, MN = 1 };         // the axis of B along which elements are contiguous in shared memory
enum class Swizzle : uint32_t { B128 = 1, B64 = 2 };

// Shared-memory operand: start address, and the byte distances between core-matrix groups (leading, stride).
// Only the low word depends on the address, so moving an operand is one 32-bit addition.
template <uint32_t leading_bytes, uint32_t stride_bytes, Swizzle swizzle>
struct Operand {
    uint32_t low;

    __device__ __forceinline__ explicit Operand(uint32_t address)
        : low(((address & 0x3ffff) >> 4) | (leading_bytes >> 4 << 16)) {}
    __device__ __forceinline__ uint64_t at(uint32_t bytes) const {
        constexpr uint64_t high = stride_bytes >> 4 | static_cast<uint32_t>(swizzle) << 30;
        return high << 32 | (low + bytes / 16);
    }
};

// The n accumulators of an instruction: their places in its text, and the registers bound to them.
#define FKDAI_PLACES_16 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define FKDAI_PLACES_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define FKDAI_PLACES_64 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
    "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define FKDAI_BIND_4(c, i) "+f"(c[i]), "+f"(c[(i) + 1]), "+f"(c[(i) + 2]), "+f"(c[(i) + 3])
#define FKDAI_BIND_16(c, i) FKDAI_BIND_4(c, i), FKDAI_BIND_4(c, (i) + 4), FKDAI_BIND_4(c, (i) + 8), FKDAI_BIND_4(c, (i) + 12)
#define FKDAI_BIND_32(c, i) FKDAI_BIND_16(c, i), FKDAI_BIND_16(c, (i) + 16)
#define FKDAI_BIND_64(c, i) FKDAI_BIND_32(c, i), FKDAI_BIND_32(c, (i) + 32)

// c [64, 2n] (+)= A [64,16] B [16, 2n]: A's four registers, B's descriptor and the scale follow the n accumulators, at places a0 ... scale.
#define FKDAI_WGMMA_REGISTERS(n, shape, type, a0, a1, a2, a3, b_at, scale_at, major_at)                                          \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #scale_at ", 0;\n"                                                  \
                 "wgmma.mma_async.sync.aligned." shape ".f32." type " {" FKDAI_PLACES_##n "}, "                            \
                 "{%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b_at ", p, 1, 1, %" #major_at ";\n}"                       \
                 : FKDAI_BIND_##n(c, 0)                                                                                    \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(scale)), "n"(static_cast<int>(b_major)))

enum class Type16 { BF16, F16 };

// A from registers, `width` columns of B.
template <int width, Major b_major, Type16 type>
struct MmaRegisters {
    __device__ __forceinline__ static void multiply(const uint32_t (&a)[4], uint64_t b, float (&c)[width / 2], ScaleOut scale) {
        static_assert(width == 32 || width == 128 || (width == 64 && type == Type16::BF16));
        constexpr bool is_bf16 = type == Type16::BF16;
        if constexpr (width == 32 && is_bf16) FKDAI_WGMMA_REGISTERS(16, "m64n32k16", "bf16.bf16", 16, 17, 18, 19, 20, 21, 22);
        if constexpr (width == 32 && !is_bf16) FKDAI_WGMMA_REGISTERS(16, "m64n32k16", "f16.f16", 16, 17, 18, 19, 20, 21, 22);
        if constexpr (width == 64 && is_bf16) FKDAI_WGMMA_REGISTERS(32, "m64n64k16", "bf16.bf16", 32, 33, 34, 35, 36, 37, 38);
        if constexpr (width == 128 && is_bf16) FKDAI_WGMMA_REGISTERS(64, "m64n128k16", "bf16.bf16", 64, 65, 66, 67, 68, 69, 70);
        if constexpr (width == 128 && !is_bf16) FKDAI_WGMMA_REGISTERS(64, "m64n128k16", "f16.f16", 64, 65, 66, 67, 68, 69, 70);
    }
};
using MmaN32 = MmaRegisters<32, Major::K, Type16::BF16>;
using MmaN64 = MmaRegisters<64, Major::K, Type16::BF16>;
using MmaN32F16 = MmaRegisters<32, Major::K, Type16::F16>;
using MmaN32BMnF16 = MmaRegisters<32, Major::MN, Type16::F16>;
using MmaN128BMnF16 = MmaRegisters<128, Major::MN, Type16::F16>;

// Half of the accumulators: 64 columns of 128, from column 2 `first` on. ptxas has no place for all 64 at once in a kernel of more than 680 threads.
template <int first>
struct MmaHalfBMnF16 {
    __device__ __forceinline__ static void multiply(const uint32_t (&a)[4], uint64_t b, float (&c)[64], ScaleOut scale) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" FKDAI_PLACES_32 "}, {%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}"
                     : FKDAI_BIND_32(c, first)
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(scale)));
    }
};

// A and B from shared memory, bf16, both K-major; 32 columns.
struct MmaSharedN32 {
    __device__ __forceinline__ static void multiply(uint64_t a, uint64_t b, float (&c)[16], ScaleOut scale) {
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
                     "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" FKDAI_PLACES_16 "}, %16, %17, p, 1, 1, 0, 0;\n}"
                     : FKDAI_BIND_16(c, 0)
                     : "l"(a), "l"(b), "r"(static_cast<int>(scale)));
    }
};

template <class Atom, int n>
__device__ __forceinline__ void mma(const uint32_t (&a)[4], uint64_t b, float (&c)[n], ScaleOut scale = ScaleOut::One) {
    Atom::multiply(a, b, c, scale);
}
template <class Atom, int n>
__device__ __forceinline__ void mma(uint64_t a, uint64_t b, float (&c)[n], ScaleOut scale = ScaleOut::One) {
    Atom::multiply(a, b, c, scale);
}

template <int n>
__device__ __forceinline__ void pin(float (&c)[n]) {
#pragma unroll
    for (int i = 0; i < n; i++) asm volatile("" : "+f"(c[i])::"memory");
}

__device__ __forceinline__ void mma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void mma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int groups_in_flight>
__device__ __forceinline__ void mma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(groups_in_flight) : "memory");
}

// The A operands (16 columns each) of an fp32 accumulator of n / 2 columns: the only rounding on this path.
template <Type16 type, int n>
__device__ __forceinline__ void as_operand(uint32_t (&a)[n / 8][4], const float (&c)[n]) {
#pragma unroll
    for (int k = 0; k < n / 8; k++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const float first = c[8 * k + 2 * j], second = c[8 * k + 2 * j + 1];
            a[k][j] = type == Type16::BF16 ? pack_bf16(first, second) : pack_f16(first, second);
        }
}

}  // namespace fkdai

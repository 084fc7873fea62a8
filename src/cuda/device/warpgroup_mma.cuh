// wgmma for bf16 operands and fp32 accumulators, as thin names over CuTe's atoms.
//
// Accumulators are plain arrays: element 4*b + 2*half + e of lane l in warp w is row 16*w + l/4 + 8*half, column
// 8*b + 2*(l%4) + e. The same layout, packed to bf16, is the A operand of the next product (`as_operand`).
// Arrays that a product in flight writes go through `pin` before and after, so that no move crosses it.
#pragma once

#define CUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED
#include <cute/arch/mma_sm90_gmma.hpp>
#include <cute/arch/mma_sm90_gmma_ext.hpp>

#include <cstdint>
#include <utility>

#include "scalar_math.cuh"

namespace fkdai {

namespace gmma = cute::SM90::GMMA;
using gmma::ScaleOut;

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

// A from registers; N is the width of the product, B stands K-major or MN-major in shared memory.
using MmaN32 = gmma::MMA_64x32x16_F32BF16BF16_RS<gmma::Major::K, gmma::Major::K>;
using MmaN32BMn = gmma::MMA_64x32x16_F32BF16BF16_RS<gmma::Major::K, gmma::Major::MN>;
using MmaN128BMn = gmma::MMA_64x128x16_F32BF16BF16_RS<gmma::Major::K, gmma::Major::MN>;
// A and B from shared memory.
using MmaSharedN32 = gmma::MMA_64x32x16_F32BF16BF16_SS<gmma::Major::K, gmma::Major::K>;

namespace detail {
template <class Atom, int n, size_t... i>
__device__ __forceinline__ void mma(const uint32_t (&a)[4], uint64_t b, float (&c)[n], ScaleOut scale,
                                    std::index_sequence<i...>) {
    Atom::fma(a[0], a[1], a[2], a[3], b, c[i]..., scale);
}
template <class Atom, int n, size_t... i>
__device__ __forceinline__ void mma(uint64_t a, uint64_t b, float (&c)[n], ScaleOut scale,
                                    std::index_sequence<i...>) {
    Atom::fma(a, b, c[i]..., scale);
}
}  // namespace detail

template <class Atom, int n>
__device__ __forceinline__ void mma(const uint32_t (&a)[4], uint64_t b, float (&c)[n],
                                    ScaleOut scale = ScaleOut::One) {
    detail::mma<Atom>(a, b, c, scale, std::make_index_sequence<n>{});
}
template <class Atom, int n>
__device__ __forceinline__ void mma(uint64_t a, uint64_t b, float (&c)[n], ScaleOut scale = ScaleOut::One) {
    detail::mma<Atom>(a, b, c, scale, std::make_index_sequence<n>{});
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

// The bf16 A operands (16 columns each) of an fp32 accumulator of n / 2 columns: the only rounding on this path.
template <int n>
__device__ __forceinline__ void as_operand(uint32_t (&a)[n / 8][4], const float (&c)[n]) {
#pragma unroll
    for (int k = 0; k < n / 8; k++)
#pragma unroll
        for (int j = 0; j < 4; j++) a[k][j] = pack_bf16(c[8 * k + 2 * j], c[8 * k + 2 * j + 1]);
}

}  // namespace fkdai

// Host stand-in for src/cuda/device/warpgroup_mma.cuh: products through the real descriptors and swizzles.
#pragma once
#include "device/scalar_math.cuh"
#include "device/shared_access.cuh"

namespace fkdai {

enum class ScaleOut { Zero, One };
enum class Type16 { BF16, F16 };
enum class Swizzle : uint32_t { B128 = 1, B64 = 2 };

template <uint32_t leading_bytes, uint32_t stride_bytes, Swizzle swizzle>
struct Operand {
    uint32_t low;
    explicit Operand(uint32_t address) : low(((address & 0x3ffff) >> 4) | (leading_bytes >> 4 << 16)) {}
    uint64_t at(uint32_t bytes) const {
        constexpr uint64_t high = stride_bytes >> 4 | static_cast<uint32_t>(swizzle) << 30;
        return high << 32 | (low + bytes / 16);
    }
};

inline float value_16(Type16 type, uint16_t bits) { return type == Type16::BF16 ? low_bf16(bits) : f16_of(bits); }

// Element (row, k) of an operand in this block's shared memory; rows along M or N.
struct SharedOperand {
    const uint8_t *block = emulator::shared_pointer(emulator::self().cluster_rank << emulator::kRankShift);
    uint64_t descriptor;
    bool is_k_major;
    Type16 type;
    SharedOperand(uint64_t d, bool k_major, Type16 t) : descriptor(d), is_k_major(k_major), type(t) {}
    float operator()(int row, int k) const {
        const uint32_t start = static_cast<uint32_t>(descriptor & 0x3fff) << 4, leading = static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4,
                       stride = static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4;
        const bool is_128 = descriptor >> 62 == 1;
        const int line = is_128 ? 128 : 64, outer = is_k_major ? row : k, inner = is_k_major ? k : row, wide = line / 2;
        uint32_t at = start + static_cast<uint32_t>(outer / 8) * stride + static_cast<uint32_t>(outer % 8 * line);
        at += static_cast<uint32_t>(inner / wide) * leading + static_cast<uint32_t>(inner % wide * 2);
        at ^= is_128 ? at >> 3 & 0x70 : at >> 3 & 0x30;
        uint16_t bits;
        memcpy(&bits, block + at, sizeof bits);
        return value_16(type, bits);
    }
};

// first: of the accumulators, which may be more.
template <int width, bool b_is_k_major, Type16 type, int first = 0>
struct RegisterAtom {
    static constexpr int kWidth = width, kFirst = first;
    static constexpr bool kBIsKMajor = b_is_k_major;
    static constexpr Type16 kType = type;
};
using MmaN32 = RegisterAtom<32, true, Type16::BF16>;
using MmaN64 = RegisterAtom<64, true, Type16::BF16>;
using MmaN32F16 = RegisterAtom<32, true, Type16::F16>;
using MmaN32BMnF16 = RegisterAtom<32, false, Type16::F16>;
using MmaN128BMnF16 = RegisterAtom<128, false, Type16::F16>;
template <int first>
using MmaHalfBMnF16 = RegisterAtom<64, false, Type16::F16, first>;
struct MmaSharedN32 : RegisterAtom<32, true, Type16::BF16> {};

struct MmaBring {
    const uint32_t *a;
    float *c;
};

// Accumulator (row, column) of the warpgroup: which thread, which element.
inline float &accumulator(void **all, int row, int column) {
    const int warp = row / 16, lane = row % 8 * 4 + column % 8 / 2;
    return static_cast<MmaBring *>(all[warp * 32 + lane])->c[column / 8 * 4 + row % 16 / 8 * 2 + column % 2];
}

// c = (0 or c) + A B, [64,N] = [64,16] [16,N]: every sum over k in order, all columns of a row side by side. In double, where no product is
// subnormal: in float, those of decayed numbers took half of the emulator's time. So a sum that overflows fp32 on the way and comes back is not seen.
template <class Atom, class ReadA>
void multiply(void **all, uint64_t b, ScaleOut scale, const ReadA &a) {
    const SharedOperand read_b(b, Atom::kBIsKMajor, Atom::kType);
    double right[16][Atom::kWidth];
    for (int k = 0; k < 16; k++)
        for (int n = 0; n < Atom::kWidth; n++) right[k][n] = read_b(n, k);
    for (int m = 0; m < 64; m++) {
        double sum[Atom::kWidth] = {};
        for (int k = 0; k < 16; k++) {
            const double left = a(m, k);
            for (int n = 0; n < Atom::kWidth; n++) sum[n] += left * right[k][n];
        }
        for (int n = 0; n < Atom::kWidth; n++) {
            float &c = accumulator(all, m, n + 2 * Atom::kFirst);
            c = (scale == ScaleOut::Zero ? 0.f : c) + static_cast<float>(sum[n]);
        }
    }
}

template <class Atom, int n>
void mma(const uint32_t (&a)[4], uint64_t b, float (&c)[n], ScaleOut scale = ScaleOut::One) {
    static_assert(n >= Atom::kFirst + Atom::kWidth / 2);
    MmaBring bring{a, c};
    emulator::meet_warpgroup(&bring, [b, scale](void **all) {
        multiply<Atom>(all, b, scale, [all](int m, int k) {
            const int warp = m / 16, lane = m % 8 * 4 + k % 8 / 2, word = k / 8 * 2 + m % 16 / 8;
            const uint32_t pair = static_cast<MmaBring *>(all[warp * 32 + lane])->a[word];
            return value_16(Atom::kType, static_cast<uint16_t>(k % 2 ? pair >> 16 : pair));
        });
    });
}
template <class Atom, int n>
void mma(uint64_t a, uint64_t b, float (&c)[n], ScaleOut scale = ScaleOut::One) {
    MmaBring bring{nullptr, c};
    emulator::meet_warpgroup(&bring, [a, b, scale](void **all) { multiply<Atom>(all, b, scale, SharedOperand(a, true, Atom::kType)); });
}

template <int n>
void pin(float (&)[n]) {}
inline void mma_begin() {}
inline void mma_commit() {}
template <int groups_in_flight>
void mma_wait() {}

template <Type16 type, int n>
void as_operand(uint32_t (&a)[n / 8][4], const float (&c)[n]) {
    for (int k = 0; k < n / 8; k++)
        for (int j = 0; j < 4; j++) a[k][j] = (type == Type16::BF16 ? pack_bf16 : pack_f16)(c[8 * k + 2 * j], c[8 * k + 2 * j + 1]);
}

}  // namespace fkdai

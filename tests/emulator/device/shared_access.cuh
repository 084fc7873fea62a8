// Host stand-in for src/cuda/device/shared_access.cuh.
#pragma once
#include "emulator.h"

namespace fkdai {

inline uint32_t shared_address(const void *p) {
    const emulator::Thread &t = emulator::self();
    return t.cluster_rank << emulator::kRankShift | static_cast<uint32_t>(static_cast<const uint8_t *>(p) - t.own().memory.get());
}

template <class T, uint32_t = 1024>
T &dynamic_shared() { return *reinterpret_cast<T *>(emulator::self().own().memory.get()); }
template <class T>
T *generic(T *x) { return x; }

template <class T>
T load_shared(uint32_t address) {
    T x;
    memcpy(&x, emulator::shared_pointer(address), sizeof x);
    return x;
}
template <class T>
void store_shared(uint32_t address, T x) { memcpy(emulator::shared_pointer(address), &x, sizeof x); }

// Element e of row `row` of matrix m belongs to lane 4 row + e / 2, half e % 2; transposed: row and column change places.
struct Matrices {
    uint32_t address;
    uint32_t word[4];
};
inline void move_matrices(void **all, bool is_load, bool is_transposed) {
    for (int m = 0; m < 4; m++)
        for (int row = 0; row < 8; row++) {
            uint8_t *const at = emulator::shared_pointer(static_cast<Matrices *>(all[8 * m + row])->address);
            for (int column = 0; column < 8; column++) {
                const int r = is_transposed ? column : row, c = is_transposed ? row : column;
                auto *const half = reinterpret_cast<uint16_t *>(&static_cast<Matrices *>(all[4 * r + c / 2])->word[m]) + c % 2;
                if (is_load) memcpy(half, at + 2 * column, 2);
                else memcpy(at + 2 * column, half, 2);
            }
        }
}
inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
    Matrices x{address, {}};
    emulator::meet_warp(&x, [](void **all) { move_matrices(all, true, false); });
    memcpy(r, x.word, 16);
}
inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
    Matrices x{address, {}};
    emulator::meet_warp(&x, [](void **all) { move_matrices(all, true, true); });
    memcpy(r, x.word, 16);
}
inline float load_float(uint32_t a) { return load_shared<float>(a); }
inline float4 load_float4(uint32_t a) { return load_shared<float4>(a); }
inline float2 load_float2(uint32_t a) { return load_shared<float2>(a); }
inline uint4 load_uint4(uint32_t a) { return load_shared<uint4>(a); }
inline void store_word(uint32_t a, uint32_t x) { store_shared(a, x); }
inline void store_float2(uint32_t a, float x, float y) { store_shared(a, float2{x, y}); }
inline void store_float4(uint32_t a, const float4 &x) { store_shared(a, x); }
inline void store_uint4(uint32_t a, uint32_t x, uint32_t y, uint32_t z, uint32_t w) { store_shared(a, uint4{x, y, z, w}); }

}  // namespace fkdai

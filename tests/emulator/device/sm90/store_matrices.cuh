// Host stand-in for src/cuda/device/sm90/store_matrices.cuh.
#pragma once
#include "device/shared_access.cuh"

namespace fkdai {

inline void store_matrices(uint32_t address, const uint32_t (&r)[4]) {
    Matrices x{address, {r[0], r[1], r[2], r[3]}};
    emulator::meet_warp(&x, [](void **all) { move_matrices(all, false, false); });
}
inline void store_matrices_transposed(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
    Matrices x{address, {r0, r1, r2, r3}};
    emulator::meet_warp(&x, [](void **all) { move_matrices(all, false, true); });
}

}  // namespace fkdai

// Host stand-in for src/cuda/device/warp_mma.cuh.
#pragma once
#include "emulator.h"
#include "device/scalar_math.cuh"

namespace fkdai {

// c += A B, [16,8] = [16,8] [8,8]; lane 4 r + q brings a[row half][k in order] of rows r, r + 8 and b of column r.
struct WarpProduct {
    float *c;
    float a[2][2], b[2];
    void meet() {
        ::emulator::meet_warp(this, [](void **all) {
            auto lane = [all](int l) { return static_cast<WarpProduct *>(all[l]); };
            for (int row = 0; row < 16; row++)
                for (int column = 0; column < 8; column++) {
                    double sum = 0;
                    for (int q = 0; q < 4; q++)
                        for (int i = 0; i < 2; i++)
                            sum += double(lane(4 * (row % 8) + q)->a[row / 8][i]) * lane(4 * column + q)->b[i];
                    lane(4 * (row % 8) + column / 2)->c[2 * (row / 8) + column % 2] += static_cast<float>(sum);
                }
        });
    }
};

inline void multiply_bf16(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t b) {
    WarpProduct x{c, {{low_bf16(a0), high_bf16(a0)}, {low_bf16(a1), high_bf16(a1)}}, {low_bf16(b), high_bf16(b)}};
    x.meet();
}

// The tensor cores leave out what tf32 cannot hold.
inline float as_tf32(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }
inline void multiply_tf32(float (&c)[4], const float (&a)[4], float b0, float b1) {
    WarpProduct x{c, {{as_tf32(a[0]), as_tf32(a[2])}, {as_tf32(a[1]), as_tf32(a[3])}}, {as_tf32(b0), as_tf32(b1)}};
    x.meet();
}

}  // namespace fkdai

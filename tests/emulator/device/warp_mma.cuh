// Host stand-in for src/cuda/device/warp_mma.cuh.
#pragma once
#include "emulator.h"
#include "scalar_math.cuh"

namespace fkdai {

// c += A B, [16,8] = [16,k] [k,8]; lane 4 r + q brings a[row half][k in order] of rows r, r + 8 and b of column r.
template <int kSlots>  // columns of a row that one lane holds
struct WarpProduct {
    float *c;
    float a[2][kSlots], b[kSlots];
    void meet() {
        ::emulator::meet_warp(this, [](void **all) {
            auto lane = [all](int l) { return static_cast<WarpProduct *>(all[l]); };
            for (int row = 0; row < 16; row++)
                for (int column = 0; column < 8; column++) {
                    double sum = 0;
                    for (int q = 0; q < 4; q++)
                        for (int i = 0; i < kSlots; i++)
                            sum += double(lane(4 * (row % 8) + q)->a[row / 8][i]) * lane(4 * column + q)->b[i];
                    lane(4 * (row % 8) + column / 2)->c[2 * (row / 8) + column % 2] += static_cast<float>(sum);
                }
        });
    }
};

inline void multiply_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    WarpProduct<4> x{c, {{low_bf16(a[0]), high_bf16(a[0]), low_bf16(a[2]), high_bf16(a[2])},
                         {low_bf16(a[1]), high_bf16(a[1]), low_bf16(a[3]), high_bf16(a[3])}},
                     {low_bf16(b0), high_bf16(b0), low_bf16(b1), high_bf16(b1)}};
    x.meet();
}

// The tensor cores leave out what tf32 cannot hold.
inline float as_tf32(float x) { return __uint_as_float(__float_as_uint(x) & 0xffffe000u); }
inline void multiply_tf32(float (&c)[4], const float (&a)[4], float b0, float b1) {
    WarpProduct<2> x{c, {{as_tf32(a[0]), as_tf32(a[2])}, {as_tf32(a[1]), as_tf32(a[3])}}, {as_tf32(b0), as_tf32(b1)}};
    x.meet();
}

}  // namespace fkdai

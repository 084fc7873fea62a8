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

// Likewise with 16 columns of A.
struct WideProduct {
    float *c;
    float a[2][2][2], b[2][2];    // [half of k][row half][in order]; [half of k][in order]
    void meet() {
        ::emulator::meet_warp(this, [](void **all) {
            float rows[16][16], columns[8][16];
            for (int l = 0; l < 32; l++) {
                const auto *const x = static_cast<WideProduct *>(all[l]);
                for (int half = 0; half < 2; half++)
                    for (int i = 0; i < 2; i++) {
                        const int k = 8 * half + 2 * (l % 4) + i;
                        rows[l / 4][k] = x->a[half][0][i], rows[l / 4 + 8][k] = x->a[half][1][i], columns[l / 4][k] = x->b[half][i];
                    }
            }
            for (int row = 0; row < 16; row++)
                for (int column = 0; column < 8; column++) {
                    double sum = 0;
                    for (int k = 0; k < 16; k++) sum += double(rows[row][k]) * columns[column][k];
                    static_cast<WideProduct *>(all[4 * (row % 8) + column / 2])->c[2 * (row / 8) + column % 2] += static_cast<float>(sum);
                }
        });
    }
};

inline void multiply_16_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    WideProduct x{c, {}, {{low_bf16(b0), high_bf16(b0)}, {low_bf16(b1), high_bf16(b1)}}};
    for (int i = 0; i < 4; i++) x.a[i / 2][i % 2][0] = low_bf16(a[i]), x.a[i / 2][i % 2][1] = high_bf16(a[i]);
    x.meet();
}
inline void multiply_16_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    WideProduct x{c, {}, {{low_f16(b0), high_f16(b0)}, {low_f16(b1), high_f16(b1)}}};
    for (int i = 0; i < 4; i++) x.a[i / 2][i % 2][0] = low_f16(a[i]), x.a[i / 2][i % 2][1] = high_f16(a[i]);
    x.meet();
}

inline uint32_t transpose_matrix(uint32_t x) {
    struct Bring { uint32_t word, result; } bring{x, 0};
    ::emulator::meet_warp(&bring, [](void **all) {
        const auto lane = [all](int l) { return static_cast<Bring *>(all[l]); };
        for (int l = 0; l < 32; l++) {
            uint32_t result = 0;
            for (int i = 0; i < 2; i++) {
                const int row = 2 * (l % 4) + i, column = l / 4;
                result |= (lane(4 * row + column / 2)->word >> 16 * (column % 2) & 0xffffu) << 16 * i;
            }
            lane(l)->result = result;
        }
    });
    return bring.result;
}

}  // namespace fkdai

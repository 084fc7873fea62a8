/* The caller's scale as the kernels of the forward pass take it. C and C++. */
#ifndef FKDAI_FORWARD_SCALE_H
#define FKDAI_FORWARD_SCALE_H

#include <math.h>

/*
 * scale = q * out. That of out is a power of two: 1 for scales from 2^-8 up to 2^8, with which M, at most the scale, fits fp16, and what M rounds to 0 is
 * far below the rounding of out. Other scales leave 1/16 to 1/8 to q, where that is possible; a factor of out sends every chunk over the kernels' path
 * for rows that do not fit fp16 (device/f16_rows.cuh).
 */
typedef struct fkdai_scale {
    float q, out;
} fkdai_scale;

static inline fkdai_scale fkdai_split_scale(float scale)
{
    int exponent = -3;
    if (scale != 0) (void)frexpf(scale, &exponent);
    const int power = exponent > -8 && exponent <= 8 ? 0 : exponent + 3, largest = 100;
    const float out = ldexpf(1, power > largest ? largest : power < -largest ? -largest : power);
    const fkdai_scale split = {scale / out, out};
    return split;
}

#endif

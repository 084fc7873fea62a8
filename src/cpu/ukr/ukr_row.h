/* One row of a tensor: from memory, scaled or normalised, to fp32; and back, rounded once. */
#include <math.h>

#include "dtype.h"
#include "ukr.h"
#include "vec_math.h"

#define NORM_EPS 1e-6

/* |x|^2, for values whose squares leave the range of fp32. */
static double wide_squares(const void *x, fkda_dtype dtype, int64_t width)
{
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += fkdai_load(x, dtype, i) * fkdai_load(x, dtype, i);
    return squares;
}

/* factor / sqrt(|x|^2 + eps) as a product of two, because that of a large row can be too small for one fp32. */
typedef struct split_factor {
    float first, second;
} split_factor;

static split_factor wide_factor(const void *x, fkda_dtype dtype, int64_t width, float factor)
{
    return (split_factor){(float)(0x1p60 / sqrt(wide_squares(x, dtype, width) + NORM_EPS)), factor * 0x1p-60f};
}

ALWAYS_INLINE void scale_as(const void *x, fkda_dtype dtype, int64_t width, float factor, float *row)
{
    for (int64_t c = 0; c < width; c += VL) v_store(row + c, v_load_as(x, dtype, c) * v_set1(factor));
}

/* width is a constant, so that the row stays in registers where there are enough. */
ALWAYS_INLINE void normalise_as(const void *x, fkda_dtype dtype, const int64_t width, float factor, float *row)
{
    vf values[FKDAI_CPU_MAX_WIDTH / VL], squares = v_set1(0.0f);
    UNROLL for (int64_t c = 0; c < width; c += VL) {
        values[c / VL] = v_load_as(x, dtype, c);
        squares = v_fma(values[c / VL], values[c / VL], squares);
    }
    split_factor f = {1, 1};
    const float sum = v_sum(squares);
    if (sum < 1e37f) f.first = factor / sqrtf(sum + (float)NORM_EPS);
    else f = wide_factor(x, dtype, width, factor);
    UNROLL for (int64_t c = 0; c < width; c += VL) v_store(row + c, values[c / VL] * v_set1(f.first));
    if (f.second != 1) scale_as(row, FKDA_F32, width, f.second, row);
}

ALWAYS_INLINE void normalise_any(const void *x, fkda_dtype dtype, int64_t width, float factor, float *row)
{
    if (width == FKDAI_CPU_MAX_WIDTH) normalise_as(x, dtype, FKDAI_CPU_MAX_WIDTH, factor, row);
    else normalise_as(x, dtype, FKDAI_CPU_MAX_WIDTH / 2, factor, row);
}

static void load_any(const void *x, fkda_dtype dtype, int64_t width, int is_normalised, float factor, float *row)
{
    if (is_normalised && dtype == FKDA_F32) normalise_any(x, FKDA_F32, width, factor, row);
    else if (is_normalised) normalise_any(x, FKDA_BF16, width, factor, row);
    else if (dtype == FKDA_F32) scale_as(x, FKDA_F32, width, factor, row);
    else scale_as(x, FKDA_BF16, width, factor, row);
}

static void store_any(const float *row, int64_t width, fkda_dtype dtype, void *out)
{
    if (dtype == FKDA_F32)
        for (int64_t c = 0; c < width; c += VL) v_store((float *)out + c, v_load(row + c));
    else
        for (int64_t c = 0; c < width; c += VL) v_store_bf16((uint16_t *)out + c, v_load(row + c));
}

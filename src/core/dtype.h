/* Element types in memory: their sizes, and conversions that round once, to nearest even. */
#ifndef FKDAI_DTYPE_H
#define FKDAI_DTYPE_H

#include <stdint.h>
#include <string.h>

#include "flashkda.h"

static inline int64_t fkdai_dtype_bytes(fkda_dtype dtype)
{
    switch (dtype) {
    case FKDA_NONE: return 0;
    case FKDA_BF16: case FKDA_F16: return 2;
    case FKDA_F32: case FKDA_I32: return 4;
    case FKDA_I64: return 8;
    }
    return 0;
}

static inline float fkdai_bf16_to_f32(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

static inline uint16_t fkdai_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);    /* NaN stays NaN, made quiet */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

/* double to bf16 in one rounding: round to odd in fp32 first, so that the second rounding sees every lost bit. */
static inline uint16_t fkdai_f64_to_bf16(double value)
{
    float near = (float)value;
    if ((double)near != value && near == near) {
        uint32_t bits;
        memcpy(&bits, &near, sizeof bits);
        const int too_large = value >= 0 ? (double)near > value : (double)near < value;
        if (too_large) bits -= 1;
        bits |= 1u;
        memcpy(&near, &bits, sizeof near);
    }
    return fkdai_f32_to_bf16(near);
}

/* Element i of a floating-point tensor, as double. */
static inline double fkdai_load(const void *base, fkda_dtype dtype, int64_t i)
{
    return dtype == FKDA_F32 ? (double)((const float *)base)[i] : (double)fkdai_bf16_to_f32(((const uint16_t *)base)[i]);
}

/* Element i of an integer array, I32 or I64. */
static inline int64_t fkdai_load_index(const void *base, fkda_dtype dtype, int64_t i)
{
    return dtype == FKDA_I32 ? (int64_t)((const int32_t *)base)[i] : ((const int64_t *)base)[i];
}

static inline void fkdai_store(void *base, fkda_dtype dtype, int64_t i, double value)
{
    if (dtype == FKDA_F32) ((float *)base)[i] = (float)value;
    else ((uint16_t *)base)[i] = fkdai_f64_to_bf16(value);
}

#endif

/*
 * The vector words of the micro-kernels, in C: 4 floats of the compiler's vector extension, whatever the machine is. The twin that the other
 * instruction sets are tested against, and the one that says what each word means.
 */
#ifndef FKDAI_VEC_H
#define FKDAI_VEC_H

#include <stdint.h>
#include <string.h>

#include "dtype.h"

enum { VL = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));

static inline vf v_load(const float *p) { vf x; memcpy(&x, p, sizeof x); return x; }
static inline void v_store(float *p, vf x) { memcpy(p, &x, sizeof x); }
static inline vf v_set1(float x) { return (vf){x, x, x, x}; }

/* a b + c and c - a b. One rounding where the instruction set has it, two here. */
static inline vf v_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf v_fnma(vf a, vf b, vf c) { return c - a * b; }

static inline vf v_and(vf x, vf mask) { return (vf)((vu)x & (vu)mask); }
static inline vf v_mask_less(vf a, vf b) { return (vf)(a < b); }                  /* all bits where a < b */
static inline vf v_select_less(vf a, vf b, vf yes, vf no)                         /* a < b ? yes : no */
{
    const vu mask = (vu)(a < b);
    return (vf)((mask & (vu)yes) | (~mask & (vu)no));
}

/* NaN in x passes. */
static inline vf v_min(vf limit, vf x) { return v_select_less(limit, x, limit, x); }
static inline vf v_max(vf limit, vf x) { return v_select_less(x, limit, limit, x); }
static inline vf v_negative_abs(vf x) { return (vf)((vu)x | (vu)v_set1(-0.0f)); }

/* To the nearest integer, ties to even, for |x| < 2^22: 1.5 2^23 has no fraction bits left. */
static inline vf v_round(vf x) { return (x + v_set1(12582912.0f)) - v_set1(12582912.0f); }

/* x 2^n for an integer n <= 127; 0 for n < -126. */
static inline vf v_ldexp(vf x, vf n)
{
    const vu exponent = (vu)(v_max(v_set1(-127.0f), n) + v_set1(12582912.0f)) - (vu)v_set1(12582912.0f);
    return x * (vf)((exponent + 127) << 23);
}

static inline vf v_load_bf16(const uint16_t *p)
{
    return (vf){fkdai_bf16_to_f32(p[0]), fkdai_bf16_to_f32(p[1]), fkdai_bf16_to_f32(p[2]), fkdai_bf16_to_f32(p[3])};
}

static inline void v_store_bf16(uint16_t *p, vf x)    /* to nearest even; NaN made quiet */
{
    for (int i = 0; i < VL; ++i) p[i] = fkdai_f32_to_bf16(x[i]);
}

static inline float v_sum(vf x) { return (x[0] + x[2]) + (x[1] + x[3]); }

static inline void v_sum16(const vf *x, float *sums)    /* sums[i] = v_sum(x[i]), i < 16 */
{
    for (int i = 0; i < 16; ++i) sums[i] = v_sum(x[i]);
}

#endif

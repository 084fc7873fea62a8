/* Functions of vectors, over the words of vec__<isa>.h. Errors are bounds over the whole range, tested in tests/cpu. */
#ifndef FKDAI_VEC_MATH_H
#define FKDAI_VEC_MATH_H

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#define UNROLL_2 _Pragma("clang loop unroll_count(2)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#define UNROLL_2 _Pragma("GCC unroll 2")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* Factors that lie side by side, as many as one load brings. NEON multiplies by a lane of a vector; elsewhere each broadcast is a load. */
#ifndef LANES
#define LANES 1
typedef float v_lanes;
ALWAYS_INLINE v_lanes v_load_lanes(const float *p) { return *p; }
ALWAYS_INLINE vf v_lane(v_lanes x, int lane) { (void)lane; return v_set1(x); }
#endif

#ifndef HAS_BASES
ALWAYS_INLINE float *v_base(float *p) { return p; }    /* vec__neon.h */
#endif

/* Element i.. of a row in memory, as fp32. */
ALWAYS_INLINE vf v_load_as(const void *row, fkda_dtype dtype, int64_t i)
{
    return dtype == FKDA_F32 ? v_load((const float *)row + i) : v_load_bf16((const uint16_t *)row + i);
}

/* 2^x for x in [-2^21, 127.5], 1.3 ulp; results below 2^-126 may be 0. NaN passes. 2^0 = 1 exactly. (2^r - 1)/r on [-1/2, 1/2]: 2e-9. */
ALWAYS_INLINE vf v_exp2(vf x)
{
    const vf n = v_round(x), r = x - n;
    const vf rr = r * r;
    const vf low = v_fma(v_set1(0x1.ebfbdcp-3f), r, v_set1(0x1.62e43p-1f));
    const vf middle = v_fma(v_set1(0x1.3b2d4cp-7f), r, v_set1(0x1.c6aee8p-5f));
    const vf high = v_fma(v_set1(0x1.41fbbcp-13f), r, v_set1(0x1.5f3e54p-10f));
    const vf p = v_fma(v_fma(high, rr, middle), rr, low);
    return v_ldexp(v_fma(p, r, v_set1(1.0f)), n);
}

/* log(1 + e) for e in [0, 1], 2 ulp: 2 atanh(e / (2 + e)). atanh(s)/s in s^2 on [0, 1/9]: 1e-10. */
ALWAYS_INLINE vf v_log1p_unit(vf e)
{
    const vf s = e / (v_set1(2.0f) + e), z = s * s;
    vf p = v_set1(0.12215854f);
    p = v_fma(p, z, v_set1(0.106941275f));
    p = v_fma(p, z, v_set1(0.14310595f));
    p = v_fma(p, z, v_set1(0.19999337f));
    p = v_fma(p, z, v_set1(0.3333334f));
    const vf twice = s + s;
    return v_fma(p, z * twice, twice);
}

/* e^x - 1 for x in [-0.35, 0], 1.5 ulp. (e^x - 1)/x: 2e-10. */
ALWAYS_INLINE vf v_expm1_small(vf x)
{
    vf p = v_set1(0.0011970117f);
    p = v_fma(p, x, v_set1(0.008259935f));
    p = v_fma(p, x, v_set1(0.041653547f));
    p = v_fma(p, x, v_set1(0.1666656f));
    p = v_fma(p, x, v_set1(0.49999997f));
    return v_fma(p, x * x, x);
}

#endif

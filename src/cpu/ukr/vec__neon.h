/* The vector words of the micro-kernels: 4 floats of NEON (Advanced SIMD), which every aarch64 has. vec__scalar.h says what each word means. */
#ifndef FKDAI_VEC_H
#define FKDAI_VEC_H

#include <arm_neon.h>
#include <stdint.h>

enum { VL = 4 };
typedef float32x4_t vf;

static inline vf v_load(const float *p) { return vld1q_f32(p); }
static inline void v_store(float *p, vf x) { vst1q_f32(p, x); }
static inline vf v_set1(float x) { return vdupq_n_f32(x); }
static inline vf v_fma(vf a, vf b, vf c) { return vfmaq_f32(c, a, b); }
static inline vf v_fnma(vf a, vf b, vf c) { return vfmsq_f32(c, a, b); }
static inline vf v_min(vf limit, vf x) { return vminq_f32(limit, x); }
static inline vf v_max(vf limit, vf x) { return vmaxq_f32(limit, x); }
static inline vf v_and(vf x, vf mask) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vreinterpretq_u32_f32(mask))); }
static inline vf v_negative_abs(vf x) { return vnegq_f32(vabsq_f32(x)); }
static inline vf v_mask_less(vf a, vf b) { return vreinterpretq_f32_u32(vcltq_f32(a, b)); }
static inline vf v_select_less(vf a, vf b, vf yes, vf no) { return vbslq_f32(vcltq_f32(a, b), yes, no); }
static inline vf v_round(vf x) { return vrndnq_f32(x); }

static inline vf v_ldexp(vf x, vf n)
{
    const int32x4_t exponent = vcvtq_s32_f32(v_max(vdupq_n_f32(-127.0f), n));    /* -127: the factor 0 */
    return vmulq_f32(x, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23)));
}

static inline vf v_load_bf16(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }

static inline void v_store_bf16(uint16_t *p, vf x)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet), 16));
}

#define LANES 4    /* see vec_math.h */
typedef vf v_lanes;
static inline v_lanes v_load_lanes(const float *p) { return v_load(p); }
static inline vf v_lane(v_lanes x, int lane) { return vdupq_n_f32(x[lane]); }

/* An address in a register of its own, which the compiler would fold into another: where two vectors move at once offsets reach 1008 bytes. */
static inline float *v_base(float *p)
{
    __asm__("" : "+r"(p));
    return p;
}
#define HAS_BASES

static inline float v_sum(vf x) { return vaddvq_f32(x); }

static inline void v_sum16(const vf *x, float *sums)    /* the additions of v_sum, in its order */
{
    for (int i = 0; i < 16; i += 4) vst1q_f32(sums + i, vpaddq_f32(vpaddq_f32(x[i], x[i + 1]), vpaddq_f32(x[i + 2], x[i + 3])));
}

#endif

/* The vector words of the micro-kernels: 16 floats of AVX-512 F, BW, DQ, VL. vec__scalar.h says what each word means. */
#ifndef FKDAI_VEC_H
#define FKDAI_VEC_H

#include <immintrin.h>
#include <stdint.h>

enum { VL = 16 };
typedef __m512 vf;

static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf v_set1(float x) { return _mm512_set1_ps(x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vf v_min(vf limit, vf x) { return _mm512_min_ps(limit, x); }
static inline vf v_max(vf limit, vf x) { return _mm512_max_ps(limit, x); }
static inline vf v_negative_abs(vf x) { return _mm512_or_ps(x, _mm512_set1_ps(-0.0f)); }
static inline vf v_and(vf x, vf mask) { return _mm512_and_ps(x, mask); }
static inline vf v_select_less(vf a, vf b, vf yes, vf no) { return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes); }
static inline vf v_mask_less(vf a, vf b) { return _mm512_castsi512_ps(_mm512_movm_epi32(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ))); }
static inline vf v_round(vf x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf v_ldexp(vf x, vf n) { return _mm512_scalef_ps(x, n); }

static inline vf v_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
}

static inline void v_store_bf16(uint16_t *p, vf x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i chosen = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), rounded, quiet);
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(chosen, 16)));
}

static inline float v_sum(vf x) { return _mm512_reduce_add_ps(x); }

static inline __m512 add_pairs(__m512 a, __m512 b)      /* in each 128-bit lane: a0+a2, b0+b2, a1+a3, b1+b3 */
{
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

static inline __m512 add_quads(const __m512 *a)         /* in each 128-bit lane: its sums of a[0], a[1], a[2], a[3] */
{
    const __m512d low = _mm512_castps_pd(add_pairs(a[0], a[1])), high = _mm512_castps_pd(add_pairs(a[2], a[3]));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)), _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
}

static inline __m512 add_lanes(__m512 a, __m512 b, __m512 c, __m512 d)    /* four sums over the lanes of each */
{
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

static inline void v_sum16(const vf *x, float *sums)
{
    _mm512_storeu_ps(sums, add_lanes(add_quads(x), add_quads(x + 4), add_quads(x + 8), add_quads(x + 12)));
}

#endif

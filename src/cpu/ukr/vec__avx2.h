/* The vector words of the micro-kernels: 8 floats of AVX2 and FMA. vec__scalar.h says what each word means. */
#ifndef FKDAI_VEC_H
#define FKDAI_VEC_H

#include <immintrin.h>
#include <stdint.h>

enum { VL = 8 };
typedef __m256 vf;

static inline vf v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
static inline vf v_set1(float x) { return _mm256_set1_ps(x); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
static inline vf v_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vf v_min(vf limit, vf x) { return _mm256_min_ps(limit, x); }
static inline vf v_max(vf limit, vf x) { return _mm256_max_ps(limit, x); }
static inline vf v_negative_abs(vf x) { return _mm256_or_ps(x, _mm256_set1_ps(-0.0f)); }
static inline vf v_and(vf x, vf mask) { return _mm256_and_ps(x, mask); }
static inline vf v_mask_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline vf v_select_less(vf a, vf b, vf yes, vf no) { return _mm256_blendv_ps(no, yes, v_mask_less(a, b)); }
static inline vf v_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

static inline vf v_ldexp(vf x, vf n)
{
    const __m256i exponent = _mm256_cvtps_epi32(v_max(_mm256_set1_ps(-127.0f), n));    /* -127: the factor 0 */
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23)));
}

static inline vf v_load_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
}

static inline void v_store_bf16(uint16_t *p, vf x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(packed));
}

static inline __m256 add_pairs(__m256 a, __m256 b)      /* in each 128-bit lane: a0+a2, b0+b2, a1+a3, b1+b3 */
{
    return _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
}

static inline __m256 add_quads(const __m256 *a)         /* in each 128-bit lane: its sums of a[0], a[1], a[2], a[3] */
{
    const __m256d low = _mm256_castps_pd(add_pairs(a[0], a[1])), high = _mm256_castps_pd(add_pairs(a[2], a[3]));
    return _mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(low, high)), _mm256_castpd_ps(_mm256_unpackhi_pd(low, high)));
}

static inline __m256 add_lanes(__m256 a, __m256 b)      /* two sums over the lanes of each */
{
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

static inline void v_sum16(const vf *x, float *sums)
{
    _mm256_storeu_ps(sums, add_lanes(add_quads(x), add_quads(x + 4)));
    _mm256_storeu_ps(sums + 8, add_lanes(add_quads(x + 8), add_quads(x + 12)));
}

static inline float v_sum(vf x)
{
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

#endif

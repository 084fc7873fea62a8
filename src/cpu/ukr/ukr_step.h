/* One token on a part of S, where it lies. q is scaled; S^T k and S^T q are of the decayed S:
 *
 *     S <- decay(S);   u = b (v - S^T k);   o = S^T q + (k.q) u;   S <- S + k u^T
 *
 * step_columns: S [K,width], rows `stride` apart. Whole rows may be more than the first-level cache holds, so both passes only read S and decay it, and
 * the second one writes. TILE_VECS, or WIDE_VECS, vectors of columns have sums of their own, whose chains run side by side.
 * step_rows: STEP_ROWS value channels of K elements each; TILE_ROWS of them share the loads of k, q and the decay.
 *
 * What will be wanted next is asked for a line at a time between the arithmetic, half of it in either pass: as much as the memory can bring meanwhile. A
 * block of requests would fill the cache's buffers, and everything would wait.
 */
#include "ukr.h"
#include "vec_math.h"

enum { R = FKDAI_CPU_STEP_ROWS, LINE = 16 };

/* Into the second-level cache, to be written to. */
ALWAYS_INLINE void ask_for(const float *at) { __builtin_prefetch(at, 1, 2); }

ALWAYS_INLINE float dot_rows(const float *a, const float *b, int64_t K)
{
    vf sum = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) sum = v_fma(v_load(a + c), v_load(b + c), sum);
    return v_sum(sum);
}

/* ---------------------------------------------------------------- [K,V] */

ALWAYS_INLINE vf decayed(const fkdai_cpu_token *token, int64_t c, vf s)
{
    return v_fma(v_set1(token->gate_last[c]), s, v_and(s, v_set1(token->gate_keep[c])));
}

/* VECS vectors of columns; next: as many elements of what will be wanted, a row at a time. */
ALWAYS_INLINE void step_column_tile(const fkdai_cpu_token *token, int64_t K, int64_t stride, float kq, const float *v, float *state, float *out,
                                    const float *next, int VECS)
{
    vf with_k[WIDE_VECS], with_q[WIDE_VECS], update[WIDE_VECS];
    const int half = VECS * VL / 2;
    UNROLL for (int x = 0; x < VECS; ++x) with_k[x] = with_q[x] = v_set1(0.0f);
    for (int64_t c = 0; c < K; ++c) {
        const vf k = v_set1(token->k[c]), q = v_set1(token->q[c]);
        UNROLL for (int at = 0; at < half; at += LINE) ask_for(next + c * half + at);
        UNROLL for (int x = 0; x < VECS; ++x) {
            const vf s = decayed(token, c, v_load(state + c * stride + x * VL));
            with_k[x] = v_fma(k, s, with_k[x]);
            with_q[x] = v_fma(q, s, with_q[x]);
        }
    }
    UNROLL for (int x = 0; x < VECS; ++x) {
        update[x] = (v_load(v + x * VL) - with_k[x]) * v_set1(token->beta);
        v_store(out + x * VL, v_fma(v_set1(kq), update[x], with_q[x]));
    }
    for (int64_t c = 0; c < K; ++c) {
        const vf k = v_set1(token->k[c]);
        UNROLL for (int at = 0; at < half; at += LINE) ask_for(next + (K + c) * half + at);
        UNROLL for (int x = 0; x < VECS; ++x) {
            float *const s = state + c * stride + x * VL;
            v_store(s, v_fma(k, update[x], decayed(token, c, v_load(s))));
        }
    }
}

static void step_columns(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out,
                         const float *next)
{
    const float kq = dot_rows(token->k, token->q, K);
    int64_t x = 0;
    for (; x + WIDE_VECS * VL <= width; x += WIDE_VECS * VL) step_column_tile(token, K, stride, kq, v + x, state + x, out + x, next + x * K, WIDE_VECS);
    for (; x < width; x += TILE_VECS * VL) step_column_tile(token, K, stride, kq, v + x, state + x, out + x, next + x * K, TILE_VECS);
}

/* ---------------------------------------------------------------- [V,K] */

ALWAYS_INLINE void decay_row_tile(const fkdai_cpu_token *token, int64_t K, float *state, vf *with_k, vf *with_q, const float *next)
{
    vf t[TILE_ROWS], u[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) t[r] = u[r] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) {
        const vf last = v_load(token->gate_last + c), keep = v_load(token->gate_keep + c), k = v_load(token->k + c), q = v_load(token->q + c);
        UNROLL for (int at = 0; at < TILE_ROWS * VL / 2; at += LINE) ask_for(next + c * TILE_ROWS / 2 + at);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            const vf before = v_load(state + r * K + c), s = v_fma(last, before, v_and(before, keep));
            v_store(state + r * K + c, s);
            t[r] = v_fma(k, s, t[r]);
            u[r] = v_fma(q, s, u[r]);
        }
    }
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) with_k[r] = t[r], with_q[r] = u[r];
}

ALWAYS_INLINE void add_row_tile(const fkdai_cpu_token *token, int64_t K, const float *update, float *state, const float *next)
{
    vf d[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) d[r] = v_set1(update[r]);
    for (int64_t c = 0; c < K; c += VL) {
        const vf k = v_load(token->k + c);
        UNROLL for (int at = 0; at < TILE_ROWS * VL / 2; at += LINE) ask_for(next + c * TILE_ROWS / 2 + at);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) v_store(state + r * K + c, v_fma(k, d[r], v_load(state + r * K + c)));
    }
}

static void step_rows(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out, const float *next)
{
    vf with_k[R], with_q[R];
    float k_sums[R], q_sums[R], update[R];
    const float kq = dot_rows(token->k, token->q, K);
    for (int r = 0; r < R; r += TILE_ROWS) decay_row_tile(token, K, state + r * K, with_k + r, with_q + r, next + r * K / 2);
    v_sum16(with_k, k_sums);
    v_sum16(with_q, q_sums);
    for (int r = 0; r < R; r += VL) {
        const vf u = (v_load(v + r) - v_load(k_sums + r)) * v_set1(token->beta);
        v_store(update + r, u);
        v_store(out + r, v_fma(v_set1(kq), u, v_load(q_sums + r)));
    }
    for (int r = 0; r < R; r += TILE_ROWS) add_row_tile(token, K, update + r, state + r * K, next + (R + r) * K / 2);
}

/* One token on a part of S, where it lies. q is scaled; S^T k and S^T q are of the decayed S:
 *
 *     S <- decay(S);   u = b (v - S^T k);   o = S^T q + (k.q) u;   S <- S + k u^T
 *
 * step_columns: S [K,width], rows `stride` apart. Whole rows may be more than the first-level cache holds, so both passes only read S and decay it, and
 * the second one writes. TILE_VECS, or WIDE_VECS, vectors of columns have sums of their own, whose chains run side by side. Either pass asks for the
 * rows that it comes to a little later.
 * step_rows: STEP_ROWS value channels of K elements each; TILE_ROWS of them share the loads of k, q and the decay. Asks for the next STEP_ROWS.
 */
#include "ukr.h"
#include "vec_math.h"

enum { R = FKDAI_CPU_STEP_ROWS, ROWS_AHEAD = 4, LINE = 16 };

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

ALWAYS_INLINE void ask_for_row(const float *row, int floats)
{
    UNROLL for (int at = 0; at < floats; at += LINE) __builtin_prefetch(row + at, 1, 3);
}

/* VECS vectors of columns. */
ALWAYS_INLINE void step_column_tile(const fkdai_cpu_token *token, int64_t K, int64_t stride, float kq, const float *v, float *state, float *out, int VECS)
{
    vf with_k[WIDE_VECS], with_q[WIDE_VECS], update[WIDE_VECS];
    UNROLL for (int x = 0; x < VECS; ++x) with_k[x] = with_q[x] = v_set1(0.0f);
    for (int64_t c = 0; c < K; ++c) {
        const vf k = v_set1(token->k[c]), q = v_set1(token->q[c]);
        ask_for_row(state + (c + ROWS_AHEAD) * stride, VECS * VL);
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
        ask_for_row(state + (c + ROWS_AHEAD) * stride, VECS * VL);
        UNROLL for (int x = 0; x < VECS; ++x) {
            float *const s = state + c * stride + x * VL;
            v_store(s, v_fma(k, update[x], decayed(token, c, v_load(s))));
        }
    }
}

static void step_columns(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out)
{
    const float kq = dot_rows(token->k, token->q, K);
    int64_t x = 0;
    for (; x + WIDE_VECS * VL <= width; x += WIDE_VECS * VL) step_column_tile(token, K, stride, kq, v + x, state + x, out + x, WIDE_VECS);
    for (; x < width; x += TILE_VECS * VL) step_column_tile(token, K, stride, kq, v + x, state + x, out + x, TILE_VECS);
}

/* ---------------------------------------------------------------- [V,K] */

/* TILE_ROWS rows, read once and written once: between the two they stay in registers, or as near as the instruction set has room. */
ALWAYS_INLINE void step_row_tile(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *q_sums, float *update)
{
    vf s[TILE_ROWS][FKDAI_CPU_MAX_WIDTH / VL], with_k[TILE_ROWS], with_q[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) with_k[r] = with_q[r] = v_set1(0.0f);
    UNROLL for (int c = 0; c < K / VL; ++c) {
        const vf last = v_load(token->gate_last + c * VL), keep = v_load(token->gate_keep + c * VL);
        const vf k = v_load(token->k + c * VL), q = v_load(token->q + c * VL);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            const vf before = v_load(state + r * K + c * VL);
            __builtin_prefetch(state + (R + r) * K + c * VL, 1, 3);
            s[r][c] = v_fma(last, before, v_and(before, keep));
            with_k[r] = v_fma(k, s[r][c], with_k[r]);
            with_q[r] = v_fma(q, s[r][c], with_q[r]);
        }
    }
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) update[r] = (v[r] - v_sum(with_k[r])) * token->beta, q_sums[r] = v_sum(with_q[r]);
    UNROLL for (int c = 0; c < K / VL; ++c) {
        const vf k = v_load(token->k + c * VL);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) v_store(state + r * K + c * VL, v_fma(k, v_set1(update[r]), s[r][c]));
    }
}

static void step_rows(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out)
{
    float q_sums[R], update[R];
    const float kq = dot_rows(token->k, token->q, K);
    for (int r = 0; r < R; r += TILE_ROWS) {
        if (K == FKDAI_CPU_MAX_WIDTH) step_row_tile(token, FKDAI_CPU_MAX_WIDTH, v + r, state + r * K, q_sums + r, update + r);
        else step_row_tile(token, FKDAI_CPU_MAX_WIDTH / 2, v + r, state + r * K, q_sums + r, update + r);
    }
    for (int r = 0; r < R; r += VL) v_store(out + r, v_fma(v_set1(kq), v_load(update + r), v_load(q_sums + r)));
}

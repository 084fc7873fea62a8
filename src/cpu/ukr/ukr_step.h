/* One token on a part of S, where it lies. q is scaled; S^T k and S^T q are of the decayed S:
 *
 *     S <- decay(S);   u = b (v - S^T k);   o = S^T q + (k.q) u;   S <- S + k u^T
 *
 * step_columns: S [K,PANEL], rows `stride` apart; channels are summed in TILE_SPLIT interleaved parts, so that their chains run side by side.
 * step_rows: STEP_ROWS value channels of K elements each; TILE_ROWS of them share the loads of k, q and the decay.
 */
#include "ukr.h"
#include "vec_math.h"

enum { P = FKDAI_CPU_PANEL, R = FKDAI_CPU_STEP_ROWS };

ALWAYS_INLINE float dot_rows(const float *a, const float *b, int64_t K)
{
    vf sum = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) sum = v_fma(v_load(a + c), v_load(b + c), sum);
    return v_sum(sum);
}

/* ---------------------------------------------------------------- [K,V] */

ALWAYS_INLINE void step_column_tile(const fkdai_cpu_token *token, int64_t K, int64_t stride, float kq, const float *v, float *state, float *out)
{
    vf with_k[TILE_SPLIT][TILE_VECS], with_q[TILE_SPLIT][TILE_VECS], update[TILE_VECS];
    UNROLL for (int i = 0; i < TILE_SPLIT; ++i)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) with_k[i][x] = with_q[i][x] = v_set1(0.0f);
    for (int64_t c0 = 0; c0 < K; c0 += TILE_SPLIT)
        UNROLL for (int i = 0; i < TILE_SPLIT; ++i) {
            const int64_t c = c0 + i;
            const vf last = v_set1(token->gate_last[c]), keep = v_set1(token->gate_keep[c]), k = v_set1(token->k[c]), q = v_set1(token->q[c]);
            UNROLL for (int x = 0; x < TILE_VECS; ++x) {
                const vf before = v_load(state + c * stride + x * VL), s = v_fma(last, before, v_and(before, keep));
                v_store(state + c * stride + x * VL, s);
                with_k[i][x] = v_fma(k, s, with_k[i][x]);
                with_q[i][x] = v_fma(q, s, with_q[i][x]);
            }
        }
    UNROLL for (int x = 0; x < TILE_VECS; ++x) {
        UNROLL for (int i = 1; i < TILE_SPLIT; ++i) {
            with_k[0][x] = with_k[0][x] + with_k[i][x];
            with_q[0][x] = with_q[0][x] + with_q[i][x];
        }
        update[x] = (v_load(v + x * VL) - with_k[0][x]) * v_set1(token->beta);
        v_store(out + x * VL, v_fma(v_set1(kq), update[x], with_q[0][x]));
    }
    UNROLL_2 for (int64_t c = 0; c < K; ++c)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) {
            float *const s = state + c * stride + x * VL;
            v_store(s, v_fma(v_set1(token->k[c]), update[x], v_load(s)));
        }
}

static void step_columns(const fkdai_cpu_token *token, int64_t K, int64_t stride, const float *v, float *state, float *out)
{
    const float kq = dot_rows(token->k, token->q, K);
    for (int x = 0; x < P; x += TILE_VECS * VL) step_column_tile(token, K, stride, kq, v + x, state + x, out + x);
}

/* ---------------------------------------------------------------- [V,K] */

ALWAYS_INLINE void decay_row_tile(const fkdai_cpu_token *token, int64_t K, float *state, vf *with_k, vf *with_q)
{
    vf t[TILE_ROWS], u[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) t[r] = u[r] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) {
        const vf last = v_load(token->gate_last + c), keep = v_load(token->gate_keep + c), k = v_load(token->k + c), q = v_load(token->q + c);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            const vf before = v_load(state + r * K + c), s = v_fma(last, before, v_and(before, keep));
            v_store(state + r * K + c, s);
            t[r] = v_fma(k, s, t[r]);
            u[r] = v_fma(q, s, u[r]);
        }
    }
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) with_k[r] = t[r], with_q[r] = u[r];
}

ALWAYS_INLINE void add_row_tile(const fkdai_cpu_token *token, int64_t K, const float *update, float *state)
{
    vf d[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) d[r] = v_set1(update[r]);
    for (int64_t c = 0; c < K; c += VL) {
        const vf k = v_load(token->k + c);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) v_store(state + r * K + c, v_fma(k, d[r], v_load(state + r * K + c)));
    }
}

static void step_rows(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out)
{
    vf with_k[R], with_q[R];
    float k_sums[R], q_sums[R], update[R];
    const float kq = dot_rows(token->k, token->q, K);
    for (int r = 0; r < R; r += TILE_ROWS) decay_row_tile(token, K, state + r * K, with_k + r, with_q + r);
    v_sum16(with_k, k_sums);
    v_sum16(with_q, q_sums);
    for (int r = 0; r < R; r += VL) {
        const vf u = (v_load(v + r) - v_load(k_sums + r)) * v_set1(token->beta);
        v_store(update + r, u);
        v_store(out + r, v_fma(v_set1(kq), u, v_load(q_sums + r)));
    }
    for (int r = 0; r < R; r += TILE_ROWS) add_row_tile(token, K, update + r, state + r * K);
}

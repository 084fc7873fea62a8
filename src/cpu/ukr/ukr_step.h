/* One token on one panel, S and k, q of it being [K,P] and [K]:
 *
 *     S <- decay(S);   u = b (v - S^T k);   o = S^T q + (k.q) u;   S <- S + k u^T
 *
 * Columns of S never meet. Channels are summed in TILE_SPLIT interleaved parts, so that their chains run side by side.
 */
#include "ukr.h"
#include "vec_math.h"

enum { P = FKDAI_CPU_PANEL };

ALWAYS_INLINE float dot_rows(const float *a, const float *b, int64_t K)
{
    vf sum = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) sum = v_fma(v_load(a + c), v_load(b + c), sum);
    return v_sum(sum);
}

ALWAYS_INLINE void step_tile(const fkdai_cpu_group *group, const fkdai_cpu_chunk *chunk, int64_t K, float beta, float kq, const float *v,
                             float *state, float *out)
{
    vf with_k[TILE_SPLIT][TILE_VECS], with_q[TILE_SPLIT][TILE_VECS], update[TILE_VECS];
    UNROLL for (int i = 0; i < TILE_SPLIT; ++i)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) with_k[i][x] = with_q[i][x] = v_set1(0.0f);
    for (int64_t c0 = 0; c0 < K; c0 += TILE_SPLIT)
        UNROLL for (int i = 0; i < TILE_SPLIT; ++i) {
            const int64_t c = c0 + i;
            const vf last = v_set1(chunk->gate_last[c]), keep = v_set1(chunk->gate_keep[c]);
            const vf k = v_set1(group->k[0][c]), q = v_set1(group->q[0][c]);
            UNROLL for (int x = 0; x < TILE_VECS; ++x) {
                const vf before = v_load(state + c * P + x * VL), s = v_fma(last, before, v_and(before, keep));
                v_store(state + c * P + x * VL, s);
                with_k[i][x] = v_fma(k, s, with_k[i][x]);
                with_q[i][x] = v_fma(q, s, with_q[i][x]);
            }
        }
    UNROLL for (int x = 0; x < TILE_VECS; ++x) {
        UNROLL for (int i = 1; i < TILE_SPLIT; ++i) {
            with_k[0][x] = with_k[0][x] + with_k[i][x];
            with_q[0][x] = with_q[0][x] + with_q[i][x];
        }
        update[x] = (v_load(v + x * VL) - with_k[0][x]) * v_set1(beta);
        v_store(out + x * VL, v_fma(v_set1(kq), update[x], with_q[0][x]));
    }
    UNROLL_2 for (int64_t c = 0; c < K; ++c)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) {
            float *const s = state + c * P + x * VL;
            v_store(s, v_fma(v_set1(group->k[0][c]), update[x], v_load(s)));
        }
}

static void step_panel(const fkdai_cpu_group *group, const fkdai_cpu_chunk *chunk, int64_t K, float beta, const float *v, float *state, float *out)
{
    const float kq = dot_rows(group->k[0], group->q[0], K);
    for (int x = 0; x < P; x += TILE_VECS * VL) step_tile(group, chunk, K, beta, kq, v + x, state + x, out + x);
}

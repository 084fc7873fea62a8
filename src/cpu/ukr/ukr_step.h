/* One token on a part of S, where it lies. q is scaled; S^T k and S^T q are of the decayed S:
 *
 *     S <- decay(S);   u = b (v - S^T k);   o = S^T q + (k.q) u;   S <- S + k u^T
 *
 * The sums over a decayed S are sums over S of k and q that are decayed.
 *
 * step_columns: S [K,width], rows `stride` apart. Whole rows may be more than the first-level cache holds, so the first pass only reads S, and the
 * second one writes. TILE_VECS, or WIDE_VECS, vectors of columns have sums of their own, whose chains run side by side. With HAS_ROW_GROUPS there is
 * no room for those of whole rows, which memory likes best: the sums lie in memory. A pass asks for the rows that it comes to a little later.
 * step_rows: value channels of K elements each, STEP_ROWS at a time; TILE_ROWS of them share the loads of k, q and the decay. Asks for the next
 * STEP_ROWS. With KEEPS they stay in registers meanwhile, decayed; where there are too few registers they are read again, as columns are.
 */
#include "ukr.h"
#include "vec_math.h"

enum { R = FKDAI_CPU_STEP_ROWS, ROWS_AHEAD = 4, GROUP = 4, LINE = 16 };
enum { NEAR_COLUMNS = 32 };    /* all rows of so many columns, 16 KB, stay in any first-level cache between the passes */

ALWAYS_INLINE float dot_rows(const float *a, const float *b, int64_t K)
{
    vf sum = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) sum = v_fma(v_load(a + c), v_load(b + c), sum);
    return v_sum(sum);
}

ALWAYS_INLINE vf decayed(vf last, vf keep, vf s) { return v_fma(last, s, v_and(s, keep)); }

/* k and q times the decay of their channel: with them the sums over a decayed S are sums over S. */
typedef struct weights {
    float k[FKDAI_CPU_MAX_WIDTH], q[FKDAI_CPU_MAX_WIDTH];
} weights;

ALWAYS_INLINE void weigh(const fkdai_cpu_token *token, int64_t K, weights *w)
{
    for (int64_t c = 0; c < K; c += VL) {
        const vf last = v_load(token->gate_last + c), keep = v_load(token->gate_keep + c);
        v_store(w->k + c, decayed(last, keep, v_load(token->k + c)));
        v_store(w->q + c, decayed(last, keep, v_load(token->q + c)));
    }
}

/* ---------------------------------------------------------------- [K,V] */

ALWAYS_INLINE void ask_for_row(const float *row, int floats)
{
    UNROLL for (int at = 0; at < floats; at += LINE) __builtin_prefetch(row + at, 1, 3);
}

/* VECS vectors of columns. */
ALWAYS_INLINE void step_column_tile(const fkdai_cpu_token *token, const weights *w, int64_t K, int64_t stride, float kq, const float *v, float *state,
                                    float *out, int VECS)
{
    vf with_k[WIDE_VECS], with_q[WIDE_VECS], update[WIDE_VECS];
    UNROLL for (int x = 0; x < VECS; ++x) with_k[x] = with_q[x] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += LANES) {
        const v_lanes k = v_load_lanes(w->k + c), q = v_load_lanes(w->q + c);
        UNROLL for (int i = 0; i < LANES; ++i) {
            const float *const row = state + (c + i) * stride;
            ask_for_row(row + ROWS_AHEAD * stride, VECS * VL);
            UNROLL for (int x = 0; x < VECS; ++x) {
                const vf s = v_load(row + x * VL);
                with_k[x] = v_fma(v_lane(k, i), s, with_k[x]);
                with_q[x] = v_fma(v_lane(q, i), s, with_q[x]);
            }
        }
    }
    UNROLL for (int x = 0; x < VECS; ++x) {
        update[x] = (v_load(v + x * VL) - with_k[x]) * v_set1(token->beta);
        v_store(out + x * VL, v_fma(v_set1(kq), update[x], with_q[x]));
    }
    for (int64_t c = 0; c < K; c += LANES) {
        const v_lanes k = v_load_lanes(token->k + c), last = v_load_lanes(token->gate_last + c), keep = v_load_lanes(token->gate_keep + c);
        UNROLL for (int i = 0; i < LANES; ++i) {
            float *const row = state + (c + i) * stride;
            if (VECS * VL > NEAR_COLUMNS) ask_for_row(row + ROWS_AHEAD * stride, VECS * VL);
            UNROLL for (int x = 0; x < VECS; ++x) {
                const vf s = decayed(v_lane(last, i), v_lane(keep, i), v_load(row + x * VL));
                v_store(row + x * VL, v_fma(v_lane(k, i), update[x], s));
            }
        }
    }
}

/* GROUP whole rows after each other, where sums of so many columns have no room in registers: they lie in memory, and a group shares their moves. */
ALWAYS_INLINE void add_row_group(const weights *w, int64_t c, int64_t stride, int64_t width, const float *state, float *with_k, float *with_q)
{
    vf k[GROUP], q[GROUP];
    UNROLL for (int i = 0; i < GROUP; ++i) k[i] = v_set1(w->k[c + i]), q[i] = v_set1(w->q[c + i]);
    for (int64_t x = 0; x < width; x += LINE) {
        UNROLL for (int i = 0; i < GROUP; ++i) __builtin_prefetch(state + (c + GROUP + i) * stride + x, 1, 3);
        UNROLL for (int64_t at = x; at < x + LINE; at += VL) {
            vf sum_k = v_load(with_k + at), sum_q = v_load(with_q + at);
            UNROLL for (int i = 0; i < GROUP; ++i) {
                const vf s = v_load(state + (c + i) * stride + at);
                sum_k = v_fma(k[i], s, sum_k), sum_q = v_fma(q[i], s, sum_q);
            }
            v_store(with_k + at, sum_k), v_store(with_q + at, sum_q);
        }
    }
}

ALWAYS_INLINE void update_row(const fkdai_cpu_token *token, int64_t c, int64_t stride, int64_t width, const float *update, float *row)
{
    const vf k = v_set1(token->k[c]), last = v_set1(token->gate_last[c]), keep = v_set1(token->gate_keep[c]);
    for (int64_t x = 0; x < width; x += LINE) {
        __builtin_prefetch(row + ROWS_AHEAD * stride + x, 1, 3);
        UNROLL for (int64_t at = x; at < x + LINE; at += VL) v_store(row + at, v_fma(k, v_load(update + at), decayed(last, keep, v_load(row + at))));
    }
}

ALWAYS_INLINE void step_row_groups(const fkdai_cpu_token *token, const weights *w, int64_t K, int64_t stride, int64_t width, float kq, const float *v,
                                   float *state, float *out)
{
    _Alignas(64) float with_k[FKDAI_CPU_MAX_WIDTH] = {0}, with_q[FKDAI_CPU_MAX_WIDTH] = {0};
    for (int64_t c = 0; c < K; c += GROUP) add_row_group(w, c, stride, width, state, with_k, with_q);
    for (int64_t x = 0; x < width; x += VL) {
        const vf update = (v_load(v + x) - v_load(with_k + x)) * v_set1(token->beta);
        v_store(with_k + x, update);
        v_store(out + x, v_fma(v_set1(kq), update, v_load(with_q + x)));
    }
    for (int64_t c = 0; c < K; ++c) update_row(token, c, stride, width, with_k, state + c * stride);
}

static void step_columns(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out)
{
    const float kq = dot_rows(token->k, token->q, K);
    weights w;
    int64_t x = 0;
    weigh(token, K, &w);
    if (HAS_ROW_GROUPS) step_row_groups(token, &w, K, stride, width, kq, v, state, out), x = width;
    for (; x + WIDE_VECS * VL <= width; x += WIDE_VECS * VL) step_column_tile(token, &w, K, stride, kq, v + x, state + x, out + x, WIDE_VECS);
    for (; x < width; x += TILE_VECS * VL) step_column_tile(token, &w, K, stride, kq, v + x, state + x, out + x, TILE_VECS);
}

/* ---------------------------------------------------------------- [V,K] */

/* TILE_ROWS rows, read once and written once: between the two they stay in registers, or as near as the instruction set has room. */
ALWAYS_INLINE void step_kept_rows(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *q_sums, float *update)
{
    vf s[TILE_ROWS][FKDAI_CPU_MAX_WIDTH / VL], with_k[TILE_ROWS], with_q[TILE_ROWS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) with_k[r] = with_q[r] = v_set1(0.0f);
    UNROLL for (int c = 0; c < K / VL; ++c) {
        const vf last = v_load(token->gate_last + c * VL), keep = v_load(token->gate_keep + c * VL);
        const vf k = v_load(token->k + c * VL), q = v_load(token->q + c * VL);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            if (c * VL % LINE == 0) __builtin_prefetch(state + (R + r) * K + c * VL, 1, 3);
            s[r][c] = decayed(last, keep, v_load(state + r * K + c * VL));
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

/* The same, for registers that hold no row, which is read again: pairs of vectors, which one instruction moves. Two rows have one base, as far as its
 * offsets reach. */
typedef struct pair {
    vf x[2];
} pair;

ALWAYS_INLINE pair load_pair(const float *p) { return (pair){{v_load(p), v_load(p + VL)}}; }

/* [LINE] of TILE_ROWS rows, a line of the cache each. */
ALWAYS_INLINE void sum_line(const weights *w, int64_t c, int64_t K, float *const *bases, vf *with_k, vf *with_q)
{
    UNROLL for (int64_t at = c; at < c + LINE; at += 2 * VL) {
        const pair k = load_pair(w->k + at), q = load_pair(w->q + at);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            float *const row = bases[r / 2] + r % 2 * K + at;
            const pair s = load_pair(row);
            if (at == c) __builtin_prefetch(row + R * K, 1, 3);
            with_k[r] = v_fma(k.x[1], s.x[1], v_fma(k.x[0], s.x[0], with_k[r]));
            with_q[r] = v_fma(q.x[1], s.x[1], v_fma(q.x[0], s.x[0], with_q[r]));
        }
    }
}

ALWAYS_INLINE void update_line(const fkdai_cpu_token *token, int64_t c, int64_t K, float *const *bases, const vf *update)
{
    UNROLL for (int64_t at = c; at < c + LINE; at += 2 * VL) {
        const pair k = load_pair(token->k + at), last = load_pair(token->gate_last + at), keep = load_pair(token->gate_keep + at);
        UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
            float *const row = bases[r / 2] + r % 2 * K + at;
            const pair s = load_pair(row);
            v_store(row, v_fma(k.x[0], update[r], decayed(last.x[0], keep.x[0], s.x[0])));
            v_store(row + VL, v_fma(k.x[1], update[r], decayed(last.x[1], keep.x[1], s.x[1])));
        }
    }
}

ALWAYS_INLINE void step_read_rows(const fkdai_cpu_token *token, const weights *w, int64_t K, const float *v, float *state, float *q_sums,
                                  float *update)
{
    vf with_k[TILE_ROWS], with_q[TILE_ROWS], factor[TILE_ROWS];
    float *bases[TILE_ROWS / 2];
    UNROLL for (int i = 0; i < TILE_ROWS / 2; ++i) bases[i] = v_base(state + 2 * i * K);
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) with_k[r] = with_q[r] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += LINE) sum_line(w, c, K, bases, with_k, with_q);
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) {
        update[r] = (v[r] - v_sum(with_k[r])) * token->beta, q_sums[r] = v_sum(with_q[r]);
        factor[r] = v_set1(update[r]);
    }
    for (int64_t c = 0; c < K; c += LINE) update_line(token, c, K, bases, factor);
}

ALWAYS_INLINE void step_row_tile(const fkdai_cpu_token *token, const weights *w, int64_t K, const float *v, float *state, float *q_sums,
                                 float *update)
{
    if (KEEPS) step_kept_rows(token, K, v, state, q_sums, update);
    else step_read_rows(token, w, K, v, state, q_sums, update);
}

/* STEP_ROWS of them. */
ALWAYS_INLINE void step_row_block(const fkdai_cpu_token *token, const weights *w, int64_t K, float kq, const float *v, float *state, float *out)
{
    float q_sums[R], update[R];
    for (int r = 0; r < R; r += TILE_ROWS) {
        if (K == FKDAI_CPU_MAX_WIDTH) step_row_tile(token, w, FKDAI_CPU_MAX_WIDTH, v + r, state + r * K, q_sums + r, update + r);
        else step_row_tile(token, w, FKDAI_CPU_MAX_WIDTH / 2, v + r, state + r * K, q_sums + r, update + r);
    }
    for (int r = 0; r < R; r += VL) v_store(out + r, v_fma(v_set1(kq), v_load(update + r), v_load(q_sums + r)));
}

static void step_rows(const fkdai_cpu_token *token, int64_t K, int64_t rows, const float *v, float *state, float *out)
{
    weights w;
    const float kq = dot_rows(token->k, token->q, K);
    if (!KEEPS) weigh(token, K, &w);
    for (int64_t r = 0; r < rows; r += R) step_row_block(token, &w, K, kq, v + r, state + r * K, out + r);
}

/* U = (I + A)^-1 Diag(b) (V - K+ S) on one panel, by forward substitution in registers:
 *
 *     U_i = b_i (v_i - K+_i S) - sum_{j<i} A_ij U_j
 *
 * A tile is TILE_ROWS tokens x TILE_VECS vectors of columns: product with S, then earlier tiles' U, then its own triangle.
 */
#include "ukr.h"
#include "vec_math.h"

enum { C = FKDAI_CPU_CHUNK, P = FKDAI_CPU_PANEL, W = FKDAI_CPU_MAX_WIDTH };

ALWAYS_INLINE void solve_tile(const fkdai_cpu_chunk *chunk, int64_t K, int i0, const int rows, const float *v, const float *state,
                              float *update)
{
    vf acc[TILE_ROWS][TILE_VECS];
    UNROLL for (int r = 0; r < rows; ++r)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r][x] = v_set1(0.0f);

    for (int64_t c = 0; c < K; c += LANES) {    /* K+ S */
        v_lanes k[TILE_ROWS];
        UNROLL for (int r = 0; r < rows; ++r) k[r] = v_load_lanes(&chunk->k_decayed[i0 + r][c]);
        UNROLL for (int lane = 0; lane < LANES; ++lane) {
            vf s[TILE_VECS];
            UNROLL for (int x = 0; x < TILE_VECS; ++x) s[x] = v_load(state + (c + lane) * P + x * VL);
            UNROLL for (int r = 0; r < rows; ++r)
                UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r][x] = v_fma(v_lane(k[r], lane), s[x], acc[r][x]);
        }
    }
    UNROLL for (int r = 0; r < rows; ++r)    /* b (V - K+ S) */
        UNROLL for (int x = 0; x < TILE_VECS; ++x)
            acc[r][x] = v_set1(chunk->beta[i0 + r]) * (v_load(v + (i0 + r) * W + x * VL) - acc[r][x]);

    for (int j = 0; j < i0; j += LANES)    /* - A_ij U_j, earlier tiles */
        UNROLL for (int r = 0; r < rows; ++r) {
            const v_lanes akk = v_load_lanes(&chunk->akk[i0 + r][j]);
            UNROLL for (int lane = 0; lane < LANES; ++lane)
                UNROLL for (int x = 0; x < TILE_VECS; ++x)
                    acc[r][x] = v_fnma(v_lane(akk, lane), v_load(update + (j + lane) * P + x * VL), acc[r][x]);
        }

    UNROLL for (int j = 0; j < rows; ++j)    /* - A_ij U_j, this tile */
        UNROLL for (int r = j + 1; r < rows; ++r)
            UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r][x] = v_fnma(v_set1(chunk->akk[i0 + r][i0 + j]), acc[j][x], acc[r][x]);

    UNROLL for (int r = 0; r < rows; ++r)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) v_store(update + (i0 + r) * P + x * VL, acc[r][x]);
}

static void solve_panel(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update)
{
    int i0 = 0;
    for (; i0 < len && i0 + TILE_ROWS <= C; i0 += TILE_ROWS)
        for (int x = 0; x < P; x += TILE_VECS * VL) solve_tile(chunk, K, i0, TILE_ROWS, v + x, state + x, update + x);
    if (C % TILE_ROWS != 0 && i0 < len)
        for (int x = 0; x < P; x += TILE_VECS * VL) solve_tile(chunk, K, C - C % TILE_ROWS, C % TILE_ROWS, v + x, state + x, update + x);
}

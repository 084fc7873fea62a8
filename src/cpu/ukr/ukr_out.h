/* O = Q+ S + M U on one panel: O_i = Q+_i S + sum_{j<=i} M_ij U_j. Tiles as in ukr_solve.h. */
#include "ukr.h"
#include "vec_math.h"

enum { C = FKDAI_CPU_CHUNK, P = FKDAI_CPU_PANEL, W = FKDAI_CPU_MAX_WIDTH };

ALWAYS_INLINE void out_tile(const fkdai_cpu_chunk *chunk, int64_t K, int i0, const int rows, const float *state, const float *update,
                            float *out)
{
    vf acc[TILE_ROWS][TILE_VECS];
    UNROLL for (int r = 0; r < rows; ++r)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r][x] = v_set1(0.0f);

    for (int64_t c = 0; c < K; c += LANES) {    /* Q+ S */
        v_lanes q[TILE_ROWS];
        UNROLL for (int r = 0; r < rows; ++r) q[r] = v_load_lanes(&chunk->q_decayed[i0 + r][c]);
        UNROLL for (int lane = 0; lane < LANES; ++lane) {
            vf s[TILE_VECS];
            UNROLL for (int x = 0; x < TILE_VECS; ++x) s[x] = v_load(state + (c + lane) * P + x * VL);
            UNROLL for (int r = 0; r < rows; ++r)
                UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r][x] = v_fma(v_lane(q[r], lane), s[x], acc[r][x]);
        }
    }
    for (int j = 0; j < i0; j += LANES)    /* M_ij U_j, earlier tiles */
        UNROLL for (int r = 0; r < rows; ++r) {
            const v_lanes mqk = v_load_lanes(&chunk->mqk[i0 + r][j]);
            UNROLL for (int lane = 0; lane < LANES; ++lane)
                UNROLL for (int x = 0; x < TILE_VECS; ++x)
                    acc[r][x] = v_fma(v_lane(mqk, lane), v_load(update + (j + lane) * P + x * VL), acc[r][x]);
        }

    UNROLL for (int j = 0; j < rows; ++j)    /* M_ij U_j, this tile */
        UNROLL for (int r = j; r < rows; ++r)
            UNROLL for (int x = 0; x < TILE_VECS; ++x)
                acc[r][x] = v_fma(v_set1(chunk->mqk[i0 + r][i0 + j]), v_load(update + (i0 + j) * P + x * VL), acc[r][x]);

    UNROLL for (int r = 0; r < rows; ++r)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) v_store(out + (i0 + r) * W + x * VL, acc[r][x]);
}

static void out_panel(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out)
{
    int i0 = 0;
    for (; i0 < len && i0 + TILE_ROWS <= C; i0 += TILE_ROWS)
        for (int x = 0; x < P; x += TILE_VECS * VL) out_tile(chunk, K, i0, TILE_ROWS, state + x, update + x, out + x);
    if (C % TILE_ROWS != 0 && i0 < len)
        for (int x = 0; x < P; x += TILE_VECS * VL)
            out_tile(chunk, K, C - C % TILE_ROWS, C % TILE_ROWS, state + x, update + x, out + x);
}

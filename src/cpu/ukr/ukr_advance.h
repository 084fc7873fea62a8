/* S' = decay(S) + Kr^T U on one panel. A tile is TILE_ROWS channels x TILE_VECS vectors of columns. */
#include "ukr.h"
#include "vec_math.h"

enum { P = FKDAI_CPU_PANEL };

ALWAYS_INLINE void advance_tile(const fkdai_cpu_chunk *chunk, int64_t c0, int len, const float *update, float *state)
{
    vf acc[TILE_ROWS][TILE_VECS];
    UNROLL for (int r = 0; r < TILE_ROWS; ++r) {    /* gate_last S + (gate_keep & S): one rounding */
        const vf last = v_set1(chunk->gate_last[c0 + r]), keep = v_set1(chunk->gate_keep[c0 + r]);
        UNROLL for (int x = 0; x < TILE_VECS; ++x) {
            const vf s = v_load(state + (c0 + r) * P + x * VL);
            acc[r][x] = v_fma(last, s, v_and(s, keep));
        }
    }
    UNROLL_2 for (int j = 0; j < len; ++j) {    /* Kr_j U_j. Unrolled by 2: AVX2 18 % faster on Zen 4 */
        vf u[TILE_VECS];
        UNROLL for (int x = 0; x < TILE_VECS; ++x) u[x] = v_load(update + j * P + x * VL);
        UNROLL for (int r = 0; r < TILE_ROWS; r += LANES) {
            const v_lanes k = v_load_lanes(&chunk->k_restored[j][c0 + r]);
            UNROLL for (int lane = 0; lane < LANES; ++lane)
                UNROLL for (int x = 0; x < TILE_VECS; ++x) acc[r + lane][x] = v_fma(v_lane(k, lane), u[x], acc[r + lane][x]);
        }
    }
    UNROLL for (int r = 0; r < TILE_ROWS; ++r)
        UNROLL for (int x = 0; x < TILE_VECS; ++x) v_store(state + (c0 + r) * P + x * VL, acc[r][x]);
}

static void advance_panel(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *update, float *state)
{
    for (int64_t c0 = 0; c0 < K; c0 += TILE_ROWS)
        for (int x = 0; x < P; x += TILE_VECS * VL) advance_tile(chunk, c0, len, update + x, state + x);
}

/* ukr_solve.h for NEON. */
#include "vec__neon.h"
enum { TILE_ROWS = 4, TILE_VECS = 4 };
#include "ukr_solve.h"
#include "ukr_list.h"

void ukr_solve_4x16__neon(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update)
{
    solve_panel(chunk, K, len, v, state, update);
}

/* ukr_solve.h for AVX2 and FMA. */
#include "vec__avx2.h"
enum { TILE_ROWS = 6, TILE_VECS = 2 };
#include "ukr_solve.h"
#include "ukr_list.h"

void ukr_solve_6x16__avx2(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update)
{
    solve_panel(chunk, K, len, v, state, update);
}

/* ukr_solve.h for AVX-512. */
#include "vec__avx512.h"
enum { TILE_ROWS = 8, TILE_VECS = 2 };
#include "ukr_solve.h"
#include "ukr_list.h"

void ukr_solve_8x32__avx512(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update)
{
    solve_panel(chunk, K, len, v, state, update);
}

/* ukr_solve.h in C. */
#include "vec__scalar.h"
enum { TILE_ROWS = 4, TILE_VECS = 2 };
#include "ukr_solve.h"
#include "ukr_list.h"

void ukr_solve_4x8__scalar(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *v, const float *state, float *update)
{
    solve_panel(chunk, K, len, v, state, update);
}

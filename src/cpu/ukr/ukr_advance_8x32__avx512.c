/* ukr_advance.h for AVX-512. */
#include "vec__avx512.h"
enum { TILE_ROWS = 8, TILE_VECS = 2 };
#include "ukr_advance.h"
#include "ukr_list.h"

void ukr_advance_8x32__avx512(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *update, float *state)
{
    advance_panel(chunk, K, len, update, state);
}

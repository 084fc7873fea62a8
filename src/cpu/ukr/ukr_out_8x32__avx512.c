/* ukr_out.h for AVX-512. */
#include "vec__avx512.h"
enum { TILE_ROWS = 8, TILE_VECS = 2 };
#include "ukr_out.h"
#include "ukr_list.h"

void ukr_out_8x32__avx512(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out)
{
    out_panel(chunk, K, len, state, update, out);
}

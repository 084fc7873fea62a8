/* ukr_out.h for AVX2 and FMA. */
#include "vec__avx2.h"
enum { TILE_ROWS = 6, TILE_VECS = 2 };
#include "ukr_out.h"
#include "ukr_list.h"

void ukr_out_6x16__avx2(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out)
{
    out_panel(chunk, K, len, state, update, out);
}

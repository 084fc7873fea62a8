/* ukr_out.h in C. */
#include "vec__scalar.h"
enum { TILE_ROWS = 4, TILE_VECS = 2 };
#include "ukr_out.h"
#include "ukr_list.h"

void ukr_out_4x8__scalar(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out)
{
    out_panel(chunk, K, len, state, update, out);
}

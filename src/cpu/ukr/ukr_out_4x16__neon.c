/* ukr_out.h for NEON. */
#include "vec__neon.h"
enum { TILE_ROWS = 4, TILE_VECS = 4 };
#include "ukr_out.h"
#include "ukr_list.h"

void ukr_out_4x16__neon(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *state, const float *update, float *out)
{
    out_panel(chunk, K, len, state, update, out);
}

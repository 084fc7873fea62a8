/* ukr_advance.h for NEON. */
#include "vec__neon.h"
enum { TILE_ROWS = 4, TILE_VECS = 4 };
#include "ukr_advance.h"
#include "ukr_list.h"

void ukr_advance_4x16__neon(const fkdai_cpu_chunk *chunk, int64_t K, int len, const float *update, float *state)
{
    advance_panel(chunk, K, len, update, state);
}

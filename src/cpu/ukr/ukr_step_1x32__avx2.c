/* ukr_step.h for AVX2 and FMA. */
#include "vec__avx2.h"
enum { TILE_VECS = 4, TILE_SPLIT = 1 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_1x32__avx2(const fkdai_cpu_group *group, const fkdai_cpu_chunk *chunk, int64_t K, float beta, const float *v, float *state, float *out)
{
    step_panel(group, chunk, K, beta, v, state, out);
}

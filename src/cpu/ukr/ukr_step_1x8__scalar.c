/* ukr_step.h in C. */
#include "vec__scalar.h"
enum { TILE_VECS = 2, TILE_SPLIT = 2 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_1x8__scalar(const fkdai_cpu_group *group, const fkdai_cpu_chunk *chunk, int64_t K, float beta, const float *v, float *state, float *out)
{
    step_panel(group, chunk, K, beta, v, state, out);
}

/* ukr_step.h in C. */
#include "vec__scalar.h"
enum { TILE_ROWS = 2, TILE_VECS = 2, TILE_SPLIT = 2 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_columns_2x8__scalar(const fkdai_cpu_token *token, int64_t K, int64_t stride, const float *v, float *state, float *out)
{
    step_columns(token, K, stride, v, state, out);
}

void ukr_step_rows_2x8__scalar(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out)
{
    step_rows(token, K, v, state, out);
}

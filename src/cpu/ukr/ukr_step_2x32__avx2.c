/* ukr_step.h for AVX2 and FMA. */
#include "vec__avx2.h"
enum { TILE_ROWS = 2, TILE_VECS = 4, TILE_SPLIT = 1 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_columns_2x32__avx2(const fkdai_cpu_token *token, int64_t K, int64_t stride, const float *v, float *state, float *out)
{
    step_columns(token, K, stride, v, state, out);
}

void ukr_step_rows_2x32__avx2(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out)
{
    step_rows(token, K, v, state, out);
}

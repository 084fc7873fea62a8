/* ukr_step.h for AVX-512. */
#include "vec__avx512.h"
enum { TILE_ROWS = 4, TILE_VECS = 2, TILE_SPLIT = 2 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_columns_4x32__avx512(const fkdai_cpu_token *token, int64_t K, int64_t stride, const float *v, float *state, float *out)
{
    step_columns(token, K, stride, v, state, out);
}

void ukr_step_rows_4x32__avx512(const fkdai_cpu_token *token, int64_t K, const float *v, float *state, float *out)
{
    step_rows(token, K, v, state, out);
}

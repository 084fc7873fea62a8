/* ukr_step.h for AVX2 and FMA. */
#include "vec__avx2.h"
enum { TILE_ROWS = 4, TILE_VECS = 4, WIDE_VECS = 4, KEEPS = 0, HAS_ROW_GROUPS = 1 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_columns_2x32__avx2(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out)
{
    step_columns(token, K, stride, width, v, state, out);
}

void ukr_step_rows_2x32__avx2(const fkdai_cpu_token *token, int64_t K, int64_t rows, const float *v, float *state, float *out)
{
    step_rows(token, K, rows, v, state, out);
}

/* ukr_step.h for AVX-512. */
#include "vec__avx512.h"
enum { TILE_ROWS = 2, TILE_VECS = 4, WIDE_VECS = 8, KEEPS = 1, HAS_ROW_GROUPS = 0 };
#include "ukr_step.h"
#include "ukr_list.h"

void ukr_step_columns_4x32__avx512(const fkdai_cpu_token *token, int64_t K, int64_t stride, int64_t width, const float *v, float *state, float *out)
{
    step_columns(token, K, stride, width, v, state, out);
}

void ukr_step_rows_4x32__avx512(const fkdai_cpu_token *token, int64_t K, int64_t rows, const float *v, float *state, float *out)
{
    step_rows(token, K, rows, v, state, out);
}

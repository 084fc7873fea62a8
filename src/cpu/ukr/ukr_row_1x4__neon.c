/* ukr_row.h for NEON. */
#include "vec__neon.h"
#include "ukr_row.h"
#include "ukr_list.h"

void ukr_load_row_1x4__neon(const void *x, fkda_dtype dtype, int64_t width, int is_normalised, float factor, float *row)
{
    load_any(x, dtype, width, is_normalised, factor, row);
}

void ukr_store_row_1x4__neon(const float *row, int64_t width, fkda_dtype dtype, void *out) { store_any(row, width, dtype, out); }

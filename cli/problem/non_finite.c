/* By the bits: the exponent is all ones, and the mantissa says which of the two it is. */
#include "non_finite.h"

enum { BF16_EXPONENT = 0x7f80, BF16_MAGNITUDE = 0x7fff };
#define F32_EXPONENT 0x7f800000u
#define F32_MAGNITUDE 0x7fffffffu

static non_finite count_bf16(const uint16_t *bits, int64_t count)
{
    non_finite found = {.first = count};
    for (int64_t i = 0; i < count; ++i) {
        if ((bits[i] & BF16_EXPONENT) != BF16_EXPONENT) continue;
        if (found.first == count) found.first = i;
        if ((bits[i] & BF16_MAGNITUDE) > BF16_EXPONENT) ++found.nan_count;
        else ++found.inf_count;
    }
    return found;
}

static non_finite count_f32(const uint32_t *bits, int64_t count)
{
    non_finite found = {.first = count};
    for (int64_t i = 0; i < count; ++i) {
        if ((bits[i] & F32_EXPONENT) != F32_EXPONENT) continue;
        if (found.first == count) found.first = i;
        if ((bits[i] & F32_MAGNITUDE) > F32_EXPONENT) ++found.nan_count;
        else ++found.inf_count;
    }
    return found;
}

non_finite non_finite_count(const void *data, fkda_dtype dtype, int64_t count)
{
    return dtype == FKDA_BF16 ? count_bf16(data, count) : count_f32(data, count);
}

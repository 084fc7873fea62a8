/* Strides and extents. */
#include "extent.h"

#include <inttypes.h>

#include "dtype.h"
#include "status.h"

#define MAX_EXTENT_BYTES (INT64_MAX / 16)    /* room for sums and wider copies of the same shape */

typedef struct axis {
    const char *name;
    int64_t *stride, size;
} axis;

/* The axes from the smallest stride to the largest; axes of size 1 do not count. At most three. */
static int sorted_axes(const axis *all, axis *sorted)
{
    int count = 0;
    for (int i = 0; i < 3; ++i) {
        if (all[i].size <= 1) continue;
        int at = count++;
        for (; at > 0 && *sorted[at - 1].stride > *all[i].stride; --at) sorted[at] = sorted[at - 1];
        sorted[at] = all[i];
    }
    return count;
}

/* Elements that the tensor spans; each axis must step over all that lies inside it. */
static fkda_status span_of(const char *tensor, const axis *axes, int64_t width, int64_t element_bytes)
{
    axis sorted[3];
    const int count = sorted_axes(axes, sorted);
    int64_t span = width;
    for (int i = 0; i < count; ++i) {
        const int64_t stride = *sorted[i].stride;
        REQUIRE(stride >= span, FKDA_ERR_STRIDE, "desc.%s.%s_stride = %" PRId64 " is below the %" PRId64 " elements it must step over", tensor,
                sorted[i].name, stride, span);
        int64_t steps;
        REQUIRE(!__builtin_mul_overflow(stride, sorted[i].size - 1, &steps) && !__builtin_add_overflow(span, steps, &span),
                FKDA_ERR_OVERFLOW, "desc.%s spans more than 2^63 elements", tensor);
    }
    REQUIRE(span <= MAX_EXTENT_BYTES / element_bytes, FKDA_ERR_OVERFLOW, "desc.%s spans more than 2^59 bytes", tensor);
    return FKDA_OK;
}

fkda_status fkdai_resolve_tensor(const char *name, fkda_tensor_desc *t, fkdai_shape shape)
{
    const axis axes[3] = {{"head", &t->head_stride, shape.heads}, {"token", &t->token_stride, shape.T}, {"batch", &t->batch_stride, shape.B}};
    for (int i = 0; i < 3; ++i) {
        if (axes[i].size <= 1) *axes[i].stride = 0;    /* nobody steps along it */
        REQUIRE(*axes[i].stride >= 0, FKDA_ERR_STRIDE, "desc.%s.%s_stride = %" PRId64 " is negative", name, axes[i].name, *axes[i].stride);
    }
    int64_t dense = shape.width;
    for (int i = 0; i < 3; ++i) {
        if (*axes[i].stride == 0) *axes[i].stride = dense;
        if (i == 2) break;    /* nothing lies outside the batch */
        REQUIRE(!__builtin_mul_overflow(dense, axes[i].size > 0 ? axes[i].size : 1, &dense), FKDA_ERR_OVERFLOW,
                "desc.%s: the product of its dimensions does not fit 63 bits", name);
    }
    return span_of(name, axes, shape.width, fkdai_dtype_bytes(t->dtype));
}

static int64_t row_count(const fkda_state_desc *s, fkdai_state_shape shape) { return s->slot_count > 0 ? s->slot_count : shape.rows; }

fkda_status fkdai_resolve_state(const char *name, fkda_state_desc *s, fkdai_state_shape shape)
{
    if (s->dtype == FKDA_NONE) return FKDA_OK;
    int64_t row, all;
    REQUIRE(!__builtin_mul_overflow(shape.HV, shape.K, &row) && !__builtin_mul_overflow(row, shape.V, &row), FKDA_ERR_OVERFLOW,
            "desc.%s: HV*K*V does not fit 63 bits", name);
    const int64_t rows = row_count(s, shape);
    if (rows <= 1 || s->row_stride == 0) s->row_stride = row;
    REQUIRE(s->row_stride >= row, FKDA_ERR_STRIDE, "desc.%s.row_stride = %" PRId64 " is below HV*K*V = %" PRId64, name, s->row_stride, row);
    REQUIRE(!__builtin_mul_overflow(s->row_stride, rows, &all) && all <= MAX_EXTENT_BYTES / fkdai_dtype_bytes(s->dtype), FKDA_ERR_OVERFLOW,
            "desc.%s spans more than 2^59 bytes", name);
    return FKDA_OK;
}

fkdai_extent fkdai_tensor_extent(const fkda_tensor_desc *t, fkdai_shape shape)
{
    const int64_t element = fkdai_dtype_bytes(t->dtype);
    if (shape.B == 0 || shape.T == 0) return (fkdai_extent){0, element};
    const int64_t last = (shape.B - 1) * t->batch_stride + (shape.T - 1) * t->token_stride + (shape.heads - 1) * t->head_stride;
    return (fkdai_extent){(last + shape.width) * element, element};
}

fkdai_extent fkdai_state_extent(const fkda_state_desc *s, fkdai_state_shape shape)
{
    const int64_t rows = row_count(s, shape), element = fkdai_dtype_bytes(s->dtype);
    if (s->dtype == FKDA_NONE || rows == 0) return (fkdai_extent){0, element};
    return (fkdai_extent){((rows - 1) * s->row_stride + shape.HV * shape.K * shape.V) * element, element};
}

fkdai_extent fkdai_array_extent(fkda_dtype dtype, int64_t count)
{
    const int64_t element = fkdai_dtype_bytes(dtype);
    return (fkdai_extent){count * element, element};
}

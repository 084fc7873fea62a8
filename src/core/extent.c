/* Strides and extents. */
#include "extent.h"

#include <inttypes.h>

#include "dtype.h"
#include "status.h"

#define MAX_EXTENT_BYTES (INT64_MAX / 16)    /* room for sums and wider copies of the same shape */

fkdai_tensor_view fkdai_tensor_at(const fkda_fwd_desc *d, int i)
{
    const fkdai_tensor_view views[FKDAI_TENSOR_COUNT] = {
        {"q", &d->q, d->H, d->K},   {"k", &d->k, d->H, d->K},      {"v", &d->v, d->HV, d->V},
        {"g", &d->g, d->HV, d->K},  {"beta", &d->beta, d->HV, 1},  {"out", &d->out, d->HV, d->V},
    };
    return views[i];
}

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

static fkda_status resolve_tensor(fkda_tensor_desc *t, const char *name, int64_t B, int64_t T, int64_t heads, int64_t width)
{
    const axis axes[3] = {{"head", &t->head_stride, heads}, {"token", &t->token_stride, T}, {"batch", &t->batch_stride, B}};
    for (int i = 0; i < 3; ++i) {
        if (axes[i].size <= 1) *axes[i].stride = 0;    /* nobody steps along it */
        REQUIRE(*axes[i].stride >= 0, FKDA_ERR_STRIDE, "desc.%s.%s_stride = %" PRId64 " is negative", name, axes[i].name, *axes[i].stride);
    }
    int64_t dense = width;
    for (int i = 0; i < 3; ++i) {
        if (*axes[i].stride == 0) *axes[i].stride = dense;
        if (i == 2) break;    /* nothing lies outside the batch */
        REQUIRE(!__builtin_mul_overflow(dense, axes[i].size > 0 ? axes[i].size : 1, &dense), FKDA_ERR_OVERFLOW,
                "desc.%s: the product of its dimensions does not fit 63 bits", name);
    }
    return span_of(name, axes, width, fkdai_dtype_bytes(t->dtype));
}

static fkda_status resolve_state(fkda_state_desc *s, const char *name, const fkda_fwd_desc *d, int64_t dense_rows)
{
    if (s->dtype == FKDA_NONE) return FKDA_OK;
    int64_t row, all;
    REQUIRE(!__builtin_mul_overflow(d->HV, d->K, &row) && !__builtin_mul_overflow(row, d->V, &row), FKDA_ERR_OVERFLOW,
            "desc.%s: HV*K*V does not fit 63 bits", name);
    const int64_t rows = s->slot_count > 0 ? s->slot_count : dense_rows;
    if (rows <= 1 || s->row_stride == 0) s->row_stride = row;
    REQUIRE(s->row_stride >= row, FKDA_ERR_STRIDE, "desc.%s.row_stride = %" PRId64 " is below HV*K*V = %" PRId64, name, s->row_stride, row);
    REQUIRE(!__builtin_mul_overflow(s->row_stride, rows, &all) && all <= MAX_EXTENT_BYTES / fkdai_dtype_bytes(s->dtype), FKDA_ERR_OVERFLOW,
            "desc.%s spans more than 2^59 bytes", name);
    return FKDA_OK;
}

fkda_status fkdai_resolve_strides(fkda_fwd_desc *d)
{
    fkda_tensor_desc *const tensors[FKDAI_TENSOR_COUNT] = {&d->q, &d->k, &d->v, &d->g, &d->beta, &d->out};
    for (int i = 0; i < FKDAI_TENSOR_COUNT; ++i) {
        const fkdai_tensor_view t = fkdai_tensor_at(d, i);
        TRY(resolve_tensor(tensors[i], t.name, d->B, d->T, t.heads, t.width));
    }
    TRY(resolve_state(&d->initial_state, "initial_state", d, d->N));
    TRY(resolve_state(&d->final_state, "final_state", d, d->N));
    TRY(resolve_state(&d->checkpoints, "checkpoints", d, d->checkpoint_count));
    int64_t elements;    /* backends may count their work in 64 bits, also where no state is stored */
    REQUIRE(!__builtin_mul_overflow(d->HV, d->K * d->V, &elements) && !__builtin_mul_overflow(elements, d->N, &elements), FKDA_ERR_OVERFLOW,
            "desc.N = %" PRId64 ": N*HV*K*V does not fit 63 bits", d->N);
    return FKDA_OK;
}

int64_t fkdai_tensor_bytes(const fkda_fwd_desc *d, int i)
{
    const fkdai_tensor_view t = fkdai_tensor_at(d, i);
    if (d->B == 0 || d->T == 0) return 0;
    const int64_t last = (d->B - 1) * t.desc->batch_stride + (d->T - 1) * t.desc->token_stride + (t.heads - 1) * t.desc->head_stride;
    return (last + t.width) * fkdai_dtype_bytes(t.desc->dtype);
}

int64_t fkdai_state_bytes(const fkda_fwd_desc *d, const fkda_state_desc *s, int64_t dense_rows)
{
    const int64_t rows = s->slot_count > 0 ? s->slot_count : dense_rows;
    if (s->dtype == FKDA_NONE || rows == 0) return 0;
    return ((rows - 1) * s->row_stride + d->HV * d->K * d->V) * fkdai_dtype_bytes(s->dtype);
}

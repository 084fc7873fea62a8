/* From the arrays of a decode call to rows of states. */
#include "decode_states.h"

#include "dtype.h"

int64_t fkdai_decode_slot_at(const fkda_decode_desc *d, int64_t n, int64_t j) { return d->commit == FKDA_COMMIT_EACH ? n * d->slots_stride + j : n; }

int64_t fkdai_decode_slot(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t j)
{
    return fkdai_load_index(a->slots, d->state.slot_dtype, fkdai_decode_slot_at(d, n, j));
}

int64_t fkdai_decode_accepted(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    return d->num_accepted == FKDA_NONE ? 1 : fkdai_load_index(a->num_accepted, d->num_accepted, n);
}

int64_t fkdai_decode_first_slot(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    return d->commit == FKDA_COMMIT_EACH ? fkdai_decode_accepted(d, a, n) - 1 : 0;
}

int fkdai_decode_is_masked(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    return (d->flags & FKDA_FLAG_INITIAL_MASK) != 0 && a->initial_mask[n] == 0;
}

/* Of entry j of args.slots. */
static int64_t row_of(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t j)
{
    if (d->state.slot_count == 0) return n;
    const int64_t slot = fkdai_decode_slot(d, a, n, j);
    return fkdai_is_null_slot(&d->state, slot) ? FKDAI_NO_ROW : slot;
}

int fkdai_decode_is_padding(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    if (!(d->flags & FKDA_FLAG_NULL_IS_PADDING)) return 0;
    return row_of(d, a, n, fkdai_decode_is_masked(d, a, n) ? 0 : fkdai_decode_first_slot(d, a, n)) == FKDAI_NO_ROW;
}

int64_t fkdai_decode_initial_row(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    return fkdai_decode_is_masked(d, a, n) ? FKDAI_NO_ROW : row_of(d, a, n, fkdai_decode_first_slot(d, a, n));
}

int64_t fkdai_decode_final_row(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t t, int64_t length)
{
    switch (d->commit) {
    case FKDA_COMMIT_LAST: return t == length - 1 ? row_of(d, a, n, 0) : FKDAI_NO_ROW;
    case FKDA_COMMIT_NONE: return FKDAI_NO_ROW;
    case FKDA_COMMIT_ACCEPTED: return t == fkdai_decode_accepted(d, a, n) - 1 ? row_of(d, a, n, 0) : FKDAI_NO_ROW;
    case FKDA_COMMIT_EACH: return row_of(d, a, n, t);
    }
    return FKDAI_NO_ROW;
}

int64_t fkdai_decode_step_row(const fkda_decode_desc *d, int64_t n, int64_t t)
{
    return d->step_states.dtype == FKDA_NONE ? FKDAI_NO_ROW : n * d->step_states_per_sequence + t;
}

int64_t fkdai_decode_parent(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t t)
{
    return fkdai_load_index(a->parent, d->parent, n * d->parent_stride + t);
}

int64_t fkdai_decode_needed(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t length)
{
    const int is_fold = d->flags & FKDA_FLAG_NO_OUT && d->commit == FKDA_COMMIT_ACCEPTED && d->step_states.dtype == FKDA_NONE;
    return is_fold && length > 0 ? fkdai_decode_accepted(d, a, n) : length;
}

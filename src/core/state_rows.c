/* Slots, masks and checkpoints: from a checked call to rows and positions. */
#include "state_rows.h"

#include "dtype.h"

int fkdai_is_null_slot(const fkda_state_desc *s, int64_t index)
{
    return s->slot_null != FKDA_SLOT_NULL_NONE && index < (s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE ? 1 : 0);
}

static int64_t row_of(const fkda_state_desc *s, const void *slots, int64_t i)
{
    if (s->dtype == FKDA_NONE) return FKDAI_NO_ROW;
    if (s->slot_count == 0) return i;
    const int64_t slot = fkdai_load_index(slots, s->slot_dtype, i);
    return fkdai_is_null_slot(s, slot) ? FKDAI_NO_ROW : slot;
}

int fkdai_is_masked(const fkda_fwd_desc *d, const fkda_fwd_args *a, int64_t n)
{
    return (d->flags & FKDA_FLAG_INITIAL_MASK) != 0 && a->initial_mask[n] == 0;
}

int64_t fkdai_initial_row(const fkda_fwd_desc *d, const fkda_fwd_args *a, int64_t n)
{
    return fkdai_is_masked(d, a, n) ? FKDAI_NO_ROW : row_of(&d->initial_state, a->initial_slots, n);
}

int64_t fkdai_final_row(const fkda_fwd_desc *d, const fkda_fwd_args *a, int64_t n) { return row_of(&d->final_state, a->final_slots, n); }

int64_t fkdai_checkpoint_row(const fkda_fwd_desc *d, const fkda_fwd_args *a, int64_t number)
{
    return row_of(&d->checkpoints, a->checkpoint_slots, number);
}

/* -------------------------------------------------------------- where checkpoints are */

int64_t fkdai_most_checkpoints(const fkda_fwd_desc *d)
{
    if (d->checkpoint_every == 0) return d->N * d->checkpoints_per_sequence;
    const int64_t fit = d->B * d->T / d->checkpoint_every;
    return fit < d->checkpoint_count ? fit : d->checkpoint_count;
}

static int64_t count_in(const fkdai_checkpoints *c, const void *cu_seqlens)
{
    if (c->desc->checkpoints.dtype == FKDA_NONE) return 0;
    if (c->offsets != NULL) return c->desc->checkpoints_per_sequence;
    const fkdai_sequence seq = fkdai_sequence_at(c->desc, cu_seqlens, c->n);
    return (seq.end - seq.begin) / c->desc->checkpoint_every;
}

fkdai_checkpoints fkdai_first_checkpoints(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    fkdai_checkpoints c = {.desc = d, .offsets = a->checkpoint_offsets};
    if (d->N > 0) c.count = count_in(&c, a->cu_seqlens);
    return c;
}

void fkdai_seek_checkpoints(fkdai_checkpoints *c, const void *cu_seqlens, int64_t n)
{
    while (c->n < n) {
        c->first += c->count;
        c->n += 1;
        c->count = count_in(c, cu_seqlens);
    }
}

int64_t fkdai_checkpoint_position(const fkdai_checkpoints *c, int64_t j)
{
    if (c->offsets == NULL) return (j + 1) * c->desc->checkpoint_every;
    return fkdai_load_index(c->offsets, c->desc->checkpoint_offset_dtype, c->first + j);
}

int64_t fkdai_next_checkpoint(const fkdai_checkpoints *c, int64_t after)
{
    if (c->count == 0) return INT64_MAX;
    if (c->offsets == NULL) {
        const int64_t passed = after / c->desc->checkpoint_every;
        return passed < c->count ? fkdai_checkpoint_position(c, passed) : INT64_MAX;
    }
    int64_t next = INT64_MAX;
    for (int64_t j = 0; j < c->count; ++j) {
        const int64_t position = fkdai_checkpoint_position(c, j);
        if (position > after && position < next) next = position;
    }
    return next;
}

int64_t fkdai_find_checkpoint(const fkdai_checkpoints *c, int64_t position, int64_t j)
{
    if (c->offsets == NULL && c->count > 0) {
        const int64_t only = position / c->desc->checkpoint_every - 1;
        return only >= j && only < c->count && fkdai_checkpoint_position(c, only) == position ? only : c->count;
    }
    while (j < c->count && fkdai_checkpoint_position(c, j) != position) ++j;
    return j;
}

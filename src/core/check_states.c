/*
 * Values of slots and checkpoints. Who uses which slot is listed in the workspace.
 */
#include "check_states.h"

#include <inttypes.h>

#include "slot_uses.h"
#include "state_rows.h"
#include "status.h"

/* -------------------------------------------------------------- slots of sequences */

static fkda_status check_slot(const char *state, const char *slots, const fkda_state_desc *s, int64_t row, int64_t i)
{
    REQUIRE(s->slot_count == 0 || row < s->slot_count, FKDA_ERR_BAD_VALUE,
            "args.%s[%" PRId64 "] = %" PRId64 " is not below desc.%s.slot_count = %" PRId64, slots, i, row, state, s->slot_count);
    return FKDA_OK;
}

static int is_pool(const fkda_state_desc *s) { return s->dtype != FKDA_NONE && s->slot_count > 0; }

static fkda_status check_sequences(const fkda_fwd_desc *d, const fkda_fwd_args *a, fkdai_slot_use *uses)
{
    const int is_in_place = a->initial_state != NULL && a->initial_state == a->final_state;
    int64_t count = 0;
    for (int64_t n = 0; n < d->N; ++n) {
        const int64_t initial = fkdai_initial_row(d, a, n), final = fkdai_final_row(d, a, n);
        TRY(check_slot("initial_state", "initial_slots", &d->initial_state, initial, n));
        TRY(check_slot("final_state", "final_slots", &d->final_state, final, n));
        if (!is_pool(&d->final_state)) continue;
        if (is_in_place && initial != FKDAI_NO_ROW) uses[count++] = (fkdai_slot_use){initial, n, 0};
        if (final != FKDAI_NO_ROW) uses[count++] = (fkdai_slot_use){final, n, 1};
    }
    const fkdai_slot_use *other, *const u = fkdai_find_slot_conflict(uses, count, &other);
    if (u == NULL) return FKDA_OK;
    const fkdai_slot_use *const writer = u->is_write ? u : other, *const reader = u->is_write ? other : u;
    REQUIRE(!other->is_write || !u->is_write, FKDA_ERR_ALIAS, "args.final_slots[%" PRId64 "] and args.final_slots[%" PRId64 "] are both %" PRId64
            ", but no two sequences may write one slot", other->i, u->i, u->slot);
    return fkdai_fail(FKDA_ERR_ALIAS, "args.final_slots[%" PRId64 "] and args.initial_slots[%" PRId64 "] are both %" PRId64
                      ", but in place no sequence may write a slot that another reads", writer->i, reader->i, u->slot);
}

/* -------------------------------------------------------------- checkpoints */

static fkda_status check_position(const fkdai_checkpoints *c, int64_t j, int64_t position, int64_t length)
{
    const int64_t C = c->desc->checkpoints_per_sequence;
    REQUIRE(c->offsets == NULL || position <= length, FKDA_ERR_BAD_VALUE,
            "args.checkpoint_offsets[%" PRId64 "] = %" PRId64 " (sequence %" PRId64 ", checkpoint %" PRId64 " of %" PRId64
            ") is beyond the %" PRId64 " tokens of its sequence", c->first + j, position, c->n, j, C, length);
    REQUIRE(c->first + j < c->desc->checkpoint_count, FKDA_ERR_BAD_VALUE,
            "desc.checkpoint_count = %" PRId64 " is too small: sequence %" PRId64 " has a checkpoint in row %" PRId64,
            c->desc->checkpoint_count, c->n, c->first + j);
    return FKDA_OK;
}

static fkda_status check_checkpoints(const fkda_fwd_desc *d, const fkda_fwd_args *a, fkdai_slot_use *uses)
{
    const int has_slots = is_pool(&d->checkpoints);
    fkdai_checkpoints c = fkdai_first_checkpoints(d, a);
    int64_t count = 0;
    for (int64_t n = 0; n < d->N; ++n) {
        fkdai_seek_checkpoints(&c, a->cu_seqlens, n);
        const fkdai_sequence seq = fkdai_sequence_at(d, a->cu_seqlens, n);
        for (int64_t j = 0; j < c.count; ++j) {
            const int64_t position = fkdai_checkpoint_position(&c, j);
            if (position <= 0) continue;
            TRY(check_position(&c, j, position, seq.end - seq.begin));
            const int64_t row = fkdai_checkpoint_row(d, a, c.first + j);
            TRY(check_slot("checkpoints", "checkpoint_slots", &d->checkpoints, row, c.first + j));
            if (has_slots && row != FKDAI_NO_ROW) uses[count++] = (fkdai_slot_use){row, c.first + j, 1};
        }
    }
    const fkdai_slot_use *other, *const u = fkdai_find_slot_conflict(uses, count, &other);
    REQUIRE(u == NULL, FKDA_ERR_ALIAS, "args.checkpoint_slots[%" PRId64 "] and args.checkpoint_slots[%" PRId64 "] are both %" PRId64
            ", but no two checkpoints may be written to one slot", other->i, u->i, u->slot);
    return FKDA_OK;
}

/* -------------------------------------------------------------- */

int64_t fkdai_check_states_bytes(const fkda_fwd_desc *d)
{
    const int64_t sequences = is_pool(&d->final_state) ? 2 * d->N : 0, checkpoints = is_pool(&d->checkpoints) ? fkdai_most_checkpoints(d) : 0;
    return (sequences > checkpoints ? sequences : checkpoints) * (int64_t)sizeof(fkdai_slot_use);
}

fkda_status fkdai_check_states(const fkda_fwd_desc *d, const fkda_fwd_args *a, void *workspace)
{
    TRY(check_sequences(d, a, workspace));
    return check_checkpoints(d, a, workspace);
}

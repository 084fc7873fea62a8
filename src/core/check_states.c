/*
 * Values of slots and checkpoints. Who uses which slot is listed in the workspace and sorted there, so that slots that meet lie side by side.
 */
#include "check_states.h"

#include <inttypes.h>

#include "dtype.h"
#include "state_rows.h"
#include "status.h"

/* A slot that is read or written: by sequence i, or by checkpoint i. */
typedef struct use {
    int64_t slot, i;
    int is_write;
} use;

/* -------------------------------------------------------------- the list of uses */

static int comes_before(const use *a, const use *b)
{
    if (a->slot != b->slot) return a->slot < b->slot;
    return a->i != b->i ? a->i < b->i : a->is_write < b->is_write;
}

/* A heap with the largest use at the root, below `root` already in order. */
static void sift(use *uses, int64_t root, int64_t count)
{
    const use falling = uses[root];
    for (int64_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && comes_before(&uses[child], &uses[child + 1])) ++child;
        if (!comes_before(&falling, &uses[child])) break;
        uses[root] = uses[child];
    }
    uses[root] = falling;
}

static void sort(use *uses, int64_t count)
{
    for (int64_t root = count / 2; root-- > 0;) sift(uses, root, count);
    for (int64_t last = count; last-- > 1;) {
        const use largest = uses[0];
        uses[0] = uses[last];
        uses[last] = largest;
        sift(uses, 0, last);
    }
}

/* The first two uses of one slot of which one writes and that are not by the same sequence or checkpoint. */
static const use *find_conflict(const use *uses, int64_t count, const use **other)
{
    const use *written = NULL, *first = NULL;    /* of the slot at hand */
    for (int64_t i = 0; i < count; ++i) {
        const use *const u = &uses[i];
        if (first == NULL || first->slot != u->slot) {
            first = u;
            written = NULL;
        }
        *other = written != NULL && written->i != u->i ? written : u->is_write && first->i != u->i ? first : NULL;
        if (*other != NULL) return u;
        if (u->is_write) written = u;
    }
    return NULL;
}

/* -------------------------------------------------------------- slots of sequences */

static fkda_status check_slot(const char *state, const char *slots, const fkda_state_desc *s, int64_t row, int64_t i)
{
    REQUIRE(s->slot_count == 0 || row < s->slot_count, FKDA_ERR_BAD_VALUE,
            "args.%s[%" PRId64 "] = %" PRId64 " is not below desc.%s.slot_count = %" PRId64, slots, i, row, state, s->slot_count);
    return FKDA_OK;
}

static int is_pool(const fkda_state_desc *s) { return s->dtype != FKDA_NONE && s->slot_count > 0; }

static fkda_status check_sequences(const fkda_fwd_desc *d, const fkda_fwd_args *a, use *uses)
{
    const int is_in_place = a->initial_state != NULL && a->initial_state == a->final_state;
    int64_t count = 0;
    for (int64_t n = 0; n < d->N; ++n) {
        const int64_t initial = fkdai_initial_row(d, a, n), final = fkdai_final_row(d, a, n);
        TRY(check_slot("initial_state", "initial_slots", &d->initial_state, initial, n));
        TRY(check_slot("final_state", "final_slots", &d->final_state, final, n));
        if (!is_pool(&d->final_state)) continue;
        if (is_in_place && initial != FKDAI_NO_ROW) uses[count++] = (use){initial, n, 0};
        if (final != FKDAI_NO_ROW) uses[count++] = (use){final, n, 1};
    }
    sort(uses, count);
    const use *other, *const u = find_conflict(uses, count, &other);
    if (u == NULL) return FKDA_OK;
    const use *const writer = u->is_write ? u : other, *const reader = u->is_write ? other : u;
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

static fkda_status check_checkpoints(const fkda_fwd_desc *d, const fkda_fwd_args *a, use *uses)
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
            if (has_slots && row != FKDAI_NO_ROW) uses[count++] = (use){row, c.first + j, 1};
        }
    }
    sort(uses, count);
    const use *other, *const u = find_conflict(uses, count, &other);
    REQUIRE(u == NULL, FKDA_ERR_ALIAS, "args.checkpoint_slots[%" PRId64 "] and args.checkpoint_slots[%" PRId64 "] are both %" PRId64
            ", but no two checkpoints may be written to one slot", other->i, u->i, u->slot);
    return FKDA_OK;
}

/* -------------------------------------------------------------- */

int64_t fkdai_check_states_bytes(const fkda_fwd_desc *d)
{
    const int64_t sequences = is_pool(&d->final_state) ? 2 * d->N : 0, checkpoints = is_pool(&d->checkpoints) ? fkdai_most_checkpoints(d) : 0;
    return (sequences > checkpoints ? sequences : checkpoints) * (int64_t)sizeof(use);
}

fkda_status fkdai_check_states(const fkda_fwd_desc *d, const fkda_fwd_args *a, void *workspace)
{
    TRY(check_sequences(d, a, workspace));
    return check_checkpoints(d, a, workspace);
}

/* -------------------------------------------------------------- decode */

int64_t fkdai_check_decode_slots_bytes(const fkda_fwd_desc *d) { return is_pool(&d->final_state) ? d->N * (int64_t)sizeof(use) : 0; }

fkda_status fkdai_check_decode_slots(const fkda_fwd_desc *d, const fkda_fwd_args *a, void *workspace)
{
    const fkda_state_desc *const s = &d->final_state;
    use *const uses = workspace;
    int64_t count = 0;
    for (int64_t n = 0; is_pool(s) && n < d->N; ++n) {
        const int64_t slot = fkdai_load_index(a->final_slots, s->slot_dtype, n);
        if (fkdai_is_null_slot(s, slot)) continue;
        REQUIRE(slot >= 0, FKDA_ERR_BAD_VALUE,
                "args.slots[%" PRId64 "] = %" PRId64 " is below 0, but desc.state.slot_null says that no index is null", n, slot);
        TRY(check_slot("state", "slots", s, slot, n));
        uses[count++] = (use){slot, n, 1};
    }
    sort(uses, count);
    const use *other, *const u = find_conflict(uses, count, &other);
    REQUIRE(u == NULL, FKDA_ERR_ALIAS, "args.slots[%" PRId64 "] and args.slots[%" PRId64 "] are both %" PRId64
            ", but no two sequences may have one slot", other->i, u->i, u->slot);
    return FKDA_OK;
}

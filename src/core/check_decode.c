/* Values of the arrays of a decode call that the host can read. */
#include <inttypes.h>

#include "decode_states.h"
#include "dtype.h"
#include "slot_uses.h"
#include "status.h"

static int64_t length_of(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n)
{
    if (d->cu_seqlens == FKDA_NONE) return d->S;
    return fkdai_load_index(a->cu_seqlens, d->cu_seqlens, n + 1) - fkdai_load_index(a->cu_seqlens, d->cu_seqlens, n);
}

static fkda_status check_accepted(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t length)
{
    const int is_each = d->commit == FKDA_COMMIT_EACH;
    if (d->num_accepted == FKDA_NONE || length == 0 || (is_each && fkdai_decode_is_masked(d, a, n))) return FKDA_OK;
    const int64_t accepted = fkdai_decode_accepted(d, a, n), least = is_each, most = is_each ? d->slots_per_sequence : length;
    REQUIRE(accepted >= least && accepted <= most, FKDA_ERR_BAD_VALUE, "args.num_accepted[%" PRId64 "] = %" PRId64 " is outside [%" PRId64 ", %" PRId64
            "], the %s of its sequence", n, accepted, least, most, is_each ? "slots" : "tokens");
    return FKDA_OK;
}

static fkda_status check_parents(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t length)
{
    for (int64_t t = 0; d->parent != FKDA_NONE && t < length; ++t) {
        const int64_t parent = fkdai_decode_parent(d, a, n, t);
        REQUIRE(parent >= -1 && parent < t, FKDA_ERR_BAD_VALUE, "args.parent[%" PRId64 "] = %" PRId64 " (token %" PRId64 " of sequence %" PRId64
                ") is neither -1 nor an earlier token", n * d->parent_stride + t, parent, t, n);
    }
    return FKDA_OK;
}

/* Lists entry j of sequence n, unless it is null. */
static fkda_status check_slot(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t j, int is_write, fkdai_slot_use *uses, int64_t *count)
{
    const int64_t slot = fkdai_decode_slot(d, a, n, j), at = fkdai_decode_slot_at(d, n, j);
    if (fkdai_is_null_slot(&d->state, slot)) return FKDA_OK;
    REQUIRE(slot >= 0, FKDA_ERR_BAD_VALUE,
            "args.slots[%" PRId64 "] = %" PRId64 " is below 0, but desc.state.slot_null says that no index is null", at, slot);
    REQUIRE(slot < d->state.slot_count, FKDA_ERR_BAD_VALUE, "args.slots[%" PRId64 "] = %" PRId64 " is not below desc.state.slot_count = %" PRId64, at, slot,
            d->state.slot_count);
    if (d->commit != FKDA_COMMIT_NONE) uses[(*count)++] = (fkdai_slot_use){slot, at, is_write};
    return FKDA_OK;
}

/* The slots of a sequence: that of its state, or those that its tokens are written to and that it begins with. Of padding none is used. */
static fkda_status check_slots_of(const fkda_decode_desc *d, const fkda_decode_args *a, int64_t n, int64_t length, fkdai_slot_use *uses, int64_t *count)
{
    if (d->commit != FKDA_COMMIT_EACH) return check_slot(d, a, n, 0, 1, uses, count);
    if (length > 0 && fkdai_decode_is_padding(d, a, n)) return FKDA_OK;
    for (int64_t t = 0; t < length; ++t) TRY(check_slot(d, a, n, t, 1, uses, count));
    return length == 0 || fkdai_decode_is_masked(d, a, n) ? FKDA_OK : check_slot(d, a, n, fkdai_decode_first_slot(d, a, n), 0, uses, count);
}

int64_t fkdai_check_decode_bytes(const fkda_decode_desc *d)
{
    const int64_t of_sequence = d->state.slot_count == 0 || d->commit == FKDA_COMMIT_NONE ? 0 : d->commit == FKDA_COMMIT_EACH ? d->S + 1 : 1;
    return d->N * of_sequence * (int64_t)sizeof(fkdai_slot_use);
}

fkda_status fkdai_check_decode(const fkda_decode_desc *d, const fkda_decode_args *a, void *workspace)
{
    int64_t count = 0;
    for (int64_t n = 0; n < d->N; ++n) {
        const int64_t length = length_of(d, a, n);
        TRY(check_accepted(d, a, n, length));
        TRY(check_parents(d, a, n, length));
        if (d->state.slot_count > 0) TRY(check_slots_of(d, a, n, length, workspace, &count));
    }
    const fkdai_slot_use *other, *const u = fkdai_find_slot_conflict(workspace, count, &other);
    REQUIRE(u == NULL, FKDA_ERR_ALIAS, "args.slots[%" PRId64 "] and args.slots[%" PRId64 "] are both %" PRId64 ", but no %s", other->i, u->i, u->slot,
            d->commit == FKDA_COMMIT_EACH ? "slot that is written may be another one that is used" : "two sequences may have one slot");
    return FKDA_OK;
}

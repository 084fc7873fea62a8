/* Slots that are used twice: uses are sorted, so that those of one slot lie side by side. */
#include "slot_uses.h"

#include <stddef.h>

static int comes_before(const fkdai_slot_use *a, const fkdai_slot_use *b)
{
    if (a->slot != b->slot) return a->slot < b->slot;
    return a->i != b->i ? a->i < b->i : a->is_write < b->is_write;
}

/* A heap with the largest use at the root, below `root` already in order. */
static void sift(fkdai_slot_use *uses, int64_t root, int64_t count)
{
    const fkdai_slot_use falling = uses[root];
    for (int64_t child; (child = 2 * root + 1) < count; root = child) {
        if (child + 1 < count && comes_before(&uses[child], &uses[child + 1])) ++child;
        if (!comes_before(&falling, &uses[child])) break;
        uses[root] = uses[child];
    }
    uses[root] = falling;
}

static void sort(fkdai_slot_use *uses, int64_t count)
{
    for (int64_t root = count / 2; root-- > 0;) sift(uses, root, count);
    for (int64_t last = count; last-- > 1;) {
        const fkdai_slot_use largest = uses[0];
        uses[0] = uses[last];
        uses[last] = largest;
        sift(uses, 0, last);
    }
}

const fkdai_slot_use *fkdai_find_slot_conflict(fkdai_slot_use *uses, int64_t count, const fkdai_slot_use **other)
{
    sort(uses, count);
    const fkdai_slot_use *written = NULL, *first = NULL;    /* of the slot at hand */
    for (int64_t i = 0; i < count; ++i) {
        const fkdai_slot_use *const u = &uses[i];
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

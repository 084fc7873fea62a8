#include "plain_copies.h"

#include <string.h>

static int64_t at(fkdai_copy_array x, int64_t i) { return x.is_64bit ? ((const int64_t *)x.data)[i] : ((const int32_t *)x.data)[i]; }

static int is_unwritten(const char *row)
{
    const uint32_t mark = FKDAI_COPY_UNWRITTEN;
    return memcmp(row, &mark, sizeof mark) == 0;
}

/* Where an outer index lies: *place, or 0 if it has no place. */
static int find_slot(const fkdai_copies *all, const fkdai_copy *c, int64_t outer, int64_t *place)
{
    *place = c->slots.data == NULL ? outer : at(c->slots, outer);
    if (c->slots.data == NULL) return 1;
    if (*place >= c->slot_count && all->status != NULL) *all->status |= all->broken_slot;
    return *place >= c->first_slot && *place < c->slot_count;
}

static void copy_outer(const fkdai_copies *all, const fkdai_copy *c, int64_t outer, int64_t end, int is_out)
{
    int64_t place;
    char *row = c->packed + outer * c->size[1] * c->size[2] * FKDAI_COPY_ROW;
    if (!is_out && c->mask != NULL && c->mask[outer] == 0) return;
    if (is_out && c->is_marked && is_unwritten(row)) return;
    const int is_there = find_slot(all, c, outer, &place);
    for (int64_t middle = 0; middle < c->size[1]; ++middle) {
        for (int64_t inner = 0; inner < c->size[2]; ++inner, row += FKDAI_COPY_ROW) {
            char *const strided = is_there ? c->strided + place * c->stride[0] + middle * c->stride[1] + inner * c->stride[2] : NULL;
            if (!is_out && is_there) memcpy(row, strided, FKDAI_COPY_ROW);
            if (!is_out && !is_there) memset(row, 0, FKDAI_COPY_ROW);
            if (is_out && is_there && middle < end) memcpy(strided, row, FKDAI_COPY_ROW);
        }
    }
}

static int64_t end_of(const fkdai_copy *c)
{
    const int64_t rows = c->size[0] * c->size[1] * c->size[2];
    return c->end.data == NULL || rows == 0 || !is_unwritten(c->packed + (rows - 1) * FKDAI_COPY_ROW) ? c->size[1] : at(c->end, 0);
}

static void copy_all(const fkdai_copies *all, int is_out)
{
    for (int i = 0; i < all->count; ++i) {
        const int64_t end = end_of(&all->copy[i]);
        for (int64_t outer = 0; outer < all->copy[i].size[0]; ++outer) copy_outer(all, &all->copy[i], outer, end, is_out);
    }
}

void plain_copy_out(const fkdai_copies *copies) { copy_all(copies, 1); }

void plain_copy_in(const fkdai_copies *copies)
{
    const uint32_t mark = FKDAI_COPY_UNWRITTEN;
    copy_all(copies, 0);
    for (int m = 0; m < copies->mark_count; ++m)
        for (int64_t i = 0; i < copies->marks[m].count; ++i) memcpy(copies->marks[m].at + i * copies->marks[m].step, &mark, sizeof mark);
}

/* In the place of the launcher (cuda_in_host_memory.c), where nothing else is. */
#ifdef FKDA_PLAIN_COPIES
__attribute__((visibility("default"))) int plain_copies_made;    /* arguments, since the program began */

int fkdai_copy_load(void) { return 0; }

int fkdai_copy_in(const fkdai_copies *copies, void *stream)
{
    (void)stream;
    plain_copy_in(copies);
    plain_copies_made += copies->count;
    return 0;
}

int fkdai_copy_out(const fkdai_copies *copies, void *stream)
{
    (void)stream;
    plain_copy_out(copies);
    plain_copies_made += copies->count;
    return 0;
}
#endif

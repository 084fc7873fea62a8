/* Grids of the copying kernels: arithmetic, no CUDA. */
#include "strided_copy/strided_copy_grid.h"

#include <stddef.h>

enum { MOST_BLOCKS = 1 << 24 };    /* of one copy */

static int64_t rows_of(const fkdai_copy *c) { return c->size[0] * c->size[1] * c->size[2]; }

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int blocks_for(int64_t items, int64_t of_a_block)
{
    const int64_t blocks = ceiling(items, of_a_block);
    return blocks < MOST_BLOCKS ? (int)blocks : MOST_BLOCKS;
}

/* The largest power of two up to 16 that divides the address and every stride that is stepped along. */
static int unit_of(const fkdai_copy *c)
{
    uint64_t bits = (uint64_t)(uintptr_t)c->strided | 16;
    for (int i = 0; i < 3; ++i)
        if (c->size[i] > 1 || (i == 0 && c->slots.data != NULL)) bits |= (uint64_t)c->stride[i];
    return (int)(bits & (~bits + 1));
}

fkdai_copy_grid fkdai_copy_make_grid(const fkdai_copies *copies)
{
    const int64_t rows = FKDAI_COPY_THREADS / FKDAI_COPY_WARP * FKDAI_COPY_TILES_OF_WARP * FKDAI_COPY_TILE_ROWS;
    fkdai_copy_grid g = {{0}, {0}, 0};
    for (int i = 0; i < copies->count; ++i) {
        g.first_block[i] = g.blocks;
        g.unit[i] = unit_of(&copies->copy[i]);
        g.blocks += blocks_for(rows_of(&copies->copy[i]), rows);
    }
    g.first_block[copies->count] = g.blocks;
    int64_t marks = 0;
    for (int i = 0; i < copies->mark_count; ++i) marks = copies->marks[i].count > marks ? copies->marks[i].count : marks;
    g.blocks += blocks_for(marks, FKDAI_COPY_THREADS);
    return g;
}

/* Guard pages by mmap and mprotect. */
#include "guarded.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void protect(const guarded *g, int rights)
{
    if (mprotect(g->pages, g->pages_bytes, rights) != 0) {
        perror("mprotect");
        exit(99);
    }
}

guarded guarded_alloc(size_t bytes, size_t align, guard_side side, uint8_t fill)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t inside = bytes == 0 ? page : (bytes + page - 1) / page * page;
    uint8_t *const base = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        perror("mmap");
        exit(99);
    }
    guarded g = {.bytes = bytes, .pages = base + page, .pages_bytes = inside, .fill = fill};
    g.data = side == GUARD_AT_START ? g.pages : g.pages + (inside - bytes) / align * align;
    protect(&g, PROT_READ | PROT_WRITE);
    memset(g.pages, fill, inside);
    return g;
}

void guarded_make_readonly(const guarded *g) { protect(g, PROT_READ); }
void guarded_make_writable(const guarded *g) { protect(g, PROT_READ | PROT_WRITE); }

static int is_filled(const uint8_t *from, const uint8_t *to, uint8_t fill)
{
    for (; from < to; ++from)
        if (*from != fill) return 0;
    return 1;
}

int guarded_slack_is_intact(const guarded *g)
{
    return is_filled(g->pages, g->data, g->fill) && is_filled(g->data + g->bytes, g->pages + g->pages_bytes, g->fill);
}

void guarded_free(guarded *g)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (g->pages != NULL) munmap(g->pages - page, g->pages_bytes + 2 * page);
    memset(g, 0, sizeof *g);
}

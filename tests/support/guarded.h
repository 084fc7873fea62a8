/*
 * Memory between two pages that nobody may touch:
 *
 *     | no access | slack ... [data, bytes) ... slack | no access |
 *
 * The data touch one of the two guard pages (as far as the alignment lets them); the slack on the other side is filled with a byte
 * that is checked afterwards. 0xff makes every float of the slack a NaN, so a stray read shows in the result.
 */
#ifndef FKDA_TEST_GUARDED_H
#define FKDA_TEST_GUARDED_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum guard_side { GUARD_AT_END = 0, GUARD_AT_START = 1 } guard_side;

typedef struct guarded {
    uint8_t *data;
    size_t bytes;
    uint8_t *pages;        /* the accessible pages around data */
    size_t pages_bytes;
    uint8_t fill;          /* what every byte held at first */
} guarded;

guarded guarded_alloc(size_t bytes, size_t align, guard_side side, uint8_t fill);
void guarded_make_readonly(const guarded *g);
void guarded_make_writable(const guarded *g);
int guarded_slack_is_intact(const guarded *g);
void guarded_free(guarded *g);

#ifdef __cplusplus
}
#endif

#endif

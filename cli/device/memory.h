/*
 * Where tensors lie. Commands hold blocks and never ask how they were made; another kind of memory is another case in memory.c.
 * Host memory is aligned for the library, and never more in all than there is for this process (so that a typing error in a size is a
 * sentence and not a visit of the out-of-memory killer). CUDA memory comes from device.h.
 */
#ifndef CLI_MEMORY_H
#define CLI_MEMORY_H

#include <stddef.h>

#include "flashkda.h"

typedef struct memory_block {
    fkda_memory where;
    void *data;        /* NULL if there are no bytes; host code may follow it only if where == FKDA_MEMORY_HOST */
    size_t bytes;
} memory_block;

size_t memory_host_limit(void);    /* bytes that this process may have, as of the first question */

/* Would so many bytes fit beside what is in use? NO_MEMORY with a sentence that says how many are needed and how many there are. */
fkda_status memory_fits(fkda_memory where, uint64_t bytes);

fkda_status memory_alloc(fkda_memory where, size_t bytes, memory_block *block);    /* contents undefined */
void memory_free(memory_block *block);                                             /* a zeroed block is fine */
fkda_status memory_wait(fkda_memory where);                                        /* until the work on it is done */
fkda_status memory_repeat(const memory_block *block, const void *period, size_t period_bytes);    /* fills it, over and over */

fkda_status memory_copy(const memory_block *to, size_t at, const memory_block *from);             /* all of `from`, in the same kind of memory */

/* The block's bytes for host code: the block itself in host memory, a copy of another kind. Unmapping brings what was written back. */
typedef enum memory_access { MEMORY_READ, MEMORY_WRITE } memory_access;
fkda_status memory_map(const memory_block *block, memory_access access, void **data);
fkda_status memory_unmap(const memory_block *block, memory_access access, void *data);

#endif

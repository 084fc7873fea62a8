/* Host memory and device memory: alloc, map, free. */
#include "memory.h"

#include <stdlib.h>
#include <string.h>

#include "device.h"
#include "failure.h"
#include "text.h"

static size_t host_bytes_in_use;

static fkda_status bytes_left(fkda_memory where, size_t *bytes)
{
    if (where == FKDA_MEMORY_CUDA) return device_left(bytes);
    const size_t limit = memory_host_limit();
    *bytes = limit > host_bytes_in_use ? limit - host_bytes_in_use : 0;
    return FKDA_OK;
}

fkda_status memory_fits(fkda_memory where, uint64_t bytes)
{
    char needed[TEXT_NUMBER_BYTES], there[TEXT_NUMBER_BYTES];
    size_t left;
    TRY(bytes_left(where, &left));
    CHECK(bytes <= left, FKDA_ERR_NO_MEMORY, "%s of %smemory are needed, but only %s are available", text_bytes((double)bytes, needed),
          where == FKDA_MEMORY_CUDA ? "GPU " : "", text_bytes((double)left, there));
    return FKDA_OK;
}

static fkda_status alloc_host(size_t bytes, memory_block *block)
{
    TRY(memory_fits(FKDA_MEMORY_HOST, bytes));
    const size_t rounded = (bytes + FKDA_WORKSPACE_ALIGN - 1) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN;
    block->data = aligned_alloc(FKDA_WORKSPACE_ALIGN, rounded);
    CHECK(block->data != NULL, FKDA_ERR_NO_MEMORY, "out of memory: %zu bytes more are needed", bytes);
    host_bytes_in_use += bytes;
    return FKDA_OK;
}

fkda_status memory_alloc(fkda_memory where, size_t bytes, memory_block *block)
{
    *block = (memory_block){.where = where};
    if (bytes == 0) return FKDA_OK;
    TRY(where == FKDA_MEMORY_HOST ? alloc_host(bytes, block) : device_alloc(bytes, &block->data));
    block->bytes = bytes;
    return FKDA_OK;
}

fkda_status memory_map(const memory_block *block, memory_access access, void **data)
{
    memory_block copy;
    *data = block->data;
    if (block->where == FKDA_MEMORY_HOST || block->bytes == 0) return FKDA_OK;
    TRY(alloc_host(block->bytes, &copy));
    const fkda_status status = access == MEMORY_READ ? device_read(copy.data, block->data, block->bytes) : FKDA_OK;
    *data = copy.data;
    if (status != FKDA_OK) (void)memory_unmap(block, MEMORY_READ, copy.data);
    return status;
}

fkda_status memory_unmap(const memory_block *block, memory_access access, void *data)
{
    if (block->where == FKDA_MEMORY_HOST || data == NULL) return FKDA_OK;
    const fkda_status status = access == MEMORY_WRITE ? device_write(block->data, data, block->bytes) : FKDA_OK;
    free(data);
    host_bytes_in_use -= block->bytes;
    return status;
}

fkda_status memory_repeat(const memory_block *block, const void *period, size_t period_bytes)
{
    const size_t first = period_bytes < block->bytes ? period_bytes : block->bytes;
    if (block->where == FKDA_MEMORY_CUDA) {
        TRY(device_write(block->data, period, first));
        return device_repeat(block->data, first, block->bytes);
    }
    for (size_t at = 0; at < block->bytes; at += first)
        memcpy((char *)block->data + at, period, block->bytes - at < first ? block->bytes - at : first);
    return FKDA_OK;
}

fkda_status memory_copy(const memory_block *to, size_t at, const memory_block *from)
{
    if (from->bytes == 0) return FKDA_OK;
    if (to->where == FKDA_MEMORY_CUDA) return device_copy((char *)to->data + at, from->data, from->bytes);
    memcpy((char *)to->data + at, from->data, from->bytes);
    return FKDA_OK;
}

/* A call on host memory returns when its outputs are written. */
fkda_status memory_wait(fkda_memory where) { return where == FKDA_MEMORY_HOST ? FKDA_OK : device_wait(); }

void memory_free(memory_block *block)
{
    if (block->where == FKDA_MEMORY_CUDA) {
        if (block->data != NULL) device_free(block->data);
    } else {
        free(block->data);
        host_bytes_in_use -= block->bytes;
    }
    *block = (memory_block){.where = block->where};
}

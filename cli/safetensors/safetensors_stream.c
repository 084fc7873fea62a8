/* Reading a file that comes once, from front to end: its header says how much follows, and that much is kept. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "safetensors.h"

enum { READ_AT_ONCE = 1 << 30 };

/* Reads until there are `bytes` or the stream ends. */
static fkda_status take(const char *name, int fd, void *to, uint64_t bytes, uint64_t *got)
{
    for (*got = 0; *got < bytes;) {
        const uint64_t left = bytes - *got;
        const ssize_t more = read(fd, (char *)to + *got, left < READ_AT_ONCE ? left : READ_AT_ONCE);
        if (more < 0 && errno == EINTR) continue;
        CHECK_IN(name, more >= 0, FKDA_ERR_IO, "cannot be read: %s", strerror(errno));
        if (more == 0) break;
        *got += (uint64_t)more;
    }
    return FKDA_OK;
}

static fkda_status take_header(int fd, safetensors_file *file)
{
    unsigned char prefix[SAFETENSORS_PREFIX_BYTES];
    uint64_t got, length;
    TRY(take(file->path, fd, prefix, sizeof prefix, &got));
    TRY(safetensors_check_prefix(file, prefix, got < sizeof prefix ? got : SAFETENSORS_ANY_BYTES, &length));
    char *const text = malloc(length);
    CHECK_IN(file->path, text != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a header of %" PRIu64 " bytes", length);
    fkda_status status = take(file->path, fd, text, length, &got);
    if (status == FKDA_OK && got < length)
        status = failure_in(file->path, FKDA_ERR_FORMAT, "the header length is %" PRIu64 " bytes, but only %" PRIu64 " bytes follow it", length, got);
    if (status == FKDA_OK) status = safetensors_parse_header(file, text, length, SAFETENSORS_ANY_BYTES);
    free(text);
    return status;
}

static fkda_status take_data(int fd, safetensors_file *file)
{
    char behind;
    uint64_t got;
    const fkda_status status = memory_alloc(FKDA_MEMORY_HOST, file->data_bytes, &file->stream);
    if (status != FKDA_OK) return failure_about(status, file->path);
    TRY(take(file->path, fd, file->stream.data, file->data_bytes, &got));
    CHECK_IN(file->path, got == file->data_bytes, FKDA_ERR_FORMAT,
             "the tensors take %" PRIu64 " bytes of data, but it ends after %" PRIu64 ": truncated, or not written to the end", file->data_bytes, got);
    TRY(take(file->path, fd, &behind, 1, &got));
    CHECK_IN(file->path, got == 0, FKDA_ERR_FORMAT, "the data has a hole: what follows the last tensor belongs to none");
    return FKDA_OK;
}

fkda_status safetensors_open_stream(int fd, const char *name, safetensors_file *file)
{
    *file = (safetensors_file){.path = strdup(name), .fd = -1};
    CHECK(file->path != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a file name");
    fkda_status status = isatty(fd) ? failure_in(name, FKDA_ERR_IO, "is a terminal, but a safetensors file is needed: redirect it, or name a file")
                                    : take_header(fd, file);
    if (status == FKDA_OK) status = take_data(fd, file);
    if (status != FKDA_OK) safetensors_close(file);
    return status;
}

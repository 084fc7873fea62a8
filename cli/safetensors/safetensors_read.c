/* Opening a file and reading tensors out of it. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "safetensors.h"

enum { PREFIX_BYTES = SAFETENSORS_PREFIX_BYTES, READ_AT_ONCE = 1 << 30 };    /* Linux reads at most 2 GiB in one call */

static fkda_status read_at(const safetensors_file *file, uint64_t at, void *to, uint64_t bytes)
{
    char *next = to;
    while (bytes > 0) {
        const ssize_t got = pread(file->fd, next, bytes < READ_AT_ONCE ? bytes : READ_AT_ONCE, (off_t)at);
        if (got < 0 && errno == EINTR) continue;
        CHECK_IN(file->path, got >= 0, FKDA_ERR_IO, "cannot be read: %s", strerror(errno));
        CHECK_IN(file->path, got > 0, FKDA_ERR_IO, "became shorter while it was read");
        next += got;
        at += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return FKDA_OK;
}

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : S_ISCHR(mode) ? "a character device" : S_ISBLK(mode) ? "a block device" : "not a file";
}

/* O_NONBLOCK: opening a FIFO that nobody writes to must not hang. */
static fkda_status open_regular(safetensors_file *file, uint64_t *file_bytes)
{
    file->fd = open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    CHECK_IN(file->path, file->fd >= 0, FKDA_ERR_IO, "cannot be opened: %s", strerror(errno));
    struct stat info;
    CHECK_IN(file->path, fstat(file->fd, &info) == 0, FKDA_ERR_IO, "cannot be examined: %s", strerror(errno));
    CHECK_IN(file->path, S_ISREG(info.st_mode), FKDA_ERR_IO, "is %s, but a regular file is needed, or - for standard input", kind_of(info.st_mode));
    *file_bytes = (uint64_t)info.st_size;
    return FKDA_OK;
}

fkda_status safetensors_check_prefix(const safetensors_file *file, const unsigned char *prefix, uint64_t file_bytes, uint64_t *length)
{
    CHECK_IN(file->path, file_bytes > 0, FKDA_ERR_FORMAT, "the file is empty");
    CHECK_IN(file->path, file_bytes >= PREFIX_BYTES, FKDA_ERR_FORMAT, "the file has %" PRIu64 " bytes, but the header length alone takes %d", file_bytes,
             PREFIX_BYTES);
    *length = 0;
    for (int i = PREFIX_BYTES - 1; i >= 0; --i) *length = *length << 8 | prefix[i];
    CHECK_IN(file->path, *length > 0, FKDA_ERR_FORMAT, "the header length is 0");
    CHECK_IN(file->path, *length <= SAFETENSORS_MAX_HEADER_BYTES, FKDA_ERR_LIMIT,
             "the header length is %" PRIu64 " bytes, the limit is %d: perhaps this is not a safetensors file", *length, SAFETENSORS_MAX_HEADER_BYTES);
    CHECK_IN(file->path, *length <= file_bytes - PREFIX_BYTES, FKDA_ERR_FORMAT,
             "the header length is %" PRIu64 " bytes, but only %" PRIu64 " bytes follow it", *length, file_bytes - PREFIX_BYTES);
    return FKDA_OK;
}

static fkda_status read_header(safetensors_file *file)
{
    uint64_t file_bytes = 0, length = 0;
    unsigned char prefix[PREFIX_BYTES];
    TRY(open_regular(file, &file_bytes));
    if (file_bytes >= PREFIX_BYTES) TRY(read_at(file, 0, prefix, PREFIX_BYTES));
    TRY(safetensors_check_prefix(file, prefix, file_bytes, &length));
    file->data_start = PREFIX_BYTES + length;
    char *const text = malloc(length);
    CHECK_IN(file->path, text != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a header of %" PRIu64 " bytes", length);
    fkda_status status = read_at(file, PREFIX_BYTES, text, length);
    if (status == FKDA_OK) status = safetensors_parse_header(file, text, length, file_bytes - file->data_start);
    free(text);
    return status;
}

fkda_status safetensors_open(const char *path, safetensors_file *file)
{
    *file = (safetensors_file){.path = strdup(path), .fd = -1};
    CHECK(file->path != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a file name");
    const fkda_status status = read_header(file);
    if (status != FKDA_OK) safetensors_close(file);
    return status;
}

void safetensors_close(safetensors_file *file)
{
    if (file->fd >= 0) close(file->fd);
    memory_free(&file->stream);
    cJSON_Delete(file->header);
    free(file->tensors);
    free(file->path);
    *file = (safetensors_file){.fd = -1};
}

const safetensors_tensor *safetensors_find(const safetensors_file *file, const char *name)
{
    for (size_t i = 0; i < file->count; ++i)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

const char *safetensors_metadata(const safetensors_file *file, const char *key)
{
    const cJSON *const item = cJSON_GetObjectItemCaseSensitive(file->metadata, key);
    return item == NULL ? NULL : item->valuestring;
}

fkda_status safetensors_read(const safetensors_file *file, const safetensors_tensor *tensor, void *to)
{
    const uint64_t bytes = tensor->end - tensor->begin;
    if (file->fd >= 0) return read_at(file, file->data_start + tensor->begin, to, bytes);
    if (bytes > 0) memcpy(to, (const char *)file->stream.data + tensor->begin, bytes);
    return FKDA_OK;
}

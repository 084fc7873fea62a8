/* Writing a file: all of it or nothing. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "failure.h"
#include "safetensors.h"

/* ---------------------------------------------------------------- may we? */

static int is_same_file(const struct stat *info, const char *input_path)
{
    struct stat input;
    return input_path != NULL && stat(input_path, &input) == 0 && info->st_dev == input.st_dev && info->st_ino == input.st_ino;
}

fkda_status safetensors_check_stream(int fd, const char *name, const char *input_path, safetensors_existing existing)
{
    struct stat info;
    CHECK_IN(name, fstat(fd, &info) == 0, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    CHECK_IN(name, !S_ISREG(info.st_mode) || !is_same_file(&info, input_path), FKDA_ERR_IO, "the output is the same file as the input");
    CHECK_IN(name, !isatty(fd) || existing == SAFETENSORS_REPLACE_EXISTING, FKDA_ERR_IO,
             "is a terminal, and the output is binary: redirect it, or name a file; --force writes it all the same");
    return FKDA_OK;
}

fkda_status safetensors_check_output(const char *path, const char *input_path, safetensors_existing existing)
{
    struct stat info;
    if (stat(path, &info) != 0) {
        CHECK_IN(path, errno == ENOENT, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
        const char *const slash = strrchr(path, '/');
        char *const folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
        CHECK(folder != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a file name");
        const int reason = access(folder, W_OK | X_OK) == 0 ? 0 : errno;
        free(folder);
        CHECK_IN(path, reason == 0, FKDA_ERR_IO, "cannot be written: its folder: %s", strerror(reason));
        CHECK_IN(path, *path != 0 && (slash == NULL || slash[1] != 0), FKDA_ERR_IO, "cannot be written: that names no file");
        return FKDA_OK;
    }
    CHECK_IN(path, !is_same_file(&info, input_path), FKDA_ERR_IO, "the output is the same file as the input");
    CHECK_IN(path, S_ISREG(info.st_mode), FKDA_ERR_IO, "exists and is not a regular file: it will not be replaced; -o - writes to standard output");
    CHECK_IN(path, existing == SAFETENSORS_REPLACE_EXISTING, FKDA_ERR_IO, "exists already; --force replaces it");
    return FKDA_OK;
}

/* ---------------------------------------------------------------- the temporary file */

/* Its name while it exists, for the signal handler: whoever presses Ctrl-C finds no rest of a file. */
static char *volatile temporary_name;

static void remove_temporary(int number)
{
    if (temporary_name != NULL) unlink(temporary_name);
    signal(number, SIG_DFL);
    raise(number);
}

static const int fatal_signals[] = {SIGINT, SIGTERM, SIGHUP};
enum { FATAL_SIGNAL_COUNT = sizeof fatal_signals / sizeof *fatal_signals };
typedef struct handlers { struct sigaction before[FATAL_SIGNAL_COUNT], full_file; } handlers;

static void guard_temporary(handlers *saved)
{
    struct sigaction action = {.sa_handler = remove_temporary}, ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&action.sa_mask);
    sigemptyset(&ignore.sa_mask);
    for (int i = 0; i < FATAL_SIGNAL_COUNT; ++i) {
        sigaction(fatal_signals[i], NULL, &saved->before[i]);
        if (saved->before[i].sa_handler == SIG_DFL) sigaction(fatal_signals[i], &action, NULL);    /* nohup stays nohup */
    }
    sigaction(SIGXFSZ, &ignore, &saved->full_file);    /* a file-size limit is then an error of write() */
}

static void unguard_temporary(const handlers *saved)
{
    for (int i = 0; i < FATAL_SIGNAL_COUNT; ++i) sigaction(fatal_signals[i], &saved->before[i], NULL);
    sigaction(SIGXFSZ, &saved->full_file, NULL);
}

/* ---------------------------------------------------------------- the bytes */

static int64_t bytes_of(const safetensors_entry *e)
{
    int64_t bytes = safetensors_dtype_bytes(e->dtype);
    for (int i = 0; i < e->rank; ++i) bytes *= e->shape[i];
    return bytes;
}

/* cJSON prints large numbers with an exponent, so whole numbers are handed to it as text. */
static int add_whole(cJSON *list, int64_t value)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%" PRId64, value);
    return cJSON_AddItemToArray(list, cJSON_CreateRaw(digits));
}

static int add_entry(cJSON *header, const safetensors_entry *e, int64_t begin)
{
    cJSON *const item = cJSON_AddObjectToObject(header, e->name);
    if (item == NULL || cJSON_AddStringToObject(item, "dtype", safetensors_dtype_name(e->dtype)) == NULL) return 0;
    cJSON *const shape = cJSON_AddArrayToObject(item, "shape"), *const offsets = cJSON_AddArrayToObject(item, "data_offsets");
    int ok = shape != NULL && offsets != NULL;
    for (int i = 0; ok && i < e->rank; ++i) ok = add_whole(shape, e->shape[i]);
    return ok && add_whole(offsets, begin) && add_whole(offsets, begin + bytes_of(e));
}

/* The header as text; NULL if memory is out. */
static char *print_header(const safetensors_content *content)
{
    cJSON *const header = cJSON_CreateObject();
    cJSON *const metadata = cJSON_AddObjectToObject(header, "__metadata__");
    int ok = metadata != NULL;
    int64_t begin = 0;
    for (size_t i = 0; ok && i < content->pair_count; ++i)
        ok = cJSON_AddStringToObject(metadata, content->metadata[i].key, content->metadata[i].value) != NULL;
    for (size_t i = 0; ok && i < content->entry_count; ++i) {
        ok = add_entry(header, &content->entries[i], begin);
        begin += bytes_of(&content->entries[i]);
    }
    char *const text = ok ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    return text;
}

static fkda_status write_all(const char *path, int fd, const void *from, size_t bytes)
{
    const char *next = from;
    while (bytes > 0) {
        const ssize_t put = write(fd, next, bytes < (1u << 30) ? bytes : 1u << 30);
        if (put < 0 && errno == EINTR) continue;
        CHECK_IN(path, put > 0, FKDA_ERR_IO, "cannot be written: %s", put < 0 ? strerror(errno) : "no progress");
        next += put;
        bytes -= (size_t)put;
    }
    return FKDA_OK;
}

static fkda_status write_content(const char *path, int fd, const char *header, const safetensors_content *content)
{
    const size_t text_bytes = strlen(header), padding = (8 - text_bytes % 8) % 8;    /* the data part begins at a multiple of 8 */
    unsigned char prefix[8];
    for (int i = 0; i < 8; ++i) prefix[i] = (unsigned char)((uint64_t)(text_bytes + padding) >> 8 * i);
    TRY(write_all(path, fd, prefix, sizeof prefix));
    TRY(write_all(path, fd, header, text_bytes));
    TRY(write_all(path, fd, "        ", padding));
    for (size_t i = 0; i < content->entry_count; ++i)
        TRY(write_all(path, fd, content->entries[i].data, (size_t)bytes_of(&content->entries[i])));
    return FKDA_OK;
}

fkda_status safetensors_write_stream(int fd, const char *name, const safetensors_content *content)
{
    char *const header = print_header(content);
    CHECK_IN(name, header != NULL, FKDA_ERR_NO_MEMORY, "out of memory for the header");
    const fkda_status status = write_content(name, fd, header, content);
    cJSON_free(header);
    return status;
}

/* Without --force a file that appeared meanwhile is not replaced either, where the file system knows that question. */
static fkda_status move_into_place(const char *temporary, const char *path, safetensors_existing existing)
{
    if (existing == SAFETENSORS_KEEP_EXISTING) {
        if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0) return FKDA_OK;
        CHECK_IN(path, errno != EEXIST, FKDA_ERR_IO, "exists already; --force replaces it");
        CHECK_IN(path, errno == EINVAL || errno == ENOSYS, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    }
    CHECK_IN(path, rename(temporary, path) == 0, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    return FKDA_OK;
}

static fkda_status write_temporary(const char *path, safetensors_existing existing, const safetensors_content *content, const char *header)
{
    const int fd = mkstemp(temporary_name);
    CHECK_IN(path, fd >= 0, FKDA_ERR_IO, "cannot be written: a temporary file beside it: %s", strerror(errno));
    const mode_t mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);    /* mkstemp makes files that only their owner may read */
    fkda_status status = write_content(path, fd, header, content);
    if (status == FKDA_OK && fsync(fd) != 0) status = failure_in(path, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    if (close(fd) != 0 && status == FKDA_OK) status = failure_in(path, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    if (status == FKDA_OK) status = move_into_place(temporary_name, path, existing);
    if (status != FKDA_OK) unlink(temporary_name);
    return status;
}

fkda_status safetensors_write(const char *path, safetensors_existing existing, const safetensors_content *content)
{
    const size_t bytes = strlen(path) + sizeof ".XXXXXX";
    char *const name = malloc(bytes), *const header = print_header(content);
    fkda_status status = FKDA_OK;
    if (name == NULL || header == NULL) {
        status = failure_in(path, FKDA_ERR_NO_MEMORY, "out of memory for the header");
    } else {
        snprintf(name, bytes, "%s.XXXXXX", path);
        handlers saved;
        temporary_name = name;
        guard_temporary(&saved);
        status = write_temporary(path, existing, content, header);
        unguard_temporary(&saved);
        temporary_name = NULL;
    }
    free(name);
    cJSON_free(header);
    return status;
}

/*
 * safetensors files: 8 bytes header length (little endian), a JSON header, the bytes of the tensors.
 * Format: https://huggingface.co/docs/safetensors, "Format"; this reader refuses whatever that page does not allow, each breach with a
 * sentence of its own (FKDA_ERR_FORMAT), what it does not allow itself (FKDA_ERR_LIMIT), and what the system refuses (FKDA_ERR_IO).
 *
 *     [u64 h][h bytes: {"q":{"dtype":"BF16","shape":[1,8,2,64],"data_offsets":[0,2048]}, ..., "__metadata__":{"scale":"0.125"}}][data]
 *
 * The file is read piece by piece, never mapped: a file that shrinks while it is read is a sentence, not a SIGBUS. A stream is read once,
 * from front to end, and its data kept in memory.
 */
#ifndef CLI_SAFETENSORS_H
#define CLI_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "memory.h"

enum {
    SAFETENSORS_MAX_RANK = 8,
    SAFETENSORS_MAX_HEADER_BYTES = 100000000,    /* the limit of the format's own library */
    SAFETENSORS_MAX_DEPTH = 8,                   /* of the header's brackets; the format needs 3 */
    SAFETENSORS_MAX_VALUES = 4000000             /* JSON values in a header: bounds the memory that parsing takes */
};

typedef struct safetensors_tensor {
    const char *name;
    const char *dtype_name;                  /* "BF16" */
    fkda_dtype dtype;                        /* FKDA_NONE: a dtype of the format that flashkda has no word for */
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    uint64_t begin, end;                     /* bytes of the data part */
} safetensors_tensor;

struct cJSON;
typedef struct safetensors_file {
    char *path;
    int fd;
    memory_block stream;                     /* fd -1: all of the data part */
    uint64_t data_start, data_bytes;         /* where the data part begins in the file, and what the tensors of the header take of it */
    safetensors_tensor *tensors;             /* in the order of their bytes */
    size_t count;
    struct cJSON *header;                    /* owns the names */
    const struct cJSON *metadata;            /* NULL: none */
} safetensors_file;

/* ---------------------------------------------------------------- reading */

/* Opens the file and checks all of its header. On failure *file holds nothing. */
fkda_status safetensors_open(const char *path, safetensors_file *file);
void safetensors_close(safetensors_file *file);

/* The same from a pipe, a terminal or an open file, from where it stands to its end; `name` is what sentences call it. */
fkda_status safetensors_open_stream(int fd, const char *name, safetensors_file *file);

const safetensors_tensor *safetensors_find(const safetensors_file *file, const char *name);    /* NULL: not there */
const char *safetensors_metadata(const safetensors_file *file, const char *key);               /* NULL: not there */
fkda_status safetensors_read(const safetensors_file *file, const safetensors_tensor *tensor, void *to);

/* The header length out of the first 8 bytes of a file, or a refusal: where there are fewer, or fewer behind them than it says. */
enum { SAFETENSORS_PREFIX_BYTES = 8 };
fkda_status safetensors_check_prefix(const safetensors_file *file, const unsigned char *prefix, uint64_t file_bytes, uint64_t *length);

/* The header of file->path alone, text[0..bytes), in front of data_bytes of data: fills in tensors, header, metadata, data_bytes.
 * SAFETENSORS_ANY_BYTES: how much data there is, the header says. */
#define SAFETENSORS_ANY_BYTES UINT64_MAX
fkda_status safetensors_parse_header(safetensors_file *file, const char *text, size_t bytes, uint64_t data_bytes);

/* Is the header text what cJSON may be given: UTF-8, no control characters, no \u0000, bounded depth and number of values? */
fkda_status safetensors_check_text(const char *path, const char *text, size_t bytes);

/* ---------------------------------------------------------------- writing */

typedef struct safetensors_entry {
    const char *name;
    fkda_dtype dtype;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    const void *data;                        /* in host memory */
} safetensors_entry;

typedef struct safetensors_pair { const char *key, *value; } safetensors_pair;

typedef struct safetensors_content {
    const safetensors_entry *entries;        /* wide dtypes first keeps every tensor aligned in the file */
    size_t entry_count;
    const safetensors_pair *metadata;
    size_t pair_count;
} safetensors_content;

typedef enum safetensors_existing { SAFETENSORS_KEEP_EXISTING, SAFETENSORS_REPLACE_EXISTING } safetensors_existing;

/* Would writing to `path` be refused? Asked before the work, so that nobody computes for an hour in vain. input_path may be NULL. */
fkda_status safetensors_check_output(const char *path, const char *input_path, safetensors_existing existing);

/* The same for a stream: a terminal needs SAFETENSORS_REPLACE_EXISTING. */
fkda_status safetensors_check_stream(int fd, const char *name, const char *input_path, safetensors_existing existing);
fkda_status safetensors_write_stream(int fd, const char *name, const safetensors_content *content);

/* Writes a temporary file beside `path` and renames it: at every moment `path` holds the old content, the new one, or nothing. */
fkda_status safetensors_write(const char *path, safetensors_existing existing, const safetensors_content *content);

/* ---------------------------------------------------------------- dtypes */

const char *safetensors_dtype_name(fkda_dtype dtype);    /* "BF16" */
int64_t safetensors_dtype_bytes(fkda_dtype dtype);

#endif

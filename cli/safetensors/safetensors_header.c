/* From header text to checked tensors. Rules: unique names, whole numbers, shape x dtype = bytes, no overlap, no hole, nothing beyond. */
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "safetensors.h"

/* Every dtype of the format; those without an fkda_dtype may be in a file, but not in a tensor that flashkda reads. */
static const struct dtype_word {
    const char *name;
    int bytes;
    fkda_dtype dtype;
} dtype_words[] = {
    {"BF16", 2, FKDA_BF16}, {"F32", 4, FKDA_F32}, {"F16", 2, FKDA_F16}, {"I32", 4, FKDA_I32}, {"I64", 8, FKDA_I64},
    {"F64", 8, FKDA_NONE},  {"I16", 2, FKDA_NONE}, {"I8", 1, FKDA_NONE}, {"U8", 1, FKDA_NONE}, {"U16", 2, FKDA_NONE},
    {"U32", 4, FKDA_NONE},  {"U64", 8, FKDA_NONE}, {"BOOL", 1, FKDA_NONE}, {"F8_E4M3", 1, FKDA_NONE}, {"F8_E5M2", 1, FKDA_NONE},
};
enum { DTYPE_WORD_COUNT = sizeof dtype_words / sizeof *dtype_words };

static const struct dtype_word *word_of(fkda_dtype dtype)
{
    for (int i = 0; i < DTYPE_WORD_COUNT; ++i)
        if (dtype_words[i].dtype == dtype && dtype != FKDA_NONE) return &dtype_words[i];
    return NULL;
}

const char *safetensors_dtype_name(fkda_dtype dtype) { return word_of(dtype) == NULL ? "none" : word_of(dtype)->name; }
int64_t safetensors_dtype_bytes(fkda_dtype dtype) { return word_of(dtype) == NULL ? 0 : word_of(dtype)->bytes; }

/* cJSON keeps numbers as doubles: above 2^53 it would lose bits, so those are refused. */
static fkda_status read_whole(const char *path, const char *tensor, const char *field, const cJSON *item, uint64_t *value)
{
    CHECK_IN(path, cJSON_IsNumber(item), FKDA_ERR_FORMAT, "tensor '%.64s': %s holds something that is not a number", tensor, field);
    const double number = item->valuedouble;
    CHECK_IN(path, number >= 0, FKDA_ERR_FORMAT, "tensor '%.64s': %s holds %.17g, but it must not be negative", tensor, field, number);
    CHECK_IN(path, number <= 9007199254740992.0, FKDA_ERR_FORMAT, "tensor '%.64s': %s holds %.17g, which is above 2^53", tensor, field, number);
    CHECK_IN(path, number == (double)(uint64_t)number, FKDA_ERR_FORMAT, "tensor '%.64s': %s holds %.17g, which is not a whole number", tensor,
             field, number);
    *value = (uint64_t)number;
    return FKDA_OK;
}

static fkda_status read_dtype(const char *path, const cJSON *item, safetensors_tensor *t, uint64_t *element_bytes)
{
    CHECK_IN(path, cJSON_IsString(item), FKDA_ERR_FORMAT, "tensor '%.64s': dtype is not a string", t->name);
    for (int i = 0; i < DTYPE_WORD_COUNT; ++i) {
        if (strcmp(item->valuestring, dtype_words[i].name) != 0) continue;
        t->dtype_name = dtype_words[i].name;
        t->dtype = dtype_words[i].dtype;
        *element_bytes = (uint64_t)dtype_words[i].bytes;
        return FKDA_OK;
    }
    return failure_in(path, FKDA_ERR_FORMAT, "tensor '%.64s': dtype '%.32s' is unknown", t->name, item->valuestring);
}

static fkda_status read_shape(const char *path, const cJSON *item, safetensors_tensor *t, uint64_t element_bytes, uint64_t *bytes)
{
    CHECK_IN(path, cJSON_IsArray(item), FKDA_ERR_FORMAT, "tensor '%.64s': shape is not a list", t->name);
    uint64_t product = element_bytes;
    int overflows = 0, is_empty = 0;
    for (const cJSON *extent = item->child; extent != NULL; extent = extent->next) {
        uint64_t value = 0;
        CHECK_IN(path, t->rank < SAFETENSORS_MAX_RANK, FKDA_ERR_LIMIT, "tensor '%.64s': shape has more than %d dimensions", t->name,
                 SAFETENSORS_MAX_RANK);
        TRY(read_whole(path, t->name, "shape", extent, &value));
        t->shape[t->rank++] = (int64_t)value;
        if (value == 0) is_empty = 1;
        else if (product > UINT64_MAX / value) overflows = 1;
        else product *= value;
    }
    CHECK_IN(path, !overflows || is_empty, FKDA_ERR_FORMAT, "tensor '%.64s': shape x dtype is more than 2^64 bytes", t->name);
    *bytes = is_empty ? 0 : product;
    return FKDA_OK;
}

static fkda_status read_offsets(const char *path, const cJSON *item, safetensors_tensor *t, uint64_t bytes, uint64_t data_bytes)
{
    CHECK_IN(path, cJSON_IsArray(item) && cJSON_GetArraySize(item) == 2, FKDA_ERR_FORMAT, "tensor '%.64s': data_offsets is not a list of two",
             t->name);
    TRY(read_whole(path, t->name, "data_offsets", item->child, &t->begin));
    TRY(read_whole(path, t->name, "data_offsets", item->child->next, &t->end));
    CHECK_IN(path, t->begin <= t->end, FKDA_ERR_FORMAT, "tensor '%.64s': data_offsets are reversed: [%" PRIu64 ", %" PRIu64 "]", t->name, t->begin,
             t->end);
    CHECK_IN(path, t->end <= data_bytes, FKDA_ERR_FORMAT,
             "tensor '%.64s' ends at byte %" PRIu64 " of the data, but the file holds %" PRIu64 " bytes of data: truncated, or not written to the end",
             t->name, t->end, data_bytes);
    CHECK_IN(path, t->end - t->begin == bytes, FKDA_ERR_FORMAT,
             "tensor '%.64s': shape x dtype is %" PRIu64 " bytes, but data_offsets span %" PRIu64, t->name, bytes, t->end - t->begin);
    return FKDA_OK;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...}, each once, nothing else. */
static fkda_status read_tensor(const char *path, const cJSON *item, uint64_t data_bytes, safetensors_tensor *t)
{
    static const char *const fields[3] = {"dtype", "shape", "data_offsets"};
    const cJSON *found[3] = {NULL, NULL, NULL};
    *t = (safetensors_tensor){.name = item->string};
    CHECK_IN(path, cJSON_IsObject(item), FKDA_ERR_FORMAT, "tensor '%.64s' is not described by an object", t->name);
    for (const cJSON *field = item->child; field != NULL; field = field->next) {
        int i = 0;
        while (i < 3 && strcmp(field->string, fields[i]) != 0) ++i;
        CHECK_IN(path, i < 3, FKDA_ERR_FORMAT, "tensor '%.64s': unknown key '%.64s'", t->name, field->string);
        CHECK_IN(path, found[i] == NULL, FKDA_ERR_FORMAT, "tensor '%.64s': duplicate key '%s'", t->name, fields[i]);
        found[i] = field;
    }
    for (int i = 0; i < 3; ++i)
        CHECK_IN(path, found[i] != NULL, FKDA_ERR_FORMAT, "tensor '%.64s': %s is missing", t->name, fields[i]);
    uint64_t element_bytes = 0, bytes = 0;
    TRY(read_dtype(path, found[0], t, &element_bytes));
    TRY(read_shape(path, found[1], t, element_bytes, &bytes));
    return read_offsets(path, found[2], t, bytes, data_bytes);
}

static int by_string(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int by_bytes(const void *a, const void *b)
{
    const safetensors_tensor *const s = a, *const t = b;
    if (s->begin != t->begin) return s->begin < t->begin ? -1 : 1;
    return s->end < t->end ? -1 : s->end > t->end;
}

/* cJSON takes an object with the same key twice; here it is an error. Sorted, so that a large header costs no square. */
static fkda_status check_unique_keys(const char *path, const cJSON *object, const char *what)
{
    const size_t count = (size_t)cJSON_GetArraySize(object);
    if (count < 2) return FKDA_OK;
    const char **const keys = calloc(count, sizeof *keys);
    CHECK_IN(path, keys != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %zu keys", count);
    size_t n = 0;
    for (const cJSON *item = object->child; item != NULL && n < count; item = item->next) keys[n++] = item->string;
    qsort(keys, n, sizeof *keys, by_string);
    const char *twice = NULL;
    for (size_t i = 1; i < n && twice == NULL; ++i)
        if (strcmp(keys[i - 1], keys[i]) == 0) twice = keys[i];
    const fkda_status status = twice == NULL ? FKDA_OK : failure_in(path, FKDA_ERR_FORMAT, "%s: duplicate key '%.64s'", what, twice);
    free(keys);
    return status;
}

static fkda_status check_metadata(const safetensors_file *file)
{
    if (file->metadata == NULL) return FKDA_OK;
    CHECK_IN(file->path, cJSON_IsObject(file->metadata), FKDA_ERR_FORMAT, "__metadata__ is not an object");
    for (const cJSON *item = file->metadata->child; item != NULL; item = item->next)
        CHECK_IN(file->path, cJSON_IsString(item), FKDA_ERR_FORMAT, "__metadata__: '%.64s' is not a string", item->string);
    return check_unique_keys(file->path, file->metadata, "__metadata__");
}

/* The tensors, in the order of their bytes, cover the data exactly. */
static fkda_status check_layout(safetensors_file *file, uint64_t data_bytes)
{
    uint64_t covered = 0;
    for (size_t i = 0; i < file->count; ++i) {
        const safetensors_tensor *const t = &file->tensors[i];
        CHECK_IN(file->path, t->begin >= covered, FKDA_ERR_FORMAT,
                 "tensor '%.64s' begins at byte %" PRIu64 " and overlaps tensor '%.64s', which ends at %" PRIu64, t->name, t->begin,
                 file->tensors[i - 1].name, covered);
        CHECK_IN(file->path, t->begin == covered, FKDA_ERR_FORMAT,
                 "the data has a hole: bytes %" PRIu64 " to %" PRIu64 " before tensor '%.64s' belong to nothing", covered, t->begin, t->name);
        covered = t->end;
    }
    CHECK_IN(file->path, covered == data_bytes || data_bytes == SAFETENSORS_ANY_BYTES, FKDA_ERR_FORMAT,
             "the data has a hole: the last %" PRIu64 " bytes of the file belong to no tensor", data_bytes - covered);
    file->data_bytes = covered;
    return FKDA_OK;
}

static fkda_status read_tensors(safetensors_file *file, uint64_t data_bytes)
{
    TRY(check_unique_keys(file->path, file->header, "the header"));
    file->tensors = calloc((size_t)cJSON_GetArraySize(file->header) + 1, sizeof *file->tensors);
    CHECK_IN(file->path, file->tensors != NULL, FKDA_ERR_NO_MEMORY, "out of memory for the list of tensors");
    for (const cJSON *item = file->header->child; item != NULL; item = item->next) {
        if (strcmp(item->string, "__metadata__") == 0) file->metadata = item;
        else TRY(read_tensor(file->path, item, data_bytes, &file->tensors[file->count++]));
    }
    TRY(check_metadata(file));
    qsort(file->tensors, file->count, sizeof *file->tensors, by_bytes);
    return check_layout(file, data_bytes);
}

fkda_status safetensors_parse_header(safetensors_file *file, const char *text, size_t bytes, uint64_t data_bytes)
{
    TRY(safetensors_check_text(file->path, text, bytes));
    const char *end = text;
    file->header = cJSON_ParseWithLengthOpts(text, bytes, &end, 0);
    CHECK_IN(file->path, file->header != NULL && cJSON_IsObject(file->header), FKDA_ERR_FORMAT, "the header is not JSON, at or after byte %td of it",
             end - text);
    for (; end < text + bytes; ++end)    /* cJSON stops behind the object; the format pads with spaces */
        CHECK_IN(file->path, *end == ' ', FKDA_ERR_FORMAT, "the header has something behind its JSON object, at byte %td of it", end - text);
    return read_tensors(file, data_bytes);
}

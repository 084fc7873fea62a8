/*
 * What is checked of a header before cJSON sees it, because cJSON does not: it takes any byte in a string, ends a string at an embedded
 * zero, and makes one allocation for each value.
 */
#include <string.h>

#include "failure.h"
#include "safetensors.h"
#include "text.h"

/* Where the scan is: position, open brackets, values so far, inside a string or not. */
typedef struct scan {
    const char *path, *text;
    size_t bytes, at;
    int depth;
    int64_t values;
} scan;

static fkda_status check_character(const scan *s, size_t *length)
{
    *length = text_utf8_length(s->text + s->at, s->bytes - s->at);
    CHECK_IN(s->path, *length > 0, FKDA_ERR_FORMAT, "the header is not UTF-8: byte %zu of it is 0x%02x", s->at,
             (unsigned)(unsigned char)s->text[s->at]);
    return FKDA_OK;
}

/* From behind the opening quote to behind the closing one. */
static fkda_status scan_string(scan *s)
{
    while (s->at < s->bytes) {
        const char c = s->text[s->at];
        size_t length;
        TRY(check_character(s, &length));
        CHECK_IN(s->path, (unsigned char)c >= 0x20, FKDA_ERR_FORMAT, "the header is not JSON: control character 0x%02x in a string, at byte %zu",
                 (unsigned)(unsigned char)c, s->at);
        if (c == '\\') {
            const size_t left = s->bytes - s->at;
            CHECK_IN(s->path, left < 6 || memcmp(s->text + s->at, "\\u0000", 6) != 0, FKDA_ERR_FORMAT,
                     "the header has a string with a zero character (\\u0000), at byte %zu", s->at);
            length = left < 2 ? left : 2;    /* the character behind a backslash ends nothing; what it is, cJSON checks */
            if (length == 2 && (unsigned char)s->text[s->at + 1] >= 0x80) length = 1;
        }
        s->at += length;
        if (c == '"') return FKDA_OK;
    }
    return failure_in(s->path, FKDA_ERR_FORMAT, "the header is not JSON: a string does not end");
}

static fkda_status scan_structure(scan *s)
{
    const char c = s->text[s->at];
    size_t length;
    TRY(check_character(s, &length));
    const int is_space = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    CHECK_IN(s->path, (unsigned char)c >= 0x20 || is_space, FKDA_ERR_FORMAT, "the header is not JSON: byte %zu of it is 0x%02x", s->at,
             (unsigned)(unsigned char)c);
    s->at += length;
    if (c == '{' || c == '[') {
        ++s->depth;
        CHECK_IN(s->path, s->depth <= SAFETENSORS_MAX_DEPTH, FKDA_ERR_FORMAT, "the header nests deeper than %d brackets, at byte %zu",
                 SAFETENSORS_MAX_DEPTH, s->at - 1);
    }
    if (c == '}' || c == ']') --s->depth;
    if (c == '{' || c == '[' || c == ',') ++s->values;
    CHECK_IN(s->path, s->values <= SAFETENSORS_MAX_VALUES, FKDA_ERR_LIMIT, "the header holds more than %d values", SAFETENSORS_MAX_VALUES);
    return c == '"' ? scan_string(s) : FKDA_OK;
}

fkda_status safetensors_check_text(const char *path, const char *text, size_t bytes)
{
    CHECK_IN(path, bytes > 0 && text[0] == '{', FKDA_ERR_FORMAT, "the header is not JSON: it does not begin with '{'");
    scan s = {.path = path, .text = text, .bytes = bytes};
    while (s.at < s.bytes) TRY(scan_structure(&s));
    return FKDA_OK;
}

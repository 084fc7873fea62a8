/* The last sentence, and what each status means for the exit code. */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

enum { SENTENCE_BYTES = 6144 };    /* a path of PATH_MAX bytes and a sentence behind it */
static char sentence[SENTENCE_BYTES];

fkda_status failure(fkda_status status, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(sentence, sizeof sentence, format, values);
    va_end(values);
    return status;
}

fkda_status failure_in(const char *path, fkda_status status, const char *format, ...)
{
    const int used = snprintf(sentence, sizeof sentence, "%s: ", path);
    const size_t start = used < 0 ? 0 : (size_t)used < sizeof sentence ? (size_t)used : sizeof sentence - 1;
    va_list values;
    va_start(values, format);
    vsnprintf(sentence + start, sizeof sentence - start, format, values);
    va_end(values);
    return status;
}

fkda_status failure_of_library(fkda_status status, const char *path)
{
    return path == NULL ? failure(status, "%s", fkda_last_error()) : failure_in(path, status, "%s", fkda_last_error());
}

fkda_status failure_about(fkda_status status, const char *what)
{
    char before[SENTENCE_BYTES];
    memcpy(before, sentence, sizeof before);
    return failure(status, "%s: %s", what, before);
}

const char *failure_sentence(void) { return sentence; }

static cli_exit exit_of(fkda_status status)
{
    switch (status) {
    case FKDA_OK:
        return CLI_OK;
    case FKDA_ERR_BAD_VALUE: case FKDA_ERR_SHAPE: case FKDA_ERR_DTYPE: case FKDA_ERR_OVERFLOW: case FKDA_ERR_CU_SEQLENS: case FKDA_ERR_ALIAS:
    case FKDA_ERR_IO: case FKDA_ERR_FORMAT: case FKDA_ERR_LIMIT:
        return CLI_FILE;
    case FKDA_ERR_UNSUPPORTED: case FKDA_ERR_NO_DEVICE: case FKDA_ERR_ARCH: case FKDA_ERR_DRIVER:
        return CLI_UNSUPPORTED;
    default:
        return CLI_INTERNAL;    /* out of memory, a device that failed, or an error that this program should not have been able to make */
    }
}

static void print_sentence(const char *command)
{
    char printable[4 * SENTENCE_BYTES];
    text_printable(sentence, printable, sizeof printable);
    fprintf(stderr, "flashkda%s%s: %s\n", *command ? " " : "", command, printable);
}

cli_exit failure_report(const char *command, fkda_status status)
{
    print_sentence(command);
    return exit_of(status);
}

cli_exit failure_report_usage(const char *command)
{
    print_sentence(command);
    fprintf(stderr, "Try 'flashkda%s%s --help'.\n", *command ? " " : "", command);
    return CLI_USAGE;
}

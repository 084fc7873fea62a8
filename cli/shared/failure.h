/*
 * How the command line fails: as the library does, with a status and one sentence that names argument, value and rule. The sentence
 * is kept until the command prints it; what comes from a file or from the shell is made printable there, in one place.
 */
#ifndef CLI_FAILURE_H
#define CLI_FAILURE_H

#include "flashkda.h"

/* The one list of exit codes: X(enumerator, code, text). */
#define CLI_EXIT_MAP(X)                                                                                            \
    X(CLI_OK,            0, "ok")                                                                                  \
    X(CLI_VERIFY_FAILED, 1, "verification failed: an error is outside its bar; doctor: something is wrong")        \
    X(CLI_USAGE,         2, "usage: a command typed wrongly, or a benchmark that this machine has no memory for")  \
    X(CLI_FILE,          3, "a file, or the data in it")                                                           \
    X(CLI_UNSUPPORTED,   4, "no device, or no backend that takes the problem")                                     \
    X(CLI_INTERNAL,      5, "out of memory, a device that failed, or a defect of flashkda")

typedef enum cli_exit {
#define CLI_EXIT_ENUM(name, code, text) name = code,
    CLI_EXIT_MAP(CLI_EXIT_ENUM)
#undef CLI_EXIT_ENUM
} cli_exit;

/* Keeps the sentence and returns `status`. */
__attribute__((format(printf, 2, 3))) fkda_status failure(fkda_status status, const char *format, ...);

/* The same with "path: " before the sentence. */
__attribute__((format(printf, 3, 4))) fkda_status failure_in(const char *path, fkda_status status, const char *format, ...);

/* Takes over the library's sentence, "path: " before it if path is not NULL. */
fkda_status failure_of_library(fkda_status status, const char *path);

/* Puts "what: " in front of the sentence that is kept; returns `status`. */
fkda_status failure_about(fkda_status status, const char *what);

const char *failure_sentence(void);

/* Prints "flashkda COMMAND: sentence" on stderr and returns the exit code of the status. */
cli_exit failure_report(const char *command, fkda_status status);

/* The same for a command that was typed wrongly: points to --help and returns CLI_USAGE. */
cli_exit failure_report_usage(const char *command);

/* Returns from the calling function unless `condition` holds. */
#define CHECK(condition, status, ...)                          \
    do {                                                       \
        if (!(condition)) return failure(status, __VA_ARGS__); \
    } while (0)

#define CHECK_IN(path, condition, status, ...)                          \
    do {                                                                \
        if (!(condition)) return failure_in(path, status, __VA_ARGS__); \
    } while (0)

/* Hands a failure on. */
#define TRY(call)                                     \
    do {                                              \
        const fkda_status try_status = (call);        \
        if (try_status != FKDA_OK) return try_status; \
    } while (0)

#endif

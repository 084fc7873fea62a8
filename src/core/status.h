/* How internal code fails: one call that keeps the sentence and returns the status. */
#ifndef FKDAI_STATUS_H
#define FKDAI_STATUS_H

#include "flashkda.h"

#define FKDAI_SENTENCE_BYTES 1024

/* Stores the sentence for fkda_last_error() and returns `status`. */
__attribute__((format(printf, 2, 3))) fkda_status fkdai_fail(fkda_status status, const char *format, ...);

/* Returns from the calling function unless `condition` holds. */
#define REQUIRE(condition, status, ...)                       \
    do {                                                      \
        if (!(condition)) return fkdai_fail(status, __VA_ARGS__); \
    } while (0)

/* Hands a failure on. */
#define TRY(call)                                   \
    do {                                            \
        const fkda_status try_status = (call);      \
        if (try_status != FKDA_OK) return try_status; \
    } while (0)

#endif

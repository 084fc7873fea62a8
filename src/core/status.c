/* Status names, texts, and the thread's last sentence. The list itself is FKDA_STATUS_MAP in flashkda.h. */
#include "status.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char last_sentence[FKDAI_SENTENCE_BYTES];

fkda_status fkdai_fail(fkda_status status, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(last_sentence, sizeof last_sentence, format, values);
    va_end(values);
    return status;
}

const char *fkda_last_error(void) { return last_sentence; }

const char *fkda_status_name(fkda_status status)
{
    switch (status) {
#define NAME(name, number, text) case name: return #name;
        FKDA_STATUS_MAP(NAME)
#undef NAME
    case FKDA_STATUS_MAX: break;
    }
    return "FKDA_ERR_?";
}

const char *fkda_status_text(fkda_status status)
{
    switch (status) {
#define TEXT(name, number, text) case name: return text;
        FKDA_STATUS_MAP(TEXT)
#undef TEXT
    case FKDA_STATUS_MAX: break;
    }
    return "not a status of this library";
}

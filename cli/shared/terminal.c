/* Notes, and the three ways in which a person or a terminal declines escape sequences. */
#include "terminal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

int terminal_is_quiet;

int terminal_takes_escapes(int fd)
{
    const char *const term = getenv("TERM"), *const no_color = getenv("NO_COLOR");
    return isatty(fd) && term != NULL && *term != 0 && strcmp(term, "dumb") != 0 && (no_color == NULL || *no_color == 0);
}

void terminal_note(const char *path, const char *format, ...)
{
    char printable[4 * 4096], text[4096];
    if (terminal_is_quiet) return;
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    if (terminal_takes_escapes(STDERR_FILENO)) fputs("\r\033[K", stderr);    /* there may be a progress bar */
    if (path != NULL) fprintf(stderr, "flashkda: %s: note: ", text_printable(path, printable, sizeof printable));
    else fputs("flashkda: note: ", stderr);
    fprintf(stderr, "%s\n", text_printable(text, printable, sizeof printable));
}

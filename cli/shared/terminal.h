/* What people see on standard error beside errors: notes; and where escape sequences may go. */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

extern int terminal_is_quiet;    /* --quiet: no notes, no progress */

/* A terminal that understands escape sequences, of somebody who wants them: TERM is set and not "dumb", NO_COLOR is unset or empty. */
int terminal_takes_escapes(int fd);

/* One line, "flashkda: path: note: ..."; path may be NULL. */
__attribute__((format(printf, 2, 3))) void terminal_note(const char *path, const char *format, ...);

#endif

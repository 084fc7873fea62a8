/* One line, redrawn. */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "terminal.h"

enum { BAR_WIDTH = 24 };

static int is_shown(void) { return !terminal_is_quiet && terminal_takes_escapes(STDERR_FILENO); }

progress progress_start(int total) { return (progress){.total = total > 0 ? total : 1}; }

void progress_step(progress *p, const char *what)
{
    static const char full[] = "########################", rest[] = "........................";
    _Static_assert(sizeof full == BAR_WIDTH + 1 && sizeof rest == BAR_WIDTH + 1, "the bar is as wide as its pictures");
    const int filled = p->done < p->total ? p->done * BAR_WIDTH / p->total : BAR_WIDTH;
    if (p->done < p->total) ++p->done;
    if (is_shown()) fprintf(stderr, "\r\033[K[%.*s%.*s] %d/%d %s", filled, full, BAR_WIDTH - filled, rest, p->done, p->total, what);
}

void progress_end(const progress *p)
{
    if (is_shown() && p->done > 0) fputs("\r\033[K", stderr);
}

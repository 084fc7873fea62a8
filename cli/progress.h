/* A progress bar on stderr: only when stderr is a terminal, gone without a trace when the work is done. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

typedef struct progress { int total, done; } progress;

progress progress_start(int total);                               /* steps */
void progress_step(progress *p, const char *what);    /* one step begins; what is a few words */
void progress_end(const progress *p);

#endif

/* A progress bar on stderr: only on a terminal that takes escape sequences, gone without a trace when the work is done. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

typedef struct progress { int total, done; } progress;

progress progress_start(int total);                               /* steps */
void progress_step(progress *p, const char *what);    /* one step begins; what is a few words */
void progress_end(const progress *p);

#endif

/* What the system and the user grant this process: CPUs, a quota of their time, a number of threads. */
#ifndef FKDAI_CPU_AVAILABLE_H
#define FKDAI_CPU_AVAILABLE_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE before the first include: cpu_set_t"
#endif
#include <sched.h>

/* CPUs that a thread may run on; 8192 is the most that Linux can be built for. Unknown: no bit is set. */
typedef struct fkdai_cpu_mask {
    cpu_set_t sets[8192 / CPU_SETSIZE];
} fkdai_cpu_mask;

void fkdai_cpu_mask_read(fkdai_cpu_mask *mask);           /* of the thread that calls */
void fkdai_cpu_mask_apply(const fkdai_cpu_mask *mask);    /* to it; nothing if unknown or refused */
int fkdai_cpu_mask_equal(const fkdai_cpu_mask *a, const fkdai_cpu_mask *b);

/* CPUs' worth of time that the cgroups of this process allow, rounded up; INT_MAX without a quota. root: "" or, in tests, a folder that
 * holds proc/ and sys/. */
int fkdai_cpu_quota(const char *root);

/* The first number of a text like "4" or "4,2"; INT_MAX if there is none, or it is not positive. */
int fkdai_cpu_first_number(const char *text);

/* Threads of a plan: at most as many as CPUs that the calling thread may use and as the quota allows. */
int fkdai_cpu_threads_available(void);
/* Threads of a plan that asks for no number: OMP_NUM_THREADS is a limit then. *limit: "" or what makes it less than the CPUs. */
int fkdai_cpu_threads_by_default(const char **limit);

#endif

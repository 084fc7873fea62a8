/*
 * Threads that wait for work. docs/decisions/0001-threads.md says what they promise.
 */
#ifndef FKDAI_CPU_POOL_H
#define FKDAI_CPU_POOL_H

typedef void fkdai_cpu_job(void *context, int thread);

/* Calls job(context, 0) on the caller's thread, and meanwhile job(context, i), 0 < i < threads, on as many others as there are and come in
 * time: maybe on none. Job 0 alone must do all the work that the others leave. Returns when every job that began has ended. */
void fkdai_cpu_pool_run(int threads, fkdai_cpu_job *job, void *context);

#endif

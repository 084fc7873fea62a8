/*
 * Hands items to threads, several at a time while many are left and single ones in the end, so that the threads finish together.
 * OpenMP: docs/decisions/0001-threads.md.
 *
 * GNU OpenMP keeps a pool of threads for each thread that has started a team, and after fork() the child's copy of that pool waits for threads
 * that are not there; who filled it, this library or another, makes no difference. A thread that the child starts itself has no pool yet: there
 * a team is formed from such a thread, at the price of starting threads in every call.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "cpu.h"

/* Items not yet taken. */
typedef struct queue {
    atomic_llong next;
    int64_t count, most;
    int threads;
    fkdai_cpu_work *work;
    void *context;
} queue;

/* How many of the `left` items a thread takes at once: half of its share, at most q->most. */
static int64_t taken_at_once(const queue *q, int64_t left)
{
    const int64_t half_share = q->threads == 1 ? left : left / (2 * q->threads);
    return half_share < 1 ? 1 : half_share < q->most ? half_share : q->most;
}

static void drain(queue *q, int thread)
{
    long long first = atomic_load_explicit(&q->next, memory_order_relaxed);
    while (first < q->count) {
        const int64_t taken = taken_at_once(q, q->count - first);
        if (!atomic_compare_exchange_weak_explicit(&q->next, &first, first + taken, memory_order_relaxed, memory_order_relaxed)) continue;
        q->work(q->context, first, taken, thread);
        first = atomic_load_explicit(&q->next, memory_order_relaxed);
    }
}

#ifdef _OPENMP
#include <omp.h>

int fkdai_cpu_threads_available(void) { return omp_get_num_procs(); }
const char *fkdai_cpu_thread_library(void) { return "OpenMP"; }

static atomic_int was_forked;

static void mark_forked(void) { atomic_store(&was_forked, 1); }

__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, mark_forked); }

static void *form_team(void *context)
{
    queue *const q = context;
#pragma omp parallel num_threads(q->threads)
    drain(q, omp_get_thread_num());
    return NULL;
}

static void drain_together(queue *q)
{
    pthread_t starter;
    if (!atomic_load(&was_forked)) form_team(q);
    else if (pthread_create(&starter, NULL, form_team, q) == 0) pthread_join(starter, NULL);
    else drain(q, 0);
}
#else
int fkdai_cpu_threads_available(void) { return 1; }
const char *fkdai_cpu_thread_library(void) { return "one thread, built without OpenMP"; }

static void drain_together(queue *q) { drain(q, 0); }
#endif

void fkdai_cpu_for_each(int64_t count, int64_t most, int threads, fkdai_cpu_work *work, void *context)
{
    queue q = {.count = count, .most = most, .threads = count < threads ? (int)count : threads, .work = work, .context = context};
    atomic_init(&q.next, 0);
    if (q.threads > 1) drain_together(&q);
    else drain(&q, 0);
}

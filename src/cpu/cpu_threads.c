/*
 * Hands items to threads, several at a time while many are left and single ones in the end, so that the threads finish together. A thread
 * that comes late finds fewer items, or none.
 */
#include <stdatomic.h>

#include "cpu.h"
#include "cpu_pool.h"
#include "fp_environment.h"

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

static void drain(void *context, int thread)
{
    queue *const q = context;
    const fkdai_fp_environment callers = fkdai_fp_enter();
    long long first = atomic_load_explicit(&q->next, memory_order_relaxed);
    while (first < q->count) {
        const int64_t taken = taken_at_once(q, q->count - first);
        if (!atomic_compare_exchange_weak_explicit(&q->next, &first, first + taken, memory_order_relaxed, memory_order_relaxed)) continue;
        q->work(q->context, first, taken, thread);
        first = atomic_load_explicit(&q->next, memory_order_relaxed);
    }
    fkdai_fp_leave(&callers);
}

void fkdai_cpu_for_each(int64_t count, int64_t most, int threads, fkdai_cpu_work *work, void *context)
{
    queue q = {.count = count, .most = most, .threads = count < threads ? (int)count : threads, .work = work, .context = context};
    atomic_init(&q.next, 0);
    if (q.threads > 1) fkdai_cpu_pool_run(q.threads, drain, &q);
    else drain(&q, 0);
}

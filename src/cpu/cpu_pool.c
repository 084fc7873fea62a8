/*
 * The pool: workers that sleep, each on its own condition variable, until a call borrows them.
 *
 *     a call:    takes idle workers, or starts some as long as there are fewer than it wants; calls each; runs job 0 itself; takes back those
 *                that have not begun, waits for those that have; returns all of them
 *     a worker:  IDLE -> CALLED (by the call) -> WORKING -> IDLE;  CALLED -> IDLE if the call takes it back;  IDLE -> LEAVING at the end
 *
 * No thread waits for one that has not begun, so it does not matter when, or whether, a worker is scheduled. Calls at the same time share the
 * workers that there are: their number is what the largest call wants, not the sum.
 *
 *     fork     the child has no workers and starts its own. pool.lock is held across the fork, so the list is whole; nobody does anything that can
 *              wait while holding it.
 *     dlclose  the destructor ends the idle workers and joins them: no call runs, or the code could not be unloaded, so all are idle. A worker must
 *              not touch thread-local variables of this library: their first use can wait for the loader, which dlclose holds.
 *     exit     runs the destructor too. Workers of a call that still runs are left alone; the process ends without them.
 *     signals  are the caller's: workers block all but those that a thread's own instructions raise.
 */
#define _GNU_SOURCE
#include "cpu_pool.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "cpu_available.h"

enum {
    STACK_BYTES = 256 * 1024,    /* micro-kernels take 5 KB, 13 KB under AddressSanitizer */
    SPIN_NS = 50 * 1000          /* about what it costs to fall asleep and be woken */
};

typedef enum worker_state { IDLE, CALLED, WORKING, LEAVING } worker_state;

/* What a call asks of its workers; it lives until the last of them has ended. */
typedef struct call {
    fkdai_cpu_job *job;
    void *context;
    fkdai_cpu_mask mask;    /* the caller's CPUs */
} call;

typedef struct worker {
    pthread_mutex_t lock;    /* of state, call and number */
    pthread_cond_t changed;
    _Atomic worker_state state;    /* written under the lock; a call looks at it without, see spin */
    const call *call;
    int number;
    pthread_t thread;
    fkdai_cpu_mask mask;     /* where it runs; its own */
    struct worker *next;     /* in pool.idle or in the team of a call */
} worker;

static struct pool {
    pthread_mutex_t lock;
    worker *idle;
    int count;        /* idle, borrowed, or being started */
    int is_closed;    /* no forks can be watched, or the library is being unloaded: every call runs alone */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void set_state(worker *w, worker_state state)
{
    pthread_mutex_lock(&w->lock);
    w->state = state;
    pthread_cond_signal(&w->changed);    /* one waits at most: the worker while IDLE, the call while WORKING */
    pthread_mutex_unlock(&w->lock);
}

/* ---------------------------------------------------------------- a worker */

static void work_on(worker *w)
{
    const call *const c = w->call;
    if (!fkdai_cpu_mask_equal(&w->mask, &c->mask)) {
        fkdai_cpu_mask_apply(&c->mask);
        w->mask = c->mask;
    }
    c->job(c->context, w->number);
}

static void *live(void *self)
{
    worker *const w = self;
    pthread_setname_np(pthread_self(), "flashkda");
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (w->state == IDLE) pthread_cond_wait(&w->changed, &w->lock);
        if (w->state == LEAVING) break;
        w->state = WORKING;
        pthread_mutex_unlock(&w->lock);
        work_on(w);
        pthread_mutex_lock(&w->lock);
        w->state = IDLE;
        pthread_cond_signal(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static int start_thread(worker *w)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};    /* blocked, they would kill without the program's handler */
    sigset_t blocked, callers;
    pthread_attr_t small;
    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; ++i) sigdelset(&blocked, faults[i]);
    if (pthread_attr_init(&small) != 0) return -1;
    pthread_attr_setstacksize(&small, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &blocked, &callers);
    int error = pthread_create(&w->thread, &small, live, w);
    if (error == EINVAL) error = pthread_create(&w->thread, NULL, live, w);    /* glibc puts thread-local variables, of any size, onto the stack */
    pthread_sigmask(SIG_SETMASK, &callers, NULL);
    pthread_attr_destroy(&small);
    return error;
}

/* A worker that is called already; NULL if the system gives no thread. */
static worker *start_worker(const call *c, int number)
{
    worker *const w = malloc(sizeof *w);
    if (w == NULL) return NULL;
    *w = (worker){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .state = CALLED, .call = c, .number = number, .mask = c->mask};
    if (start_thread(w) == 0) return w;
    free(w);
    return NULL;
}

/* ---------------------------------------------------------------- a call */

/* At most `wanted` idle workers. *missing: how many more may be started; they are counted. */
static worker *take_idle(int wanted, int *missing)
{
    worker *team = NULL;
    pthread_mutex_lock(&pool.lock);
    for (int i = 0; i < wanted && pool.idle != NULL; ++i) {
        worker *const w = pool.idle;
        pool.idle = w->next;
        w->next = team;
        team = w;
    }
    *missing = pool.is_closed || pool.count >= wanted ? 0 : wanted - pool.count;
    pool.count += *missing;
    pthread_mutex_unlock(&pool.lock);
    return team;
}

static void give_back(worker *team, int not_started)
{
    pthread_mutex_lock(&pool.lock);
    while (team != NULL) {
        worker *const w = team;
        team = w->next;
        w->next = pool.idle;
        pool.idle = w;
    }
    pool.count -= not_started;
    pthread_mutex_unlock(&pool.lock);
}

static worker *call_workers(const call *c, int wanted, int *missing)
{
    worker *team = take_idle(wanted, missing);
    int number = 0;
    for (worker *w = team; w != NULL; w = w->next) {
        pthread_mutex_lock(&w->lock);
        w->call = c;
        w->number = ++number;
        w->state = CALLED;
        pthread_cond_signal(&w->changed);
        pthread_mutex_unlock(&w->lock);
    }
    while (*missing > 0) {
        worker *const w = start_worker(c, number + 1);
        if (w == NULL) break;
        w->next = team;
        team = w;
        ++number;
        --*missing;
    }
    return team;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* A worker is often about to end: where CPUs are free, waiting awake for a moment takes 15 % off a call of 0.2 ms. */
static void spin(worker *w, int64_t until)
{
    while (atomic_load_explicit(&w->state, memory_order_relaxed) == WORKING && now_ns() < until) continue;
}

/* Afterwards no worker of the team uses the call. */
static void dismiss(worker *team)
{
    const int64_t until = now_ns() + SPIN_NS;
    for (worker *w = team; w != NULL; w = w->next) {
        spin(w, until);
        pthread_mutex_lock(&w->lock);
        while (w->state == WORKING) pthread_cond_wait(&w->changed, &w->lock);
        w->state = IDLE;
        pthread_mutex_unlock(&w->lock);
    }
}

void fkdai_cpu_pool_run(int threads, fkdai_cpu_job *job, void *context)
{
    int missing, cancel;
    call c = {.job = job, .context = context};
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);    /* waiting could end a cancelled thread here, with a lock in its hand */
    fkdai_cpu_mask_read(&c.mask);
    worker *const team = call_workers(&c, threads - 1, &missing);
    job(context, 0);
    dismiss(team);
    give_back(team, missing);
    pthread_setcancelstate(cancel, &cancel);
}

/* ---------------------------------------------------------------- fork, dlclose, exit */

static void hold(void) { pthread_mutex_lock(&pool.lock); }
static void let_go(void) { pthread_mutex_unlock(&pool.lock); }

static void forget_workers(void)
{
    while (pool.idle != NULL) {
        worker *const w = pool.idle;
        pool.idle = w->next;
        free(w);
    }
    pool.count = 0;
    let_go();
}

__attribute__((constructor)) static void watch_forks(void)
{
    pool.is_closed = pthread_atfork(hold, let_go, forget_workers) != 0;
}

__attribute__((destructor)) static void end_idle_workers(void)
{
    pthread_mutex_lock(&pool.lock);
    worker *idle = pool.idle;
    pool.idle = NULL;
    pool.is_closed = 1;
    pthread_mutex_unlock(&pool.lock);
    for (worker *w = idle; w != NULL; w = w->next) set_state(w, LEAVING);
    while (idle != NULL) {
        worker *const w = idle;
        idle = w->next;
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
        free(w);
    }
}

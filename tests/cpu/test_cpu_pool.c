/* The pool by itself: every item once, with any threads, from any thread, when the system gives none, across forks and cancellation. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "child.h"
#include "cpu.h"
#include "cpu_available.h"

enum { ITEMS = 1000, CALLERS = 8, CALLS = 300, MANY = 64 };

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

/* ---------------------------------------------------------------- threads that the system refuses, or starts late */

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *context);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *context);

static atomic_int creations_left = 1 << 30, delay_ms;
static struct { void *(*start)(void *); void *context; } delayed;

static void *start_late(void *unused)
{
    (void)unused;
    sleep_ms(atomic_load(&delay_ms));
    return delayed.start(delayed.context);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *context)
{
    if (atomic_fetch_sub(&creations_left, 1) <= 0) return EAGAIN;
    if (atomic_load(&delay_ms) == 0) return __real_pthread_create(thread, attr, start, context);
    delayed.start = start;
    delayed.context = context;
    return __real_pthread_create(thread, attr, start_late, NULL);
}

/* ---------------------------------------------------------------- work */

typedef struct tally {
    atomic_int visits[ITEMS], is_busy[MANY], faults;
    int threads;
} tally;

/* Counts visits; two threads with one number at the same time would share a scratch. */
static void count_visits(void *context, int64_t first, int64_t count, int thread)
{
    tally *const t = context;
    if (thread < 0 || thread >= t->threads || atomic_exchange(&t->is_busy[thread], 1) != 0) atomic_fetch_add(&t->faults, 1);
    for (int64_t i = first; i < first + count; ++i) atomic_fetch_add(&t->visits[i], 1);
    atomic_store(&t->is_busy[thread], 0);
}

/* 1 if every item was visited once and no number was used twice at a time. */
static int all_visited_once(int64_t items, int64_t most, int threads)
{
    tally t = {.threads = threads};    /* no malloc: a sanitizer's can hang in a child when another thread was inside it at the fork */
    fkdai_cpu_for_each(items, most, threads, count_visits, &t);
    int is_good = atomic_load(&t.faults) == 0;
    for (int i = 0; i < ITEMS; ++i) is_good &= atomic_load(&t.visits[i]) == (i < items);
    return is_good;
}

typedef struct meeting {
    atomic_int arrived;
    int expected;
    double patience;
} meeting;

/* Ends when as many threads are in it as are expected. */
static void meet(void *context, int64_t first, int64_t count, int thread)
{
    (void)first, (void)count, (void)thread;
    meeting *const m = context;
    const double start = seconds(CLOCK_MONOTONIC);
    atomic_fetch_add(&m->arrived, 1);
    while (atomic_load(&m->arrived) < m->expected && seconds(CLOCK_MONOTONIC) - start < m->patience) sleep_ms(1);
}

/* Whether `threads` threads can be in one call together. */
static int all_meet(int threads)
{
    const double start = seconds(CLOCK_MONOTONIC);
    meeting m = {.expected = threads, .patience = 20};
    fkdai_cpu_for_each(threads, 1, threads, meet, &m);
    return seconds(CLOCK_MONOTONIC) - start < m.patience;
}

/* ---------------------------------------------------------------- tests. The first ones need a pool without workers */

static void a_refused_thread_is_done_without(void **state)
{
    (void)state;
    for (int given = 0; given < 4; ++given) {
        atomic_store(&creations_left, given == 0 ? 0 : 1);    /* none, then one more in each call */
        assert_true(all_visited_once(ITEMS, 4, 5));
    }
    atomic_store(&creations_left, 1 << 30);
    assert_true(all_meet(5));
}

static int child_waits_for_nobody(void *context)
{
    (void)context;
    atomic_store(&delay_ms, 3000);
    const double start = seconds(CLOCK_MONOTONIC);
    const int is_good = all_visited_once(ITEMS, 4, 2) && all_visited_once(ITEMS, 4, 2);
    return is_good && seconds(CLOCK_MONOTONIC) - start < 2 ? 0 : 1;
}

static void a_late_thread_is_not_waited_for(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(child_waits_for_nobody, NULL, 60), 0);
}

static void every_item_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= MANY; threads += threads < 8 ? 1 : 28)
        for (int64_t items = 0; items <= ITEMS; items = items < 5 ? items + 1 : items * 5)
            for (int64_t most = 1; most <= 16; most *= 4) assert_true(all_visited_once(items, most, threads));
    assert_true(all_meet(MANY));
}

typedef struct caller {
    pthread_t thread;
    int number, is_good;
} caller;

static void *call_often(void *context)
{
    caller *const c = context;
    c->is_good = 1;
    for (int i = 0; i < CALLS; ++i) c->is_good &= all_visited_once((i * 7 + c->number) % ITEMS, 1 + i % 5, 1 + (i + c->number) % 5);
    return NULL;
}

static void many_callers(void **state)
{
    (void)state;
    caller callers[CALLERS] = {0};
    for (int i = 0; i < CALLERS; ++i) {
        callers[i].number = i;
        assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; ++i) {
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
        assert_true(callers[i].is_good);
    }
}

/* Workers of one call do not serve another, and there are no more than one call wants. */
static int child_counts_threads(void *context)
{
    (void)context;
    caller callers[CALLERS] = {0};
    for (int i = 0; i < CALLERS; ++i) {
        callers[i].number = i;
        if (pthread_create(&callers[i].thread, NULL, call_often, &callers[i]) != 0) return 1;
    }
    for (int i = 0; i < CALLERS; ++i) pthread_join(callers[i].thread, NULL);
    return atomic_load(&creations_left) >= (1 << 30) - CALLERS - 4 ? 0 : 2;    /* the largest call has 5 threads */
}

static void callers_share_the_workers(void **state)
{
    (void)state;
    atomic_store(&creations_left, 1 << 30);
    assert_int_equal(run_in_child(child_counts_threads, NULL, 300), 0);
}

static void waiting_costs_no_time(void **state)
{
    (void)state;
    assert_true(all_meet(4));
    const double before = seconds(CLOCK_PROCESS_CPUTIME_ID);
    sleep_ms(200);
    assert_true(seconds(CLOCK_PROCESS_CPUTIME_ID) - before < 0.02);
}

/* ---------------------------------------------------------------- what a worker looks like */

typedef struct look {
    meeting both;
    char name[16];
    sigset_t blocked;
    fkdai_cpu_mask mask;
} look;

static void look_around(void *context, int64_t first, int64_t count, int thread)
{
    look *const l = context;
    if (thread == 1) {
        pthread_getname_np(pthread_self(), l->name, sizeof l->name);
        pthread_sigmask(SIG_SETMASK, NULL, &l->blocked);
        fkdai_cpu_mask_read(&l->mask);
    }
    meet(&l->both, first, count, thread);
}

static void workers_have_a_name_and_block_signals(void **state)
{
    (void)state;
    look l = {.both = {.expected = 2, .patience = 20}};
    fkdai_cpu_for_each(2, 1, 2, look_around, &l);
    assert_string_equal(l.name, "flashkda");
    assert_true(sigismember(&l.blocked, SIGINT) && sigismember(&l.blocked, SIGTERM) && sigismember(&l.blocked, SIGALRM));
    assert_false(sigismember(&l.blocked, SIGSEGV) || sigismember(&l.blocked, SIGFPE));
    sigset_t own;
    pthread_sigmask(SIG_SETMASK, NULL, &own);
    assert_false(sigismember(&own, SIGINT));
}

/* Also those that were started by a thread with more CPUs. */
static void workers_run_where_the_caller_may(void **state)
{
    (void)state;
    fkdai_cpu_mask all, one = {0};
    fkdai_cpu_mask_read(&all);
    assert_true(all_meet(2));
    for (size_t cpu = 0; cpu < 8 * sizeof all.sets; ++cpu) {
        if (!CPU_ISSET_S(cpu, sizeof all.sets, all.sets)) continue;
        memset(&one, 0, sizeof one);
        CPU_SET_S(cpu, sizeof one.sets, one.sets);
    }
    fkdai_cpu_mask_apply(&one);
    look l = {.both = {.expected = 2, .patience = 20}}, m = l;
    fkdai_cpu_for_each(2, 1, 2, look_around, &l);
    fkdai_cpu_mask_apply(&all);
    fkdai_cpu_for_each(2, 1, 2, look_around, &m);
    assert_true(fkdai_cpu_mask_equal(&l.mask, &one));
    assert_true(fkdai_cpu_mask_equal(&m.mask, &all));
}

/* ---------------------------------------------------------------- fork, cancellation */

static atomic_int is_enough;

static void *call_until_enough(void *context)
{
    int *const is_good = context;
    while (!atomic_load(&is_enough)) *is_good &= all_visited_once(ITEMS, 4, 3);
    return NULL;
}

static int child_calls(void *context)
{
    (void)context;
    return all_visited_once(ITEMS, 4, 3) && all_meet(3) ? 0 : 1;
}

static int child_forks(void *context)
{
    if (child_calls(context) != 0) return 2;
    return run_in_child(child_calls, context, 60) == 0 && child_calls(context) == 0 ? 0 : 3;
}

static void forks_while_others_call(void **state)
{
    (void)state;
    if (HAS_THREAD_SANITIZER) {
        print_message("skipped: ThreadSanitizer does not follow a fork of several threads\n");
        skip();
    }
    SKIP_WITHOUT_THREADS_IN_CHILDREN();
    pthread_t threads[2];
    int is_good[2] = {1, 1};
    for (int i = 0; i < 2; ++i) assert_int_equal(pthread_create(&threads[i], NULL, call_until_enough, &is_good[i]), 0);
    int failures = 0;
    for (int i = 0; i < 50; ++i) failures += run_in_child(child_forks, NULL, 60) != 0;
    atomic_store(&is_enough, 1);
    for (int i = 0; i < 2; ++i) {
        pthread_join(threads[i], NULL);
        assert_true(is_good[i]);
    }
    assert_int_equal(failures, 0);
    assert_true(all_meet(3));
}

static void *be_cancelled(void *context)
{
    for (;; pthread_testcancel()) fkdai_cpu_for_each(2, 1, 2, meet, context);
    return NULL;
}

static void cancelled_callers_leave_nothing_behind(void **state)
{
    (void)state;
    for (int i = 0; i < 20; ++i) {
        meeting m = {.expected = 3, .patience = 0.01};    /* nobody comes third: the call lasts */
        pthread_t thread;
        void *result = NULL;
        assert_int_equal(pthread_create(&thread, NULL, be_cancelled, &m), 0);
        sleep_ms(i % 5);
        pthread_cancel(thread);
        pthread_join(thread, &result);
        assert_ptr_equal(result, PTHREAD_CANCELED);
    }
    assert_true(all_meet(3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callers_share_the_workers),
        cmocka_unit_test(a_late_thread_is_not_waited_for),
        cmocka_unit_test(a_refused_thread_is_done_without),
        cmocka_unit_test(every_item_once),
        cmocka_unit_test(many_callers),
        cmocka_unit_test(waiting_costs_no_time),
        cmocka_unit_test(workers_have_a_name_and_block_signals),
        cmocka_unit_test(workers_run_where_the_caller_may),
        cmocka_unit_test(forks_while_others_call),
        cmocka_unit_test(cancelled_callers_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("cpu_pool", tests, NULL, NULL);
}

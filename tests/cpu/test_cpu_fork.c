/* fork() and exit() in a process that computes on several threads: the child computes the same bits, and a process ends at once. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "child.h"
#include "counter_rng.h"
#include "problem.h"

static const problem_options small = {.T = 100, .H = 8, .seed = 1};

typedef struct expectation {
    problem p;
    float *out;
    size_t bytes;
} expectation;

static expectation expect(void)
{
    expectation e = {.p = problem_make(&small)};
    assert_int_equal(problem_run(&e.p, FKDA_BACKEND_CPU, 2), FKDA_OK);
    e.bytes = (size_t)e.p.out_elems * sizeof(float);
    e.out = test_alloc(e.bytes);
    memcpy(e.out, e.p.args.out, e.bytes);
    return e;
}

static void expectation_free(expectation *e)
{
    free(e->out);
    problem_free(&e->p);
}

static int compute(void *context)
{
    expectation *const e = context;
    return problem_run(&e->p, FKDA_BACKEND_CPU, 2) == FKDA_OK && memcmp(e->out, e->p.args.out, e->bytes) == 0 ? 0 : 1;
}

static int compute_and_fork(void *context)
{
    if (compute(context) != 0) return 2;
    return run_in_child(compute, context, 60) == 0 && compute(context) == 0 ? 0 : 3;
}

static void child_computes(void **state)
{
    (void)state;
    SKIP_WITHOUT_THREADS_IN_CHILDREN();
    expectation e = expect();
    assert_int_equal(run_in_child(compute, &e, 60), 0);
    assert_int_equal(run_in_child(compute_and_fork, &e, 60), 0);
    assert_int_equal(compute(&e), 0);    /* and the parent goes on */
    expectation_free(&e);
}

static atomic_int is_enough;

typedef struct endless {
    problem p;
    void *workspace;
    size_t bytes;
    int failures;
} endless;

/* Without malloc: a sanitizer's can hang in a child when another thread was inside it at the fork. */
static void *compute_until_enough(void *context)
{
    endless *const e = context;
    while (!atomic_load(&is_enough)) e->failures += fkda_fwd(&e->p.desc, &e->p.args, e->workspace, e->bytes, NULL) != FKDA_OK;
    return NULL;
}

static void child_computes_while_the_parent_does(void **state)
{
    (void)state;
    SKIP_WITHOUT_THREADS_IN_CHILDREN();
    expectation e = expect();
    endless other = {.p = problem_make(&small)};
    pthread_t thread;
    int failures = 0;
    other.p.desc.backend = FKDA_BACKEND_CPU;
    assert_int_equal(fkda_fwd_workspace_size(&other.p.desc, &other.bytes), FKDA_OK);
    other.workspace = test_alloc(other.bytes);
    assert_int_equal(pthread_create(&thread, NULL, compute_until_enough, &other), 0);
    for (int i = 0; i < 50; ++i)
        if (draw_is_wanted(i, 5, 0)) failures += run_in_child(compute_and_fork, &e, 60) != 0;
    atomic_store(&is_enough, 1);
    pthread_join(thread, NULL);
    assert_int_equal(failures, 0);
    assert_int_equal(other.failures, 0);
    free(other.workspace);
    problem_free(&other.p);
    expectation_free(&e);
}

/* ---------------------------------------------------------------- exit() */

static void *compute_long(void *unused)
{
    (void)unused;
    problem p = problem_make(&(problem_options){.T = 4096, .H = 8, .seed = 2});
    while (problem_run(&p, FKDA_BACKEND_CPU, 2) == FKDA_OK) continue;
    return NULL;
}

/* exit(), with the destructors that it runs, while another thread is inside a call. */
static int exit_during_a_call(void *context)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, compute_long, NULL) != 0) return 1;
    nanosleep(context, NULL);
    exit(0);
}

static void exit_waits_for_no_call(void **state)
{
    (void)state;
    SKIP_WITHOUT_THREADS_IN_CHILDREN();
    for (int i = 0; i < 20; ++i) {
        if (!draw_is_wanted(i, 4, 1)) continue;
        struct timespec wait = {0, 10000000 * i};
        assert_int_equal(run_in_child(exit_during_a_call, &wait, 60), 0);
    }
}

int main(void)
{
    char text[256];
    if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
        printf("skipped: %s\n", text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(child_computes),
        cmocka_unit_test(child_computes_while_the_parent_does),
        cmocka_unit_test(exit_waits_for_no_call),
    };
    return cmocka_run_group_tests_name("cpu_fork", tests, NULL, NULL);
}

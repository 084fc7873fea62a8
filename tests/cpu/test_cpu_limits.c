/* Where the system gives no thread, a call still answers, with the same bits and without a word. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "child.h"
#include "problem.h"

enum { PASSED = 0, WRONG = 1, NOT_BOUND = 2 };    /* exit statuses */

static void *do_nothing(void *context) { return context; }

/* Whether pthread_create fails here; otherwise the limit shows nothing. */
static int no_thread_can_start(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0) return 1;
    pthread_join(thread, NULL);
    return 0;
}

/* One problem twice: alone before the limit, then asked for two threads. Nothing has started a thread in this process before. */
typedef struct twice {
    problem p;
    float *alone;
    size_t bytes;
} twice;

static twice *run_alone(void)
{
    static twice t;
    t.p = problem_make(&(problem_options){.T = 100, .H = 8, .seed = 1});
    t.bytes = (size_t)t.p.out_elems * sizeof(float);
    t.alone = test_alloc(t.bytes);
    if (problem_run(&t.p, FKDA_BACKEND_CPU, 1) != FKDA_OK) return NULL;
    memcpy(t.alone, t.p.args.out, t.bytes);
    return &t;
}

static int run_limited(twice *t)
{
    const int is_bound = no_thread_can_start();
    fkda_plan plan;
    char text[256];
    t->p.desc.threads = 2;
    for (int i = 0; i < 3; ++i)
        if (problem_run(&t->p, FKDA_BACKEND_CPU, 2) != FKDA_OK || memcmp(t->alone, t->p.args.out, t->bytes) != 0) return WRONG;
    if (fkda_fwd_plan(&t->p.desc, &plan) != FKDA_OK) return WRONG;
    fkda_plan_describe(&plan, text, sizeof text);
    return is_bound && strstr(text, "2 threads") != NULL ? PASSED : NOT_BOUND;
}

static size_t address_space(void)
{
    size_t pages = 0;
    FILE *const file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%zu", &pages) != 1) return 0;
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Enough for the workspace of two threads, none for a stack. */
static int run_without_address_space(void)
{
    twice *const t = run_alone();
    if (t == NULL) return WRONG;
    mallopt(M_MMAP_MAX, 0);    /* malloc takes from the heap alone, which grows now and stays */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    void *const held = malloc(8 << 20);
    if (held == NULL) return WRONG;
    *(volatile char *)held = 0;    /* or a compiler leaves malloc and free out */
    const size_t used = address_space();
    const struct rlimit limit = {used, used};
    free(held);
    if (setrlimit(RLIMIT_AS, &limit) != 0) return NOT_BOUND;
    return run_limited(t);
}

/* As a user who has all the processes that he may; root is not bound. */
static int run_without_processes(void)
{
    twice *const t = run_alone();
    if (t == NULL) return WRONG;
    const struct rlimit limit = {0, 0};
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return NOT_BOUND;
    if (setrlimit(RLIMIT_NPROC, &limit) != 0) return NOT_BOUND;
    return run_limited(t);
}

static int exec_self(void *name)
{
    execl("/proc/self/exe", "test_cpu_limits", (const char *)name, (char *)NULL);
    return WRONG;
}

/* A process that no fork has touched: nothing of a pool can be left in it. */
static void expect_under(char *name)
{
    SKIP_IF(is_under_qemu(), "qemu cannot start the running program anew");
    const int status = run_in_child(exec_self, name, 60);
    if (status == NOT_BOUND) {
        print_message("skipped: the limit does not bind here, or there is one CPU\n");
        skip();
    }
    assert_int_equal(status, PASSED);
}

static char address_space_limit[] = "RLIMIT_AS", process_limit[] = "RLIMIT_NPROC";

static void no_address_space(void **state)
{
    (void)state;
    if (HAS_ADDRESS_SANITIZER) {
        print_message("skipped: AddressSanitizer needs address space of its own\n");
        skip();
    }
    expect_under(address_space_limit);
}

static void no_processes(void **state)
{
    (void)state;
    expect_under(process_limit);
}

int main(int argc, char **argv)
{
    if (argc > 1) _exit(strcmp(argv[1], address_space_limit) == 0 ? run_without_address_space() : run_without_processes());    /* no leak check: it wants a thread */
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_address_space), cmocka_unit_test(no_processes)};
    return cmocka_run_group_tests_name("cpu_limits", tests, NULL, NULL);
}

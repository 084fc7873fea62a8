/* After fork() in a process that has run on several threads, the child still computes, and the same bits. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "problem.h"

static void child_computes(void **state)
{
    (void)state;
    problem p = problem_make(&(problem_options){.T = 100, .H = 8, .seed = 1});
    assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 2), FKDA_OK);
    const size_t bytes = (size_t)p.out_elems * sizeof(float);
    float *const before = test_alloc(bytes);
    memcpy(before, p.args.out, bytes);

    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(60);    /* a lost pool would wait for ever */
        const int ok = problem_run(&p, FKDA_BACKEND_CPU, 2) == FKDA_OK && memcmp(before, p.args.out, bytes) == 0;
        _exit(ok ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    assert_int_equal(problem_run(&p, FKDA_BACKEND_CPU, 2), FKDA_OK);    /* and the parent goes on */
    assert_memory_equal(before, p.args.out, bytes);
    free(before);
    problem_free(&p);
}

int main(void)
{
    char text[256];
    if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
        printf("skipped: %s\n", text);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(child_computes)};
    return cmocka_run_group_tests_name("cpu_fork", tests, NULL, NULL);
}

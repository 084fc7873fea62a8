/* FKDA_CPU_ISA: case does not matter; a name that is not there is an error that tells the choices, on AUTO too. Each value in a process of its own. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "child.h"
#include "problem.h"

static fkda_status plan_on(fkda_backend backend, int64_t width, char *text, size_t size)
{
    const fkda_fwd_desc desc = {.struct_size = sizeof desc, .backend = backend, .B = 1, .T = 8, .H = 1, .K = width, .V = width, .lower_bound = -5, .scale = 1};
    fkda_plan plan;
    const fkda_status status = fkda_fwd_plan(&desc, &plan);
    if (status == FKDA_OK) fkda_plan_describe(&plan, text, size);
    else snprintf(text, size, "%s", fkda_last_error());
    return status;
}

static int is_taken(void *value)
{
    char text[512];
    setenv("FKDA_CPU_ISA", value, 1);
    return plan_on(FKDA_BACKEND_AUTO, 128, text, sizeof text) == FKDA_OK && strncmp(text, "cpu: scalar, ", 13) == 0 ? 0 : 1;
}

/* 0 if both backends refuse and the sentence tells the value and a choice; a shape that only `ref` takes is not concerned. */
static int is_refused(void *value)
{
    static const fkda_backend asked[] = {FKDA_BACKEND_AUTO, FKDA_BACKEND_CPU};
    char text[512], quoted[64];
    setenv("FKDA_CPU_ISA", value, 1);
    snprintf(quoted, sizeof quoted, "FKDA_CPU_ISA is \"%.40s\"", (const char *)value);
    for (int i = 0; i < 2; ++i)
        if (plan_on(asked[i], 128, text, sizeof text) != FKDA_ERR_BAD_VALUE || strstr(text, quoted) == NULL || strstr(text, " scalar") == NULL) return 1;
    if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_ERR_BAD_VALUE || strstr(text, quoted) == NULL) return 2;
    return plan_on(FKDA_BACKEND_AUTO, 32, text, sizeof text) == FKDA_OK && strncmp(text, "ref: ", 5) == 0 ? 0 : 3;
}

static void case_does_not_matter(void **state)
{
    (void)state;
    char values[][8] = {"scalar", "SCALAR", "Scalar"};
    for (size_t i = 0; i < sizeof values / sizeof *values; ++i) assert_int_equal(run_in_child(is_taken, values[i], 60), 0);
}

static void a_misspelling_is_an_error(void **state)
{
    (void)state;
    char values[][64] = {"avx215", "nonsense", "scalar ", "avx", "0123456789012345678901234567890123456789 and more"};
    for (size_t i = 0; i < sizeof values / sizeof *values; ++i) assert_int_equal(run_in_child(is_refused, values[i], 60), 0);
}

/* Without FKDA_CPU_ISA. */
static int is_default(void *name)
{
    char text[512], begin[32];
    snprintf(begin, sizeof begin, "cpu: %s, ", (const char *)name);
    return plan_on(FKDA_BACKEND_AUTO, 128, text, sizeof text) == FKDA_OK && strncmp(text, begin, strlen(begin)) == 0 ? 0 : 1;
}

/* Which aarch64 always has, and nothing else ever. */
static void neon_is_of_aarch64(void **state)
{
    (void)state;
    char neon[] = "neon", of_others[] = "avx2";
#ifdef __aarch64__
    assert_int_equal(run_in_child(is_default, neon, 60), 0);
    assert_int_equal(run_in_child(is_refused, of_others, 60), 0);
#else
    assert_int_equal(run_in_child(is_default, neon, 60), 1);
    assert_int_equal(run_in_child(is_refused, neon, 60), 0);
    (void)of_others;
#endif
}

int main(void)
{
    unsetenv("FKDA_CPU_ISA");
    const struct CMUnitTest tests[] = {cmocka_unit_test(case_does_not_matter), cmocka_unit_test(a_misspelling_is_an_error), cmocka_unit_test(neon_is_of_aarch64)};
    return cmocka_run_group_tests_name("cpu_isa", tests, NULL, NULL);
}

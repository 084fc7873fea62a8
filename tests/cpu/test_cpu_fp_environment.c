/*
 * The caller's floating-point environment: rounding mode, FTZ, DAZ, unmasked exceptions, set before the pool's threads start or after. On both
 * host backends the bits are those of the default environment, and the caller finds its own again, flags and all.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE__
#include <xmmintrin.h>
#endif

#include <cmocka.h>

#include "child.h"
#include "problem.h"

/* ---------------------------------------------------------------- environments */

static void set_up(void) { fesetround(FE_UPWARD); }
static void set_down(void) { fesetround(FE_DOWNWARD); }
static void set_to_zero(void) { fesetround(FE_TOWARDZERO); }
static void unmask(void) { feenableexcept(FE_DIVBYZERO | FE_INVALID | FE_OVERFLOW | FE_UNDERFLOW | FE_INEXACT); }
#ifdef __SSE__
enum { FTZ = 0x8000, DAZ = 0x0040, DENORMAL_MASK = 0x0100 };
static void set_ftz(void) { _mm_setcsr(_mm_getcsr() | FTZ); }
static void set_daz(void) { _mm_setcsr(_mm_getcsr() | DAZ); }
static void set_all(void)
{
    fesetround(FE_UPWARD);
    unmask();
    _mm_setcsr((_mm_getcsr() | FTZ | DAZ) & ~(unsigned)DENORMAL_MASK);
}
static uint64_t control(void) { return _mm_getcsr(); }
static void set_control(uint64_t mxcsr) { _mm_setcsr((unsigned)mxcsr); }
#elif defined __aarch64__
enum { FZ = 1 << 24, DN = 1 << 25 };    /* both ends of FTZ and DAZ; every NaN becomes the default one */
static uint64_t control(void)
{
    uint64_t fpcr;
    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return fpcr;
}
static void set_control(uint64_t fpcr) { __asm__ volatile("msr fpcr, %0" : : "r"(fpcr)); }
static void set_fz(void) { set_control(control() | FZ); }
static void set_dn(void) { set_control(control() | DN); }
static void set_all(void)
{
    fesetround(FE_UPWARD);
    set_control(control() | FZ | DN);
}
#else
static uint64_t control(void) { return 0; }
static void set_control(uint64_t unknown) { (void)unknown; }
#endif

static const struct environment { const char *name; void (*set)(void); } environments[] = {
    {"round up", set_up}, {"round down", set_down}, {"round to zero", set_to_zero}, {"exceptions unmasked", unmask},
#ifdef __SSE__
    {"FTZ", set_ftz}, {"DAZ", set_daz}, {"all of them", set_all},
#elif defined __aarch64__
    {"FZ", set_fz}, {"DN", set_dn}, {"all of them", set_all},
#endif
};
enum { ENVIRONMENTS = sizeof environments / sizeof *environments };

/* What a program can see of it. */
typedef struct view {
    int rounding, flags, enabled;
    uint64_t control;
} view;

static view look(void)
{
    view v;
    memset(&v, 0, sizeof v);    /* padding too: views are compared by their bytes */
    v.rounding = fegetround();
    v.flags = fetestexcept(FE_ALL_EXCEPT);
    v.enabled = fegetexcept();
    v.control = control();
    return v;
}

/* ---------------------------------------------------------------- the problem */

/* Gates that close and values that are 0: what is left of the initial state falls through the subnormal numbers of fp32, in S and in out. */
static const problem_options fading = {.T = 40, .H = 4, .K = 64, .V = 64, .seed = 3, .g_mean = 8, .initial_state = FKDA_F32, .output = FKDA_F32};
static const problem_options usual = {.T = 70, .H = 4, .K = 64, .V = 64, .seed = 4, .A_log = FKDA_F32, .dt_bias = FKDA_F32,
                                      .initial_state = FKDA_BF16, .output = FKDA_BF16, .final_state = FKDA_BF16};

typedef struct answer {
    problem p;
    fkda_backend backend;
    void *out, *state;
    size_t out_bytes, state_bytes;
} answer;

static answer solve(const problem_options *options, fkda_backend backend, int threads)
{
    answer a = {.p = problem_make(options), .backend = backend};
    uint16_t *const v = (uint16_t *)(uintptr_t)a.p.args.v;
    if (options == &fading) memset(v, 0, (size_t)(options->T * options->H * options->V) * 2);
    else v[5] = 0xffc1;    /* a NaN that is not the default one: its bits come out */
    a.out_bytes = (size_t)a.p.out_elems * (options->output == FKDA_F32 ? 4 : 2);
    a.state_bytes = (size_t)a.p.state_elems * (options->final_state == FKDA_BF16 ? 2 : 4);
    a.out = test_alloc(a.out_bytes);
    a.state = test_alloc(a.state_bytes);
    assert_int_equal(problem_run(&a.p, backend, threads), FKDA_OK);
    memcpy(a.out, a.p.args.out, a.out_bytes);
    memcpy(a.state, a.p.args.final_state, a.state_bytes);
    return a;
}

static void answer_free(answer *a)
{
    free(a->out);
    free(a->state);
    problem_free(&a->p);
}

typedef struct attempt {
    answer *wanted;
    const struct environment *environment;
} attempt;

enum { SAME = 0, OTHER_BITS = 1, NOT_RESTORED = 2, FAILED = 3 };

static volatile float huge = FLT_MAX;

/* Under the environment; returns in the default one. */
static int solve_again(void *context)
{
    const attempt *const try = context;
    problem *const p = &try->wanted->p;
    fenv_t normal;
    fegetenv(&normal);
    const uint64_t normal_control = control();
    huge *= FLT_MAX;    /* a flag that is raised already */
    try->environment->set();
    const view before = look();
    const fkda_status status = problem_run(p, try->wanted->backend, 2);
    const view after = look();
    fesetenv(&normal);
    set_control(normal_control);
    if (status != FKDA_OK) return FAILED;
    if (memcmp(&before, &after, sizeof before) != 0) return NOT_RESTORED;
    return memcmp(p->args.out, try->wanted->out, try->wanted->out_bytes) == 0
           && memcmp(p->args.final_state, try->wanted->state, try->wanted->state_bytes) == 0 ? SAME : OTHER_BITS;
}

static void expect_same(int result, const char *when, const attempt *try)
{
    static const char *const words[] = {"same bits", "other bits", "the environment is not restored", "the call failed"};
    if (result != SAME)
        fail_msg("%s, %s, set %s the threads start: %s", try->wanted->backend == FKDA_BACKEND_REF ? "ref" : "cpu", try->environment->name, when,
                 result > 0 ? words[result] : "a signal");
}

static void try_all(const problem_options *options, fkda_backend backend)
{
    const int can_start = !qemu_breaks_threads_of_children();
    for (int e = 0; e < ENVIRONMENTS && can_start; ++e) {    /* the workers of a child start under the environment that is set in it */
        answer wanted = solve(options, backend, 1);
        attempt try = {&wanted, &environments[e]};
        expect_same(run_in_child(solve_again, &try, 60), "before", &try);
        answer_free(&wanted);
    }
    answer wanted = solve(options, backend, 2);
    for (int e = 0; e < ENVIRONMENTS; ++e) {
        attempt try = {&wanted, &environments[e]};
        expect_same(solve_again(&try), "after", &try);
    }
    answer_free(&wanted);
}

static void cpu_gives_the_same_bits(void **state)
{
    (void)state;
    try_all(&fading, FKDA_BACKEND_CPU);
    try_all(&usual, FKDA_BACKEND_CPU);
}

static void ref_gives_the_same_bits(void **state)
{
    (void)state;
    try_all(&fading, FKDA_BACKEND_REF);
    try_all(&usual, FKDA_BACKEND_REF);
}

/* The test is one only if subnormal numbers come out. */
static void the_problem_reaches_subnormal_numbers(void **state)
{
    (void)state;
    for (int backend = FKDA_BACKEND_CPU; backend <= FKDA_BACKEND_REF; ++backend) {
        answer a = solve(&fading, (fkda_backend)backend, 1);
        int64_t subnormal = 0;
        for (int64_t i = 0; i < a.p.out_elems; ++i) subnormal += fpclassify(((const float *)a.out)[i]) == FP_SUBNORMAL;
        assert_true(subnormal > 10);
        answer_free(&a);
    }
}

/* A refusal raises no exception either. */
static void a_refused_nan_raises_nothing(void **state)
{
    (void)state;
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = 1, .H = 1, .K = 64, .V = 64, .scale = 1, .lower_bound = NAN};
    feclearexcept(FE_ALL_EXCEPT);
    assert_int_equal(fkda_fwd_query(&desc, NULL), FKDA_ERR_BAD_VALUE);
    assert_int_equal(fetestexcept(FE_INVALID), 0);
    desc.lower_bound = 0;
    desc.scale = NAN;
    assert_int_equal(fkda_fwd_query(&desc, NULL), FKDA_ERR_BAD_VALUE);
    assert_int_equal(fetestexcept(FE_INVALID), 0);
}

int main(void)
{
    char text[256];
    if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
        printf("skipped: %s\n", text);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_problem_reaches_subnormal_numbers),
        cmocka_unit_test(cpu_gives_the_same_bits),
        cmocka_unit_test(ref_gives_the_same_bits),
        cmocka_unit_test(a_refused_nan_raises_nothing),
    };
    return cmocka_run_group_tests_name("cpu_fp_environment", tests, NULL, NULL);
}

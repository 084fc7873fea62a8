/* Plans: used again, copied, shared between threads, garbage; and the small functions of the header. */
#include "good_call.h"

#include <pthread.h>

enum { THREADS = 4, RUNS = 20 };

static void run_plan(const fkda_plan *plan, const good_call *c)
{
    if (fkda_fwd_run(plan, &c->args, c->workspace, c->workspace_bytes, NULL) != FKDA_OK) fail_msg("%s", fkda_last_error());
}

static void test_plan_and_run_equal_fwd(void **state)
{
    (void)state;
    const good_call c = good_packed();
    fkda_plan plan;
    float *const simple = must_alloc(GOOD_OUT_BYTES, 1);
    assert_int_equal(good_run(&c), FKDA_OK);
    memcpy(simple, c.args.out, GOOD_OUT_BYTES);
    assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
    assert_true(fkda_plan_workspace_size(&plan) == c.workspace_bytes);
    for (int i = 0; i < 3; ++i) {    /* used again */
        memset(c.args.out, 0xa5, GOOD_OUT_BYTES);
        memset(c.workspace, i, c.workspace_bytes);
        run_plan(&plan, &c);
        assert_memory_equal(c.args.out, simple, GOOD_OUT_BYTES);
    }
    fkda_plan copy = plan;    /* by value; the first one is gone */
    memset(&plan, 0, sizeof plan);
    memset(c.args.out, 0xa5, GOOD_OUT_BYTES);
    run_plan(&copy, &c);
    assert_memory_equal(c.args.out, simple, GOOD_OUT_BYTES);
    free(simple);
}

/* A plan fits any args of its desc: cu_seqlens is read when it runs. */
static void test_plan_takes_other_args(void **state)
{
    (void)state;
    good_call c = good_packed();
    fkda_plan plan;
    assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
    static const int64_t other[] = {0, 5, 9, 10}, bad[] = {0, 5, 9, 11};
    float *const simple = must_alloc(GOOD_OUT_BYTES, 1);
    c.args.cu_seqlens = other;
    assert_int_equal(good_run(&c), FKDA_OK);
    memcpy(simple, c.args.out, GOOD_OUT_BYTES);
    run_plan(&plan, &c);
    assert_memory_equal(c.args.out, simple, GOOD_OUT_BYTES);
    free(simple);
    c.args.cu_seqlens = bad;
    assert_int_equal(fkda_fwd_run(&plan, &c.args, c.workspace, c.workspace_bytes, NULL), FKDA_ERR_CU_SEQLENS);
}

static void test_garbage_is_no_plan(void **state)
{
    (void)state;
    const good_call c = good_dense();
    char text[64];
    static const int bytes[] = {0, 0xa5, 0xff};
    for (size_t i = 0; i < sizeof bytes / sizeof *bytes; ++i) {
        fkda_plan plan;
        memset(&plan, bytes[i], sizeof plan);
        assert_int_equal(fkda_fwd_run(&plan, &c.args, c.workspace, c.workspace_bytes, NULL), FKDA_ERR_BAD_VALUE);
        assert_non_null(strstr(fkda_last_error(), "not made by fkda_fwd_plan"));
        assert_int_equal(fkda_plan_backend(&plan), FKDA_BACKEND_AUTO);
        assert_true(fkda_plan_workspace_size(&plan) == 0);
        fkda_plan_describe(&plan, text, sizeof text);
        assert_string_equal(text, "not a plan");
    }
    assert_int_equal(fkda_plan_backend(NULL), FKDA_BACKEND_AUTO);
    assert_true(fkda_plan_workspace_size(NULL) == 0);
}

static void test_describe_writes_as_snprintf_does(void **state)
{
    (void)state;
    const good_call c = good_dense();
    fkda_plan plan;
    fkda_backend backend = FKDA_BACKEND_AUTO;
    assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
    assert_int_equal(fkda_fwd_query(&c.desc, &backend), FKDA_OK);
    assert_int_equal(fkda_plan_backend(&plan), backend);
    assert_true(backend != FKDA_BACKEND_AUTO);

    char text[256], cut[16];
    const size_t length = fkda_plan_describe(&plan, text, sizeof text);
    assert_true(length == strlen(text) && length > 10);
    assert_null(strchr(text, '\n'));
    assert_memory_equal(text, fkda_backend_name(backend), strlen(fkda_backend_name(backend)));
    assert_true(fkda_plan_describe(&plan, NULL, 0) == length);
    memset(cut, 'x', sizeof cut);
    assert_true(fkda_plan_describe(&plan, cut, 10) == length);
    assert_memory_equal(cut, text, 9);
    assert_int_equal(cut[9], 0);
    assert_int_equal(cut[10], 'x');
}

/* AUTO that ends on the reference says why; asked for by name, the reference is no surprise. */
static void test_describe_tells_of_a_slow_fallback(void **state)
{
    (void)state;
    static const struct { int64_t K, V; const char *reason; } slow[] = {{96, 64, "K = 96"}, {128, 100, "V = 100"}};
    char text[256];
    fkda_plan plan;
    for (size_t i = 0; i < sizeof slow / sizeof *slow; ++i) {
        good_call c = good_dense();
        c.desc.K = slow[i].K;
        c.desc.V = slow[i].V;
        assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
        fkda_plan_describe(&plan, text, sizeof text);
        const char *const because = strstr(text, "; slow, as cpu: ");
        if (because == NULL || strstr(because, slow[i].reason) == NULL) fail_msg("%s", text);
        c.desc.backend = FKDA_BACKEND_REF;
        assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
        fkda_plan_describe(&plan, text, sizeof text);
        assert_null(strstr(text, "slow"));
    }
}

/* Fit for aligned_alloc, whatever the backend, the sizes and the threads. */
static void test_workspace_is_whole_alignments(void **state)
{
    (void)state;
    for (int backend = FKDA_BACKEND_CPU; backend <= FKDA_BACKEND_REF; ++backend)
        for (int64_t K = 1; K <= 128; K = K < 64 ? 3 * K : K + 1)
            for (int32_t threads = 1; threads <= 2; ++threads) {
                good_call c = good_dense();
                size_t bytes = 0;
                c.desc.backend = (fkda_backend)backend;
                c.desc.K = K;
                c.desc.threads = threads;
                if (fkda_fwd_workspace_size(&c.desc, &bytes) != FKDA_OK) continue;
                assert_true(bytes > 0 && bytes % FKDA_WORKSPACE_ALIGN == 0);
            }
}

/* -------------------------------------------------------------- one plan, many threads */

typedef struct worker {
    const fkda_plan *plan;
    fkda_fwd_args args;
    void *workspace;
    size_t workspace_bytes;
    int failures;
} worker;

static void *work(void *argument)
{
    worker *const w = argument;
    for (int i = 0; i < RUNS; ++i) w->failures += fkda_fwd_run(w->plan, &w->args, w->workspace, w->workspace_bytes, NULL) != FKDA_OK;
    return NULL;
}

static void test_threads_share_a_plan(void **state)
{
    (void)state;
    const good_call c = good_dense();
    fkda_plan plan;
    assert_int_equal(good_run(&c), FKDA_OK);
    assert_int_equal(fkda_fwd_plan(&c.desc, &plan), FKDA_OK);
    worker workers[THREADS];
    pthread_t threads[THREADS];
    const size_t bytes = (c.workspace_bytes + 255) / 256 * 256;
    for (int i = 0; i < THREADS; ++i) {
        workers[i] = (worker){&plan, c.args, aligned_alloc(256, bytes + 256), c.workspace_bytes, 0};
        workers[i].args.out = must_alloc(GOOD_OUT_BYTES, 1);
        workers[i].args.final_state = must_alloc(GOOD_STATE_BYTES, 1);
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; ++i) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
        assert_memory_equal(workers[i].args.out, c.args.out, GOOD_OUT_BYTES);
        free(workers[i].workspace);
        free(workers[i].args.out);
        free(workers[i].args.final_state);
    }
}

static void test_versions_and_names(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", FKDA_VERSION_MAJOR, FKDA_VERSION_MINOR, FKDA_VERSION_PATCH);
    assert_string_equal(fkda_version_string(), text);
    assert_int_equal(fkda_version(), 10000 * FKDA_VERSION_MAJOR + 100 * FKDA_VERSION_MINOR + FKDA_VERSION_PATCH);
    assert_true(strlen(fkda_build_info()) > 0);
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_AUTO), "auto");
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_CUDA), "cuda");
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_CPU), "cpu");
    assert_string_equal(fkda_backend_name(FKDA_BACKEND_REF), "ref");
    assert_string_equal(fkda_backend_name((fkda_backend)FKDA_BACKEND_COUNT), "?");
    assert_string_equal(fkda_backend_name((fkda_backend)-1), "?");
    for (int i = 0; i < 3; ++i) assert_int_equal(fkda_init(), FKDA_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_and_run_equal_fwd),
        cmocka_unit_test(test_plan_takes_other_args),
        cmocka_unit_test(test_garbage_is_no_plan),
        cmocka_unit_test(test_describe_writes_as_snprintf_does),
        cmocka_unit_test(test_describe_tells_of_a_slow_fallback),
        cmocka_unit_test(test_workspace_is_whole_alignments),
        cmocka_unit_test(test_threads_share_a_plan),
        cmocka_unit_test(test_versions_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The list of statuses, and the sentence of each thread's last failure. */
#include "good_call.h"

#include <pthread.h>

static void test_names_and_texts(void **state)
{
    (void)state;
    int expected = 0;
#define CHECK_STATUS(name, number, text)                         \
    assert_int_equal(name, number);                              \
    assert_int_equal(number, expected++);                        \
    assert_string_equal(fkda_status_name(name), #name);          \
    assert_string_equal(fkda_status_text(name), text);
    FKDA_STATUS_MAP(CHECK_STATUS)
#undef CHECK_STATUS
    assert_string_equal(fkda_status_name((fkda_status)expected), "FKDA_ERR_?");
    assert_string_equal(fkda_status_name((fkda_status)-1), "FKDA_ERR_?");
    assert_non_null(fkda_status_text((fkda_status)expected));
    assert_non_null(fkda_status_text((fkda_status)-1));
}

/* -------------------------------------------------------------- per thread */

static pthread_barrier_t both;

/* Fails with its own number, waits until the other has failed too, and looks at its sentence. */
static void *fail_with(void *number)
{
    static const char *const wrong = "wrong";
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = -*(const int *)number, .T = 1, .H = 1, .K = 1, .V = 1};
    char expected[32];
    snprintf(expected, sizeof expected, "desc.B = -%d is negative", *(const int *)number);
    const char *answer = strcmp(fkda_last_error(), "") == 0 ? NULL : wrong;    /* a fresh thread has no sentence */
    for (int i = 0; i < 100; ++i) {
        if (fkda_fwd_query(&desc, NULL) != FKDA_ERR_SHAPE) answer = wrong;
        pthread_barrier_wait(&both);
        if (strstr(fkda_last_error(), expected) == NULL) answer = wrong;
        pthread_barrier_wait(&both);
    }
    return (void *)(uintptr_t)answer;
}

static void test_each_thread_has_its_sentence(void **state)
{
    (void)state;
    static const int numbers[2] = {3, 4};
    pthread_t threads[2];
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; ++i) assert_int_equal(pthread_create(&threads[i], NULL, fail_with, (void *)(uintptr_t)&numbers[i]), 0);
    for (int i = 0; i < 2; ++i) {
        void *answer;
        pthread_join(threads[i], &answer);
        assert_null(answer);
    }
    pthread_barrier_destroy(&both);
}

/* AUTO with a width that only the reference takes: the refusals on the way are not this thread's failure. */
static void *succeed_by_fallback(void *unused)
{
    (void)unused;
    static char sentence[1024];
    const fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = 1, .H = 1, .K = 3, .V = 5, .scale = 1};
    fkda_backend backend;
    if (fkda_init() != FKDA_OK || fkda_fwd_query(&desc, &backend) != FKDA_OK || backend != FKDA_BACKEND_REF) return sentence;
    snprintf(sentence, sizeof sentence, "%s", fkda_last_error());
    return sentence[0] == 0 ? NULL : sentence;
}

static void test_success_leaves_no_sentence(void **state)
{
    (void)state;
    pthread_t thread;
    void *sentence;
    assert_int_equal(pthread_create(&thread, NULL, succeed_by_fallback, NULL), 0);
    pthread_join(thread, &sentence);
    if (sentence != NULL) fail_msg("after success: \"%s\"", (const char *)sentence);
}

/* A failure's sentence stays while later calls succeed. */
static void test_sentence_stays(void **state)
{
    (void)state;
    good_call c = good_dense();
    c.desc.B = -1;
    assert_int_equal(good_run(&c), FKDA_ERR_SHAPE);
    c.desc.B = GOOD_B;
    assert_int_equal(good_run(&c), FKDA_OK);
    const fkda_fwd_desc small = {.struct_size = sizeof small, .B = 1, .T = 1, .H = 1, .K = 3, .V = 5, .scale = 1};
    assert_int_equal(fkda_fwd_query(&small, NULL), FKDA_OK);
    assert_non_null(strstr(fkda_last_error(), "desc.B = -1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_and_texts),
        cmocka_unit_test(test_each_thread_has_its_sentence),
        cmocka_unit_test(test_success_leaves_no_sentence),
        cmocka_unit_test(test_sentence_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

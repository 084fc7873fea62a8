/* A part of a test in a process of its own: what a fork, a limit or exit() does stays there. */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* Runs body(context) in a forked child, which alarm() ends after `seconds`. Its exit status, or minus the signal that ended it. */
static inline int run_in_child(int (*body)(void *context), void *context, unsigned seconds)
{
    const pid_t child = fork();
    if (child == 0) {
        alarm(seconds);
        _exit(body(context));
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) != child) return -1000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* What is compiled for another machine CTest runs under qemu-user (cmake/aarch64-linux-gnu.cmake). It cannot start the running program anew, and
 * its version 7 breaks where a child of a process with threads starts one. */
static inline int is_under_qemu(void) { return getenv("FKDA_TEST_QEMU") != NULL; }

static inline void *lock_and_unlock(void *mutex)
{
    pthread_mutex_lock(mutex);
    pthread_mutex_unlock(mutex);
    return NULL;
}

static inline int start_a_thread(void *unused)
{
    pthread_mutex_t free_one = PTHREAD_MUTEX_INITIALIZER;
    pthread_t thread;
    (void)unused;
    return pthread_create(&thread, NULL, lock_and_unlock, &free_one) == 0 && pthread_join(thread, NULL) == 0 ? 0 : 1;
}

static inline int qemu_breaks_threads_of_children(void)
{
    static int answer = -1;
    pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
    pthread_t waiting;
    if (answer >= 0 || !is_under_qemu()) return answer > 0;
    pthread_mutex_lock(&held);
    if (pthread_create(&waiting, NULL, lock_and_unlock, &held) != 0) abort();
    answer = run_in_child(start_a_thread, NULL, 60) != 0;
    pthread_mutex_unlock(&held);
    pthread_join(waiting, NULL);
    return answer;
}

/* In a test of cmocka. */
#define SKIP_IF(is_so, why)                      \
    do {                                         \
        if (!(is_so)) break;                     \
        print_message("skipped: " why "\n");     \
        skip();                                  \
    } while (0)
#define SKIP_WITHOUT_THREADS_IN_CHILDREN() SKIP_IF(qemu_breaks_threads_of_children(), "this qemu breaks where the child of a process with threads starts one")

/* gcc tells by macros which sanitizer is on, clang by features. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
enum {
#ifdef __SANITIZE_ADDRESS__
    HAS_ADDRESS_SANITIZER = 1,
#else
    HAS_ADDRESS_SANITIZER = __has_feature(address_sanitizer),
#endif
#ifdef __SANITIZE_THREAD__
    HAS_THREAD_SANITIZER = 1
#else
    HAS_THREAD_SANITIZER = __has_feature(thread_sanitizer)
#endif
};

#endif

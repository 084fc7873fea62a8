/* A part of a test in a process of its own: what a fork, a limit or exit() does stays there. */
#ifndef TEST_CHILD_H
#define TEST_CHILD_H

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

/* What is compiled for another machine CTest runs under qemu-user (cmake/aarch64-linux-gnu.cmake). It is no kernel: it cannot start the running
 * program anew, and before version 8 it often breaks where a process with threads forks and the child starts a thread. */
#define SKIP_UNDER_QEMU(what_it_lacks)                                      \
    do {                                                                    \
        if (getenv("FKDA_TEST_QEMU") == NULL) break;                        \
        print_message("skipped: under qemu, without %s\n", what_it_lacks); \
        skip();                                                             \
    } while (0)
#define A_PROGRAM_THAT_STARTS_ITSELF "a program that starts itself"
#define THREADS_IN_A_CHILD "threads in a child of a process with threads"

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

/*
 * The shared library loaded, used and unloaded: its threads end, and neither they nor its fork handlers run in code that is gone.
 *
 *     test_cpu_unload libflashkda.so
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "child.h"
#include "flashkda.h"

enum { T = 64, H = 4, D = 64, LOADS = 1000 };

static const char *library_path;

typedef struct library {
    void *handle;
    fkda_status (*plan)(const fkda_fwd_desc *desc, fkda_plan *plan);
    fkda_status (*run)(const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t bytes, fkda_stream stream);
    size_t (*workspace_size)(const fkda_plan *plan);
    size_t (*describe)(const fkda_plan *plan, char *text, size_t size);
} library;

/* POSIX lets a function pointer be read from what dlsym returns; C has no cast for it. */
static int find(void *handle, const char *name, void *function)
{
    void *const address = dlsym(handle, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static int load(library *lib)
{
    lib->handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    return lib->handle != NULL && find(lib->handle, "fkda_fwd_plan", &lib->plan) && find(lib->handle, "fkda_fwd_run", &lib->run)
           && find(lib->handle, "fkda_plan_workspace_size", &lib->workspace_size) && find(lib->handle, "fkda_plan_describe", &lib->describe);
}

/* Whether the library is mapped: dlclose may keep it, and then nothing is shown. */
static int is_loaded(void)
{
    void *const handle = dlopen(library_path, RTLD_NOW | RTLD_NOLOAD);
    if (handle != NULL) dlclose(handle);
    return handle != NULL;
}

static uint16_t input[T * H * D], beta[T * H];    /* bf16 */
static float out[T * H * D];
static _Alignas(FKDA_WORKSPACE_ALIGN) unsigned char workspace[2 << 20];

/* 1 if a call on as many threads as there are, at most two, gave a finite answer. *threads: how many. */
static int call(const library *lib, int *threads)
{
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .backend = FKDA_BACKEND_CPU, .threads = 2, .B = 1, .T = T, .H = H, .K = D, .V = D,
                          .out = {.dtype = FKDA_F32}, .lower_bound = -5, .scale = 1};
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = input, .k = input, .v = input, .g = input, .beta = beta, .out = out};
    fkda_plan plan;
    char text[256];
    memset(out, 0xff, sizeof out);
    if (lib->plan(&desc, &plan) != FKDA_OK || lib->workspace_size(&plan) > sizeof workspace) return 0;
    lib->describe(&plan, text, sizeof text);
    *threads = strstr(text, "on 2 threads") != NULL ? 2 : 1;
    return lib->run(&plan, &args, workspace, sizeof workspace, NULL) == FKDA_OK && out[0] - out[0] == 0 && out[T * H * D - 1] - out[T * H * D - 1] == 0;
}

static int thread_count(void)
{
    char line[256];
    int count = -1;
    FILE *const file = fopen("/proc/self/status", "r");
    if (file == NULL) return -1;
    while (count < 0 && fgets(line, sizeof line, file) != NULL) (void)sscanf(line, "Threads: %d", &count);
    fclose(file);
    return count;
}

/* A joined thread may be seen for a moment longer. */
static int thread_count_falls_to(int expected)
{
    const struct timespec moment = {0, 1000000};
    for (int i = 0; i < 5000 && thread_count() != expected; ++i) nanosleep(&moment, NULL);
    return thread_count() == expected;
}

static int do_nothing(void *context)
{
    (void)context;
    return 0;
}

static int call_and_unload(void *context)
{
    library *const lib = context;
    int threads;
    return call(lib, &threads) && dlclose(lib->handle) == 0 && !is_loaded() && run_in_child(do_nothing, NULL, 60) == 0 ? 0 : 1;
}

static void load_call_unload(void **state)
{
    (void)state;
    const int threads_before = thread_count();    /* a sanitizer may have one of its own */
    for (int i = 0; i < LOADS; ++i) {
        library lib;
        int threads = 0;
        assert_true(load(&lib));
        assert_true(call(&lib, &threads));
        assert_int_equal(thread_count(), threads_before + threads - 1);
        assert_int_equal(dlclose(lib.handle), 0);
        assert_false(is_loaded());
        if (i % 100 == 0) assert_true(thread_count_falls_to(threads_before));
    }
    assert_true(thread_count_falls_to(threads_before));
}

static void forks_before_and_after_unloading(void **state)
{
    (void)state;
    SKIP_WITHOUT_THREADS_IN_CHILDREN();
    for (int i = 0; i < 20; ++i) {
        library lib;
        int threads;
        assert_true(load(&lib));
        assert_true(call(&lib, &threads));
        assert_int_equal(run_in_child(call_and_unload, &lib, 60), 0);
        assert_true(call(&lib, &threads));
        assert_int_equal(dlclose(lib.handle), 0);
        assert_false(is_loaded());
        assert_int_equal(run_in_child(do_nothing, NULL, 60), 0);    /* a handler left behind would be called here */
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) return 2;
    library_path = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(load_call_unload), cmocka_unit_test(forks_before_and_after_unloading)};
    return cmocka_run_group_tests_name("cpu_unload", tests, NULL, NULL);
}

/* How many threads a plan gets: affinity, the cgroup's quota (read from trees made here), OMP_NUM_THREADS. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "cpu_available.h"
#include "problem.h"

/* ---------------------------------------------------------------- quota */

enum { FILES = 8, PATH = 512 };

typedef struct tree {
    struct { const char *path, *text; } files[FILES];
    int quota;
} tree;

static const tree trees[] = {
    {{{0}}, INT_MAX},    /* no /proc */
    {{{"proc/self/cgroup", "0::/\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "max 100000\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}, 2},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "150000 100000\n"}}, 2},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "1000 100000\n"}}, 1},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "9223372036854775807 1\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "200000 0\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "-5 100000\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", "nonsense\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "0::/\n"}, {"sys/fs/cgroup/cpu.max", ""}}, INT_MAX},
    /* the smallest on the way up */
    {{{"proc/self/cgroup", "0::/a/b\n"}, {"sys/fs/cgroup/a/b/cpu.max", "max 100000\n"}, {"sys/fs/cgroup/a/cpu.max", "300000 100000\n"}}, 3},
    {{{"proc/self/cgroup", "0::/a/b\n"}, {"sys/fs/cgroup/a/b/cpu.max", "500000 100000\n"}, {"sys/fs/cgroup/a/cpu.max", "700000 100000\n"}}, 5},
    {{{"proc/self/cgroup", "0::/a/b\n"}, {"sys/fs/cgroup/a/b/cpu.max", "500000 100000\n"}, {"sys/fs/cgroup/a/cpu.max", "400000 100000\n"}}, 4},
    {{{"proc/self/cgroup", "0::/a\n"}, {"sys/fs/cgroup/other/cpu.max", "100000 100000\n"}}, INT_MAX},
    /* a container sees its own group as the top, under the host's path or another's */
    {{{"proc/self/cgroup", "0::/docker/123\n"}, {"sys/fs/cgroup/cpu.max", "600000 100000\n"}}, 6},
    {{{"proc/self/cgroup", "0::/../123\n"}, {"sys/fs/cgroup/cpu.max", "600000 100000\n"}, {"sys/fs/123/cpu.max", "100000 100000\n"}}, 6},
    /* version 1, alone and with version 2 beside it */
    {{{"proc/self/cgroup", "5:memory:/x\n3:cpu,cpuacct:/a\n1:name=systemd:/\n"}, {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "350000\n"},
      {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n"}}, 4},
    {{{"proc/self/cgroup", "2:cpuacct:/\n1:cpu:/a\n0::/\n"}, {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n"},
      {"sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n"}, {"sys/fs/cgroup/cpu/cpu.cfs_quota_us", "20000\n"},
      {"sys/fs/cgroup/cpu/cpu.cfs_period_us", "10000\n"}}, 2},
    {{{"proc/self/cgroup", "1:cpuset:/\n2:cpuacct:/\n"}, {"sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "10000\n"},
      {"sys/fs/cgroup/cpuset/cpu.cfs_period_us", "10000\n"}, {"sys/fs/cgroup/cpuacct/cpu.cfs_quota_us", "10000\n"},
      {"sys/fs/cgroup/cpuacct/cpu.cfs_period_us", "10000\n"}}, INT_MAX},
    {{{"proc/self/cgroup", "cpu\n:\n\n3:cpu\n0::/\n"}, {"sys/fs/cgroup/cpu.max", "200000 100000\n"}}, 2},
};

static void write_file(const char *root, const char *name, const char *text)
{
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    FILE *const file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void quota_is_the_smallest_on_the_way_up(void **state)
{
    (void)state;
    for (size_t x = 0; x < sizeof trees / sizeof *trees; ++x) {
        char root[] = "/tmp/fkda-cgroup-XXXXXX", command[64];
        assert_non_null(mkdtemp(root));
        for (int i = 0; i < FILES && trees[x].files[i].path != NULL; ++i) write_file(root, trees[x].files[i].path, trees[x].files[i].text);
        const int quota = fkdai_cpu_quota(root);
        snprintf(command, sizeof command, "rm -r %s", root);
        assert_int_equal(system(command), 0);
        if (quota != trees[x].quota) fail_msg("tree %zu: quota %d, expected %d", x, quota, trees[x].quota);
    }
}

/* Paths as long as the kernel allows, and longer. */
static void long_group_paths(void **state)
{
    (void)state;
    char root[] = "/tmp/fkda-cgroup-XXXXXX", command[64];
    assert_non_null(mkdtemp(root));
    write_file(root, "sys/fs/cgroup/cpu.max", "200000 100000\n");
    for (size_t length = 4000; length < 9000; length += 97) {
        char *const text = calloc(length + 8, 1);
        assert_non_null(text);
        memcpy(text, "0::/", 4);
        memset(text + 4, 'a', length);
        write_file(root, "proc/self/cgroup", text);
        const int quota = fkdai_cpu_quota(root);
        assert_true(quota == 2 || quota == INT_MAX);
        free(text);
    }
    snprintf(command, sizeof command, "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

/* ---------------------------------------------------------------- OMP_NUM_THREADS, affinity */

static void first_number_of_a_list(void **state)
{
    (void)state;
    static const struct { const char *text; int number; } cases[] = {
        {NULL, INT_MAX}, {"", INT_MAX}, {"1", 1}, {"12", 12}, {" 3", 3}, {"3 ", 3}, {"4,2,1", 4}, {"4 , 2", 4}, {"0", INT_MAX}, {"-2", INT_MAX}, {"2x", INT_MAX},
        {"x", INT_MAX}, {"x2", INT_MAX}, {"2.5", INT_MAX}, {"99999999999999999999", INT_MAX}, {",2", INT_MAX}};
    for (size_t x = 0; x < sizeof cases / sizeof *cases; ++x)
        if (fkdai_cpu_first_number(cases[x].text) != cases[x].number)
            fail_msg("\"%s\": %d, expected %d", cases[x].text, fkdai_cpu_first_number(cases[x].text), cases[x].number);
}

/* Threads in a plan of a problem with work for many. */
static int planned_threads(int threads)
{
    const fkda_fwd_desc desc = {.struct_size = sizeof desc, .backend = FKDA_BACKEND_CPU, .threads = threads, .B = 1, .T = 4096, .H = 64, .K = 128,
                                .V = 128, .lower_bound = -5, .scale = 1};
    fkda_plan plan;
    char text[256];
    if (fkda_fwd_plan(&desc, &plan) != FKDA_OK) return -1;
    fkda_plan_describe(&plan, text, sizeof text);
    const char *const on = strstr(text, " on ");
    return on == NULL ? -1 : (int)strtol(on + 4, NULL, 10);
}

static int child_is_limited(void *context)    /* 0: a plan has the default number of threads, *context, and 2 when 2 are asked for */
{
    const int available = fkdai_cpu_threads_available(), expected = *(const int *)context;
    setenv("OMP_NUM_THREADS", "7777", 1);    /* too late: it is read once */
    return planned_threads(0) == expected && planned_threads(2) == (available < 2 ? available : 2) && planned_threads(1) == 1 ? 0 : 1;
}

static void omp_num_threads_limits_the_default(void **state)
{
    (void)state;
    SKIP_IF(is_under_qemu(), "qemu cannot start the running program anew");
    const int one = 1;
    int all = fkdai_cpu_threads_available();
    static const struct { const char *text; int is_limit; } cases[] = {{"1", 1}, {"1,4", 1}, {"100000", 0}, {"garbage", 0}, {"", 0}, {"0", 0}};
    for (size_t x = 0; x < sizeof cases / sizeof *cases; ++x) {
        char command[PATH];
        snprintf(command, sizeof command, "OMP_NUM_THREADS=%s /proc/%d/exe %d", cases[x].text, (int)getpid(), cases[x].is_limit ? one : all);
        assert_int_equal(system(command), 0);
    }
}

static int child_is_pinned(void *context)
{
    (void)context;
    fkdai_cpu_mask mask;
    fkdai_cpu_mask_read(&mask);
    for (size_t cpu = 0, kept = 0; cpu < 8 * sizeof mask.sets; ++cpu) {
        if (!CPU_ISSET_S(cpu, sizeof mask.sets, mask.sets)) continue;
        if (kept++ > 0) CPU_CLR_S(cpu, sizeof mask.sets, mask.sets);
    }
    fkdai_cpu_mask_apply(&mask);
    return planned_threads(0) == 1 && planned_threads(2) == 1 ? 0 : 1;
}

static void affinity_counts_for_every_plan(void **state)
{
    (void)state;
    assert_int_equal(planned_threads(0), fkdai_cpu_threads_available());
    assert_int_equal(run_in_child(child_is_pinned, NULL, 60), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1) {    /* under an OMP_NUM_THREADS */
        int expected = (int)strtol(argv[1], NULL, 10);
        return child_is_limited(&expected);
    }
    unsetenv("OMP_NUM_THREADS");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_is_the_smallest_on_the_way_up),
        cmocka_unit_test(long_group_paths),
        cmocka_unit_test(first_number_of_a_list),
        cmocka_unit_test(omp_num_threads_limits_the_default),
        cmocka_unit_test(affinity_counts_for_every_plan),
    };
    return cmocka_run_group_tests_name("cpu_available", tests, NULL, NULL);
}

/*
 * CPUs, quota, OMP_NUM_THREADS. The CPUs are read for each plan, because a thread's affinity may change; the rest once per process.
 *
 * A cgroup's quota holds for everything below it, so the smallest one on the way up counts. /proc/self/cgroup tells the way; in a container
 * it may name a path that is mounted as the top: what does not exist is skipped on the way up, and the top is read in any case.
 */
#define _GNU_SOURCE
#include "cpu_available.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* ---------------------------------------------------------------- CPUs */

void fkdai_cpu_mask_read(fkdai_cpu_mask *mask)
{
    memset(mask, 0, sizeof *mask);
    if (sched_getaffinity(0, sizeof mask->sets, mask->sets) != 0) memset(mask, 0, sizeof *mask);
}

void fkdai_cpu_mask_apply(const fkdai_cpu_mask *mask) { (void)sched_setaffinity(0, sizeof mask->sets, mask->sets); }

int fkdai_cpu_mask_equal(const fkdai_cpu_mask *a, const fkdai_cpu_mask *b) { return memcmp(a, b, sizeof *a) == 0; }

static int cpu_count(void)
{
    fkdai_cpu_mask mask;
    fkdai_cpu_mask_read(&mask);
    const int granted = CPU_COUNT_S(sizeof mask.sets, mask.sets);
    if (granted > 0) return granted;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < INT_MAX ? (int)online : 1;
}

/* ---------------------------------------------------------------- quota */

/* The first line of dir/name, or NULL. */
static const char *read_line(const char *dir, const char *name, char line[128])
{
    char path[PATH_BYTES + 64];
    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path) return NULL;
    FILE *const file = fopen(path, "re");
    if (file == NULL) return NULL;
    const char *const got = fgets(line, 128, file);
    fclose(file);
    return got;
}

/* Microseconds of CPU time in each period -> CPUs, rounded up. */
static int cpus_of(long long quota, long long period)
{
    if (quota <= 0 || period <= 0) return INT_MAX;
    const long long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : INT_MAX;
}

static int quota_in(const char *dir)
{
    char line[128];
    long long quota, period;
    if (read_line(dir, "cpu.max", line) != NULL)    /* version 2: "max 100000" or "150000 100000" */
        return sscanf(line, "%lld %lld", &quota, &period) == 2 ? cpus_of(quota, period) : INT_MAX;
    if (read_line(dir, "cpu.cfs_quota_us", line) == NULL || sscanf(line, "%lld", &quota) != 1) return INT_MAX;    /* version 1: -1 is none */
    if (read_line(dir, "cpu.cfs_period_us", line) == NULL || sscanf(line, "%lld", &period) != 1) return INT_MAX;
    return cpus_of(quota, period);
}

/* The smallest quota in mount/path and all folders above it, up to mount. */
static int smallest_quota(const char *mount, const char *path)
{
    char dir[PATH_BYTES];
    const size_t top = strlen(mount);
    if (strstr(path, "/..") != NULL) path = "";    /* a group outside of what this container sees */
    if (snprintf(dir, sizeof dir, "%s%s", mount, path) >= (int)sizeof dir) return INT_MAX;
    int least = quota_in(dir);
    for (size_t end = strlen(dir); end > top; --end) {
        if (dir[end - 1] != '/') continue;
        dir[end - 1] = 0;
        const int quota = quota_in(dir);
        if (quota < least) least = quota;
    }
    return least;
}

/* Whether "cpu" is one of the names in a list like "cpu,cpuacct". */
static int lists_cpu(const char *names)
{
    while (strncmp(names, "cpu", 3) != 0 || (names[3] != 0 && names[3] != ',')) {
        names = strchr(names, ',');
        if (names++ == NULL) return 0;
    }
    return 1;
}

int fkdai_cpu_quota(const char *root)
{
    char path[PATH_BYTES], line[PATH_BYTES];
    int least = INT_MAX;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *const file = fopen(path, "re");
    if (file == NULL) return INT_MAX;
    while (fgets(line, sizeof line, file) != NULL) {    /* "0::/a/b" is version 2, "3:cpu,cpuacct:/a/b" version 1 */
        line[strcspn(line, "\n")] = 0;
        char *const names = strchr(line, ':'), *const group = names == NULL ? NULL : strchr(names + 1, ':');
        if (group == NULL) continue;
        *group = 0;
        if (names[1] != 0 && !lists_cpu(names + 1)) continue;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, names[1] != 0 ? "/" : "", names + 1);
        const int quota = smallest_quota(path, group + 1);
        if (quota < least) least = quota;
    }
    fclose(file);
    return least;
}

/* ---------------------------------------------------------------- threads */

int fkdai_cpu_first_number(const char *text)
{
    if (text == NULL) return INT_MAX;
    char *end;
    const long number = strtol(text, &end, 10);
    const int is_number = end != text && (*end == 0 || *end == ',' || *end == ' ');
    return is_number && number > 0 && number < INT_MAX ? (int)number : INT_MAX;
}

static pthread_once_t granted_once = PTHREAD_ONCE_INIT;
static int quota_granted, threads_wanted;

static void read_grants(void)
{
    quota_granted = fkdai_cpu_quota("");
    threads_wanted = fkdai_cpu_first_number(getenv("OMP_NUM_THREADS"));
}

int fkdai_cpu_threads_available(void)
{
    pthread_once(&granted_once, read_grants);
    const int cpus = cpu_count();
    return cpus < quota_granted ? cpus : quota_granted;
}

int fkdai_cpu_threads_by_default(const char **limit)
{
    const int available = fkdai_cpu_threads_available();
    *limit = threads_wanted < available ? "OMP_NUM_THREADS" : available < cpu_count() ? "CPU quota of the cgroup" : "";
    return threads_wanted < available ? threads_wanted : available;
}

/* How much host memory this process may have: the least of what the machine, its cgroups and its own limit leave. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "memory.h"

enum { LINE_BYTES = 4096 };

static uint64_t lesser(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t machine_bytes(void)
{
    char line[LINE_BYTES];
    uint64_t kib = 0;
    FILE *const file = fopen("/proc/meminfo", "r");
    while (file != NULL && kib == 0 && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) != 1) kib = 0;
    if (file != NULL) fclose(file);
    if (kib > 0) return kib * 1024;
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
}

/* A file with one number; "max", or no such file: no limit. */
static uint64_t read_limit(const char *path)
{
    char text[64] = "";
    FILE *const file = fopen(path, "r");
    if (file == NULL) return UINT64_MAX;
    if (fgets(text, sizeof text, file) == NULL) *text = 0;
    fclose(file);
    return *text >= '0' && *text <= '9' ? strtoull(text, NULL, 10) : UINT64_MAX;
}

/* The group and all groups above it, up to the root, which in a container is its own. */
static uint64_t group_bytes(const char *root, char *group, const char *file)
{
    uint64_t limit = UINT64_MAX;
    for (;;) {
        char path[2 * LINE_BYTES];
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        limit = lesser(limit, read_limit(path));
        char *const slash = strrchr(group, '/');
        if (slash == NULL) return limit;
        *slash = 0;
    }
}

/* Lines of /proc/self/cgroup are "0::/group" (version 2) and "4:memory:/group" (version 1). */
static uint64_t cgroup_bytes(void)
{
    char line[LINE_BYTES];
    uint64_t limit = UINT64_MAX;
    FILE *const file = fopen("/proc/self/cgroup", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = 0;
        char *const controllers = strchr(line, ':'), *const group = controllers == NULL ? NULL : strchr(controllers + 1, ':');
        if (group == NULL) continue;
        *group = 0;
        if (strcmp(controllers, ":") == 0) limit = lesser(limit, group_bytes("/sys/fs/cgroup", group + 1, "memory.max"));
        if (strstr(controllers, "memory") != NULL) limit = lesser(limit, group_bytes("/sys/fs/cgroup/memory", group + 1, "memory.limit_in_bytes"));
    }
    if (file != NULL) fclose(file);
    return limit;
}

size_t memory_host_limit(void)
{
    static uint64_t limit;    /* asked once: what this process takes later is counted by itself */
    if (limit == 0) {
        struct rlimit own;
        limit = lesser(machine_bytes(), cgroup_bytes());
        if (getrlimit(RLIMIT_AS, &own) == 0 && own.rlim_cur != RLIM_INFINITY) limit = lesser(limit, own.rlim_cur);
    }
    return (size_t)limit;
}

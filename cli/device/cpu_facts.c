/* See cpu_facts.h. */
#include "cpu_facts.h"

#include <sched.h>
#include <string.h>
#ifdef __aarch64__
#include <sys/auxv.h>
#endif

enum { LINE_BYTES = 512 };

/* "model name : Intel(R)..." -> whether it is the line of this key, and its value */
static int value_of(char *line, const char *key, char *value, size_t size)
{
    const char *const colon = strchr(line, ':');
    if (colon == NULL || strncmp(line, key, strlen(key)) != 0) return 0;
    line[strcspn(line, "\n")] = 0;
    snprintf(value, size, "%s", colon + 1 + strspn(colon + 1, " "));
    return 1;
}

void cpu_read_model(FILE *cpuinfo, char *text, size_t size)
{
    char line[LINE_BYTES], maker[16] = "";
    snprintf(text, size, "unknown");
    while (cpuinfo != NULL && fgets(line, sizeof line, cpuinfo) != NULL) {
        char part[16];
        if (value_of(line, "model name", text, size)) return;
        if (value_of(line, "CPU implementer", maker, sizeof maker) || !value_of(line, "CPU part", part, sizeof part)) continue;
        snprintf(text, size, "implementer %s, part %s", *maker ? maker : "unknown", part);
        return;
    }
}

void cpu_list_features(char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
#define FEATURE(name, is_there) \
    if ((is_there) && used < size) used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "", name);
#if defined __x86_64__
#define X86(name) FEATURE(name, __builtin_cpu_supports(name))
    __builtin_cpu_init();
    X86("sse4.2") X86("avx") X86("avx2") X86("fma") X86("avx512f") X86("avx512dq") X86("avx512bw") X86("avx512vl") X86("avx512vnni") X86("avx512bf16")
#elif defined __aarch64__
    const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
    FEATURE("asimd", first & HWCAP_ASIMD) FEATURE("asimdhp", first & HWCAP_ASIMDHP) FEATURE("asimddp", first & HWCAP_ASIMDDP)
    FEATURE("sve", first & HWCAP_SVE) FEATURE("sve2", second & HWCAP2_SVE2) FEATURE("i8mm", second & HWCAP2_I8MM) FEATURE("bf16", second & HWCAP2_BF16)
#else
    (void)size, (void)used;
#endif
}

int cpu_count_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

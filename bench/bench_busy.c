/* Calls on one thread and on two, in turns, beside processes that want the same CPUs: median and the ninth decile of the wall time. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

static const struct { int64_t T, H; int calls; } cases[] = {{64, 4, 600}, {1024, 32, 60}};

static pid_t start_neighbour(void)
{
    const pid_t parent = getpid(), child = fork();
    if (child < 0) die("fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (getppid() == parent) continue;
    _exit(0);
}

static void print_case(const char *isa, int x, int neighbours, int threads, const sample *s, int is_json)
{
    if (is_json)
        printf("{\"case\":\"T%lld_H%lld_D%d\",\"isa\":\"%s\",\"busy\":%d,\"threads\":%d,\"ms\":%.3f,\"p90\":%.3f}\n", (long long)cases[x].T,
               (long long)cases[x].H, D, isa, neighbours, threads, s->median * 1e-6, s->p90 * 1e-6);
    else
        printf("  %-8s T = %4lld, H = %2lld, %d thread%s   median %9.3f   p90 %9.3f\n", isa, (long long)cases[x].T, (long long)cases[x].H, threads,
               threads == 1 ? " " : "s", s->median * 1e-6, s->p90 * 1e-6);
}

void measure_busy(const char *isa, int neighbours, int is_json)
{
    static sample one, two;
    pid_t pids[MAX_NEIGHBOURS];
    for (int i = 0; i < neighbours; ++i) pids[i] = start_neighbour();
    for (int x = 0; x < (int)(sizeof cases / sizeof *cases); ++x) {
        workload w = make_workload(cases[x].T, cases[x].H);
        run_flashkda(&w, 2);
        for (int i = 0; i < cases[x].calls; ++i) {
            one.ns[i] = time_call(&w, 1);
            two.ns[i] = time_call(&w, 2);
        }
        summarise(&one, cases[x].calls);
        summarise(&two, cases[x].calls);
        print_case(isa, x, neighbours, 1, &one, is_json);
        print_case(isa, x, neighbours, 2, &two, is_json);
        fflush(stdout);
    }
    for (int i = 0; i < neighbours; ++i) {
        kill(pids[i], SIGKILL);
        waitpid(pids[i], NULL, 0);
    }
}

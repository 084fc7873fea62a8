/*
 * The CPU backend against plain token loops (plain_loop.h), in one process per instruction set, repetitions interleaved.
 *
 *     fkda_bench_cpu [--quick] [--json] [--isa scalar|avx2|avx512|neon] [--tokens T] [--repeats N]
 *     fkda_bench_cpu --busy N [--json] [--isa ...]    beside N processes that use up all the time they get; bench_busy.c
 *
 * One sequence of T = 1024 tokens, H = 32, K = V = 128, bf16, bounded gate. One thread is timed by its CPU time, which other processes disturb
 * least; two threads against one by wall time, and beside them two calls of one thread each at the same time, which share nothing: what
 * the machine gives two threads at that moment. Before anything is timed, all variants must agree.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

enum { H = 32, ROUNDS_PER_REPEAT = 4, VARIANTS = 3 };

typedef struct options {
    int64_t T;
    int repeats, is_json, is_busy, neighbours;
    const char *isa;
} options;

static const char *const variant_names[VARIANTS] = {"rows", "dots", "columns"};
static const int variant_heads[VARIANTS] = {2, 8, 16};    /* of 32: the slow ones need no more */

static const struct { const char *isa; plain_loop *loop[VARIANTS]; } plain_loops[] = {
#ifdef BENCH_AVX512
    {"avx512", {plain_rows__avx512, plain_dots__avx512, plain_columns__avx512}},
#endif
#ifdef BENCH_AVX2
    {"avx2", {plain_rows__avx2, plain_dots__avx2, plain_columns__avx2}},
#endif
#ifdef BENCH_NEON
    {"neon", {plain_rows__neon, plain_dots__neon, plain_columns__neon}},
#endif
    {"scalar", {plain_rows__scalar, plain_dots__scalar, plain_columns__scalar}},
};
enum { ISA_COUNT = sizeof plain_loops / sizeof *plain_loops };

static void run_plain(workload *w, plain_loop *loop, int h)
{
    memset(w->plain_state, 0, (size_t)D * D * sizeof(float));
    const plain_head head = {.T = w->desc.T, .qkvg_stride = H * D, .beta_stride = H, .q = w->q + h * D, .k = w->k + h * D, .v = w->v + h * D,
                             .g = w->g + h * D, .beta = w->beta + h, .rate = expf(w->A_log[h]), .lower_bound = w->desc.lower_bound,
                             .scale = w->desc.scale, .dt_bias = w->dt_bias + h * D, .out = w->plain_out + h * D, .state = w->plain_state};
    loop(&head);
}

/* Relative RMS of out and final state of the heads that a plain loop computes, against flashkda's. */
static void check_agreement(workload *w, int variant, plain_loop *loop)
{
    double out_error = 0, out_norm = 0, state_error = 0, state_norm = 0;
    for (int h = 0; h < variant_heads[variant]; ++h) {
        run_plain(w, loop, h);
        for (int64_t t = 0; t < w->desc.T; ++t)
            for (int v = 0; v < D; ++v) {
                const int64_t i = (t * H + h) * D + v;
                const double want = (double)from_bf16(w->plain_out[i]), error = (double)from_bf16(w->out[i]) - want;
                out_error += error * error;
                out_norm += want * want;
            }
        for (int c = 0; c < D; ++c)
            for (int v = 0; v < D; ++v) {    /* rows, dots: S [V,K]; columns: S [K,V] */
                const double want = (double)w->plain_state[variant == 2 ? c * D + v : v * D + c];
                const double error = (double)w->final_state[(h * D + v) * D + c] - want;
                state_error += error * error;
                state_norm += want * want;
            }
    }
    if (!(sqrt(out_error / out_norm) < 2e-3 && sqrt(state_error / state_norm) < 1e-5)) {
        fprintf(stderr, "fkda_bench_cpu: %s disagrees: out %.1e, state %.1e\n", variant_names[variant], sqrt(out_error / out_norm),
                sqrt(state_error / state_norm));
        exit(1);
    }
}

static void print_row(const options *o, const char *what, const sample *s, double ratio, const char *ratio_name)
{
    if (o->is_json)
        printf("{\"case\":\"T%lld_H%d_D%d\",\"isa\":\"%s\",\"what\":\"%s\",\"ns_per_token_head\":%.1f,\"low\":%.1f,\"high\":%.1f,\"%s\":%.2f}\n",
               (long long)o->T, H, D, o->isa, what, s->median, s->low, s->high, ratio_name, ratio);
    else
        printf("  %-8s %-22s %10.0f   (%.0f .. %.0f)   %6.2fx\n", o->isa, what, s->median, s->low, s->high, ratio);
}

/* One thread by its CPU time, between plain loops. */
static void measure_loops(const options *o, workload *w, plain_loop *const *loop)
{
    static sample one, plain[VARIANTS];
    for (int r = 0; r < o->repeats; ++r) {
        double cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
        run_flashkda(w, 1);
        one.ns[r] = (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu) * 1e9 / (double)(o->T * H);
        for (int x = 0; x < VARIANTS; ++x) {
            cpu = seconds(CLOCK_THREAD_CPUTIME_ID);
            for (int h = 0; h < variant_heads[x]; ++h) run_plain(w, loop[x], h);
            plain[x].ns[r] = (seconds(CLOCK_THREAD_CPUTIME_ID) - cpu) * 1e9 / (double)(o->T * variant_heads[x]);
        }
    }
    summarise(&one, o->repeats);
    print_row(o, "flashkda", &one, 1, "ratio");
    for (int x = 0; x < VARIANTS; ++x) {
        char what[32];
        summarise(&plain[x], o->repeats);
        snprintf(what, sizeof what, "plain %s", variant_names[x]);
        print_row(o, what, &plain[x], plain[x].median / one.median, "flashkda_is_faster_by");
    }
}

/* Wall time of a call, ns per token-head. */
static double time_of(workload *w, int threads) { return time_call(w, threads) / (double)(w->desc.T * H); }

typedef struct solo_call {
    workload *w;
    double ns;
} solo_call;

static void *run_solo(void *context)
{
    solo_call *const call = context;
    call->ns = time_of(call->w, 1);
    return NULL;
}

/* Two calls of one thread each, at the same time, each on tensors of its own: ns per token-head of both together, from the sum of their rates. */
static double time_two_calls(workload *a, workload *b)
{
    solo_call here = {.w = a}, there = {.w = b};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_solo, &there) != 0) die("pthread_create");
    run_solo(&here);
    pthread_join(thread, NULL);
    return 1 / (1 / here.ns + 1 / there.ns);
}

/* One thread, two threads and two calls in turns, by wall time; the ratios are medians over the rounds. Many: wall time is where other programs show. */
static void measure_threads(const options *o, workload *w)
{
    static sample together, apart, together_ratio, apart_ratio;
    workload other = make_workload(o->T, H);
    const int rounds = ROUNDS_PER_REPEAT * o->repeats < MAX_REPEATS ? ROUNDS_PER_REPEAT * o->repeats : MAX_REPEATS;
    for (int r = 0; r < rounds; ++r) {
        const double one = time_of(w, 1);
        together.ns[r] = time_of(w, 2);
        apart.ns[r] = time_two_calls(w, &other);
        together_ratio.ns[r] = one / together.ns[r];
        apart_ratio.ns[r] = one / apart.ns[r];
    }
    summarise(&together, rounds);
    summarise(&apart, rounds);
    summarise(&together_ratio, rounds);
    summarise(&apart_ratio, rounds);
    print_row(o, "flashkda, 2 threads", &together, together_ratio.median, "faster_than_one_thread_by");
    print_row(o, "flashkda, 2 calls", &apart, apart_ratio.median, "faster_than_one_thread_by");
}

static void measure(const options *o, plain_loop *const *loop)
{
    workload w = make_workload(o->T, H);
    run_flashkda(&w, 2);
    run_flashkda(&w, 1);
    for (int x = 0; x < VARIANTS; ++x) check_agreement(&w, x, loop[x]);
    measure_loops(o, &w, loop);
    measure_threads(o, &w);
    fflush(stdout);
}

/* The library reads FKDA_CPU_ISA once: each instruction set is a process of its own. */
static int measure_in_child(char **argv, const char *isa)
{
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        setenv("FKDA_CPU_ISA", isa, 1);
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    int status = 1;
    if (child < 0 || waitpid(child, &status, 0) < 0) return 1;
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static options parse(int argc, char **argv)
{
    options o = {.T = 1024, .repeats = 9};
    for (int i = 1; i < argc; ++i) {
        const int has_value = i + 1 < argc;
        if (strcmp(argv[i], "--quick") == 0) {
            o.T = 256;
            o.repeats = 5;
        } else if (strcmp(argv[i], "--json") == 0) o.is_json = 1;
        else if (strcmp(argv[i], "--isa") == 0 && has_value) o.isa = argv[++i];
        else if (strcmp(argv[i], "--tokens") == 0 && has_value) o.T = strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--repeats") == 0 && has_value) o.repeats = (int)strtol(argv[++i], NULL, 10);
        else if (strcmp(argv[i], "--busy") == 0 && has_value) {
            o.is_busy = 1;
            o.neighbours = (int)strtol(argv[++i], NULL, 10);
        }
        else {
            fprintf(stderr, "usage: fkda_bench_cpu [--quick] [--json] [--isa scalar|avx2|avx512|neon] [--tokens T] [--repeats N] [--busy N]\n");
            exit(2);
        }
    }
    if (o.T < 1 || o.T > 1 << 16 || o.repeats < 1 || o.repeats > MAX_REPEATS || o.neighbours < 0 || o.neighbours > MAX_NEIGHBOURS) {
        fprintf(stderr, "fkda_bench_cpu: --tokens is 1 to 65536, --repeats 1 to %d, --busy 0 to %d\n", MAX_REPEATS, MAX_NEIGHBOURS);
        exit(2);
    }
    return o;
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    const char *const forced = getenv("FKDA_CPU_ISA");
    if (forced != NULL && *forced != 0) {
        char text[256];
        if (o.isa == NULL) o.isa = forced;
        if (fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
            printf("  %-8s %s\n", o.isa, text);
            return 0;
        }
        for (int i = 0; i < ISA_COUNT; ++i)
            if (strcmp(plain_loops[i].isa, forced) == 0 && !o.is_busy) measure(&o, plain_loops[i].loop);
        if (o.is_busy) measure_busy(o.isa, o.neighbours, o.is_json);
        return 0;
    }
    if (o.is_busy && !o.is_json) printf("wall time of a call beside %d busy processes, ms\n", o.neighbours);
    if (!o.is_busy && !o.is_json)
        printf("KDA on the CPU, T = %lld, H = %d, K = V = %d, bf16, bounded gate\n"
               "  %-8s %-22s ns per token-head (quartiles)   flashkda is faster by\n",
               (long long)o.T, H, D, "isa", "");
    int failures = 0;
    for (int i = 0; i < ISA_COUNT; ++i)
        if (o.isa == NULL || strcmp(o.isa, plain_loops[i].isa) == 0) failures += measure_in_child(argv, plain_loops[i].isa);
    return failures != 0;
}

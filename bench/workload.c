#define _GNU_SOURCE
#include "workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

_Noreturn void die(const char *what)
{
    fprintf(stderr, "fkda_bench_cpu: %s: %s\n", what, fkda_last_error());
    exit(1);
}

static void *allocate(size_t bytes)
{
    void *const memory = aligned_alloc(FKDA_WORKSPACE_ALIGN, (bytes / FKDA_WORKSPACE_ALIGN + 1) * FKDA_WORKSPACE_ALIGN);
    if (memory == NULL) die("out of memory");
    return memory;
}

static float uniform(uint64_t *state)    /* [-1, 1) */
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(*state >> 40) * 0x1p-23f - 1;
}

static uint16_t *random_bf16(int64_t count, float amplitude, uint64_t *state)
{
    uint16_t *const data = allocate((size_t)count * sizeof *data);
    for (int64_t i = 0; i < count; ++i) {
        const float x = amplitude * uniform(state);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        data[i] = (uint16_t)(bits >> 16);
    }
    return data;
}

float from_bf16(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

workload make_workload(int64_t T, int64_t H)
{
    uint64_t state = 1;
    workload w = {.desc = {.struct_size = sizeof w.desc, .backend = FKDA_BACKEND_CPU, .threads = 2, .B = 1, .T = T, .H = H, .K = D, .V = D,
                           .A_log = FKDA_F32, .dt_bias = FKDA_F32, .lower_bound = -5, .scale = 0.08838834764f,
                           .final_state = {.dtype = FKDA_F32, .layout = FKDA_STATE_NHVK}}};
    w.q = random_bf16(T * H * D, 1, &state);
    w.k = random_bf16(T * H * D, 1, &state);
    w.v = random_bf16(T * H * D, 1, &state);
    w.g = random_bf16(T * H * D, 2, &state);
    w.beta = random_bf16(T * H, 2, &state);
    w.out = allocate((size_t)(T * H * D) * 2);
    w.plain_out = allocate((size_t)(T * H * D) * 2);
    w.A_log = allocate((size_t)H * sizeof(float));
    w.dt_bias = allocate((size_t)H * D * sizeof(float));
    for (int h = 0; h < H; ++h) w.A_log[h] = 1 + uniform(&state);
    for (int i = 0; i < H * D; ++i) w.dt_bias[i] = -3 + uniform(&state);
    w.final_state = allocate((size_t)H * D * D * sizeof(float));
    w.plain_state = allocate((size_t)D * D * sizeof(float));
    w.args = (fkda_fwd_args){.struct_size = sizeof w.args, .q = w.q, .k = w.k, .v = w.v, .g = w.g, .beta = w.beta, .out = w.out,
                             .A_log = w.A_log, .dt_bias = w.dt_bias, .final_state = w.final_state};
    if (fkda_fwd_workspace_size(&w.desc, &w.workspace_bytes) != FKDA_OK) die("workspace");
    w.workspace = allocate(w.workspace_bytes);
    return w;
}

void run_flashkda(workload *w, int threads)
{
    w->desc.threads = threads;
    if (fkda_fwd(&w->desc, &w->args, w->workspace, w->workspace_bytes, NULL) != FKDA_OK) die("fkda_fwd");
}

double time_call(workload *w, int threads)
{
    const double start = seconds(CLOCK_MONOTONIC);
    run_flashkda(w, threads);
    return (seconds(CLOCK_MONOTONIC) - start) * 1e9;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void summarise(sample *s, int count)
{
    qsort(s->ns, (size_t)count, sizeof *s->ns, by_value);
    s->median = s->ns[count / 2];
    s->low = s->ns[count / 4];
    s->high = s->ns[(3 * count) / 4];
    s->p90 = s->ns[(9 * count) / 10];
}

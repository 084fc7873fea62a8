/*
 * fkda_decode on the CPU against what its bytes cost: a plain loop over the same states that reads and writes them in place, on as many threads; and
 * against a plain token loop in C, compiled for the machine at hand. Repetitions are interleaved; medians.
 *
 *     fkda_bench_decode [--repeats N] [--threads N]
 *
 * One new token of each sequence, fp32 states, K = V = 128, bf16 inputs, bounded gate.
 */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flashkda.h"

enum { D = 128, MATRIX = D * D, H = 4, MAX_REPEATS = 101, MAX_THREADS = 64 };

typedef struct problem {
    fkda_decode_desc desc;
    fkda_decode_args args;
    void *workspace;
    size_t workspace_bytes;
    int64_t states;
    float *pool;
    uint16_t *rows[4], *beta, *out;    /* q k v g */
} problem;

static void *must_alloc(size_t bytes)
{
    void *const memory = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (memory == NULL) {
        fprintf(stderr, "fkda_bench_decode: out of memory: %zu bytes\n", bytes);
        exit(1);
    }
    return memory;
}

static uint32_t random_word(uint32_t *x)
{
    *x ^= *x << 13, *x ^= *x >> 17, *x ^= *x << 5;
    return *x;
}

static uint16_t *random_bf16(int64_t count, uint32_t seed)
{
    uint16_t *const x = must_alloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t word = random_word(&seed);
        x[i] = (uint16_t)((word & 0x8000u) | (0x3e00u + (word >> 16) % 0x1c0u));
    }
    return x;
}

static problem make_problem(int64_t N, fkda_state_layout layout, int threads)
{
    problem p = {.states = N * H, .pool = must_alloc((size_t)(N * H * MATRIX) * sizeof(float)), .beta = random_bf16(N * H, 9)};
    p.desc = (fkda_decode_desc){.struct_size = sizeof p.desc, .backend = FKDA_BACKEND_CPU, .threads = threads, .N = N, .S = 1, .H = H, .K = D, .V = D,
                                .lower_bound = -5, .scale = 0.0884f, .state = {.dtype = FKDA_F32, .layout = layout}};
    for (uint32_t i = 0; i < 4; ++i) p.rows[i] = random_bf16(N * H * D, i + 1);
    for (int64_t i = 0; i < N * H * D; ++i) p.rows[3][i] = (uint16_t)(0xc0c0u + p.rows[3][i] % 64);    /* -6 ... -8: the same token again and again must not leave subnormal numbers */
    p.out = random_bf16(N * H * D, 5);
    for (int64_t i = 0; i < p.states * MATRIX; ++i) p.pool[i] = (float)(i % 251) * 0.01f - 1.25f;
    p.args = (fkda_decode_args){.struct_size = sizeof p.args, .q = p.rows[0], .k = p.rows[1], .v = p.rows[2], .g = p.rows[3], .beta = p.beta,
                                .out = p.out, .state = p.pool};
    if (fkda_decode_workspace_size(&p.desc, &p.workspace_bytes) != FKDA_OK) {
        fprintf(stderr, "fkda_bench_decode: %s\n", fkda_last_error());
        exit(1);
    }
    p.workspace = must_alloc(p.workspace_bytes);
    return p;
}

static void free_problem(problem *p)
{
    for (int i = 0; i < 4; ++i) free(p->rows[i]);
    free(p->beta);
    free(p->out);
    free(p->pool);
    free(p->workspace);
}

/* ---------------------------------------------------------------- what is timed */

static void decode(problem *p, int threads)
{
    (void)threads;
    if (fkda_decode(&p->desc, &p->args, p->workspace, p->workspace_bytes, NULL) == FKDA_OK) return;
    fprintf(stderr, "fkda_bench_decode: %s\n", fkda_last_error());
    exit(1);
}

typedef struct part {
    float *data;
    int64_t count;
} part;

static void *pass(void *context)
{
    const part *const x = context;
    for (int64_t i = 0; i < x->count; ++i) x->data[i] *= 0.99999f;
    return NULL;
}

/* The same bytes, read and written. */
static void pass_over(problem *p, int threads)
{
    pthread_t thread[MAX_THREADS];
    part parts[MAX_THREADS];
    for (int i = 0; i < threads; ++i) {
        const int64_t first = p->states * i / threads, end = p->states * (i + 1) / threads;
        parts[i] = (part){p->pool + first * MATRIX, (end - first) * MATRIX};
        if (i > 0 && pthread_create(&thread[i], NULL, pass, &parts[i]) != 0) exit(1);
    }
    pass(&parts[0]);
    for (int i = 1; i < threads; ++i) pthread_join(thread[i], NULL);
}

static float widened(uint16_t x)
{
    const uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A head by a plain loop: S [V,K], dots along K. */
static void plain_head(problem *p, int64_t i)
{
    float q[D], k[D], a[D], kk = 1e-6f, qq = 1e-6f;
    for (int c = 0; c < D; ++c) {
        q[c] = widened(p->rows[0][i * D + c]), k[c] = widened(p->rows[1][i * D + c]);
        a[c] = expf(p->desc.lower_bound / (1 + expf(-widened(p->rows[3][i * D + c]))));
        kk += k[c] * k[c], qq += q[c] * q[c];
    }
    for (int c = 0; c < D; ++c) q[c] *= p->desc.scale / sqrtf(qq), k[c] /= sqrtf(kk);
    const float beta = 1 / (1 + expf(-widened(p->beta[i])));
    for (int v = 0; v < D; ++v) {
        float *const S = p->pool + i * MATRIX + v * D, with_k = 0, o = 0;
        for (int c = 0; c < D; ++c) S[c] *= a[c], with_k += S[c] * k[c];
        const float u = beta * (widened(p->rows[2][i * D + v]) - with_k);
        for (int c = 0; c < D; ++c) S[c] += k[c] * u, o += S[c] * q[c];
        uint32_t bits;
        memcpy(&bits, &o, sizeof bits);
        p->out[i * D + v] = (uint16_t)(bits >> 16);
    }
}

static void plain(problem *p, int threads)
{
    (void)threads;
    for (int64_t i = 0; i < p->states; ++i) plain_head(p, i);
}

/* ---------------------------------------------------------------- time */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int count)
{
    qsort(x, (size_t)count, sizeof *x, compare);
    return x[count / 2];
}

/* Microseconds of a call, over enough of them to be read. */
static double time_of(void (*what)(problem *, int), problem *p, int threads)
{
    const int calls = p->states < 256 ? (int)(512 / p->states) : 1;
    const double from = seconds();
    for (int i = 0; i < calls; ++i) what(p, threads);
    return 1e6 * (seconds() - from) / calls;
}

static void measure(int64_t N, fkda_state_layout layout, int threads, int repeats)
{
    double ours[MAX_REPEATS], bytes[MAX_REPEATS], loop[MAX_REPEATS];
    problem p = make_problem(N, layout, threads);
    for (int r = -1; r < repeats; ++r) {    /* the first turn warms up */
        const int at = r < 0 ? 0 : r;
        ours[at] = time_of(decode, &p, threads);
        bytes[at] = time_of(pass_over, &p, threads);
        loop[at] = time_of(plain, &p, threads);
    }
    const double us = median(ours, repeats), roof = median(bytes, repeats), plain_us = median(loop, repeats);
    printf("%7lld %8.1f  %-5s %7d %11.1f %11.1f %7.0f %% %11.1f %6.1fx\n", (long long)p.states, (double)(p.states * MATRIX) * 4e-6,
           layout == FKDA_STATE_NHVK ? "[V,K]" : "[K,V]", threads, us, roof, 100 * roof / us, plain_us, plain_us / us);
    fflush(stdout);
    free_problem(&p);
}

int main(int argc, char **argv)
{
    int repeats = 11, most = 2;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--repeats") == 0) repeats = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--threads") == 0) most = atoi(argv[i + 1]);
        else argc = 0;
    }
    if (argc % 2 == 0 || repeats < 1 || repeats > MAX_REPEATS || most < 1 || most > MAX_THREADS) {
        fprintf(stderr, "usage: fkda_bench_decode [--repeats 1 ... %d] [--threads 1 ... %d]\n", MAX_REPEATS, MAX_THREADS);
        return 2;
    }
    char text[256] = "";
    fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text);
    printf("decode on the CPU (%s), one token, fp32 states, K = V = %d\n%7s %8s  %-5s %7s %11s %11s %9s %11s %7s\n", text, D, "states", "MB", "axes",
           "threads", "us", "bytes, us", "of bytes", "plain, us", "faster");
    for (int threads = 1; threads <= most; threads *= 2)
        for (int layout = 0; layout < 2; ++layout)
            for (int64_t N = 1; N <= 1024; N *= 4)
                if (N == 1 || N == 16 || N >= 256) measure(N, (fkda_state_layout)layout, threads, repeats);
    return 0;
}

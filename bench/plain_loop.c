/* See plain_loop.h. PLAIN_ISA is the suffix of the functions that this compilation makes. */
#include "plain_loop.h"

#include <math.h>
#include <string.h>

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define NAMED(name) JOIN(name, PLAIN_ISA)

enum { W = PLAIN_WIDTH };

typedef struct token {
    float q[W], k[W], v[W], decay[W], beta;
} token;

static float from_bf16(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

static uint16_t to_bf16(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static void read_normalised(const uint16_t *x, float factor, float *row)
{
    float squares = 0;
    for (int c = 0; c < W; ++c) row[c] = from_bf16(x[c]);
#pragma omp simd reduction(+ : squares)
    for (int c = 0; c < W; ++c) squares += row[c] * row[c];
    const float f = factor / sqrtf(squares + 1e-6f);
    for (int c = 0; c < W; ++c) row[c] *= f;
}

static void read_token(const plain_head *h, int64_t t, token *x)
{
    const int64_t at = t * h->qkvg_stride;
    read_normalised(h->q + at, h->scale, x->q);
    read_normalised(h->k + at, 1, x->k);
    for (int c = 0; c < W; ++c) x->v[c] = from_bf16(h->v[at + c]);
    for (int c = 0; c < W; ++c) {
        const float z = h->rate * (from_bf16(h->g[at + c]) + h->dt_bias[c]);
        x->decay[c] = expf(h->lower_bound / (1 + expf(-z)));
    }
    x->beta = 1 / (1 + expf(-from_bf16(h->beta[t * h->beta_stride])));
}

static void write_out(const plain_head *h, int64_t t, const float *out)
{
    for (int v = 0; v < W; ++v) h->out[t * h->qkvg_stride + v] = to_bf16(out[v]);
}

void NAMED(plain_rows__)(const plain_head *h)
{
    token x;
    float out[W];
    for (int64_t t = 0; t < h->T; ++t) {
        read_token(h, t, &x);
        for (int v = 0; v < W; ++v) {
            float *const row = h->state + v * W;
            for (int c = 0; c < W; ++c) row[c] *= x.decay[c];
            float sum = 0;
            for (int c = 0; c < W; ++c) sum += row[c] * x.k[c];
            const float u = x.beta * (x.v[v] - sum);
            for (int c = 0; c < W; ++c) row[c] += x.k[c] * u;
            sum = 0;
            for (int c = 0; c < W; ++c) sum += row[c] * x.q[c];
            out[v] = sum;
        }
        write_out(h, t, out);
    }
}

void NAMED(plain_dots__)(const plain_head *h)
{
    token x;
    float out[W];
    for (int64_t t = 0; t < h->T; ++t) {
        read_token(h, t, &x);
        for (int v = 0; v < W; ++v) {
            float *const row = h->state + v * W;
            for (int c = 0; c < W; ++c) row[c] *= x.decay[c];
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int c = 0; c < W; ++c) sum += row[c] * x.k[c];
            const float u = x.beta * (x.v[v] - sum);
            for (int c = 0; c < W; ++c) row[c] += x.k[c] * u;
            sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int c = 0; c < W; ++c) sum += row[c] * x.q[c];
            out[v] = sum;
        }
        write_out(h, t, out);
    }
}

void NAMED(plain_columns__)(const plain_head *h)
{
    token x;
    float u[W], out[W];
    for (int64_t t = 0; t < h->T; ++t) {
        read_token(h, t, &x);
        memset(u, 0, sizeof u);
        for (int c = 0; c < W; ++c) {
            float *const row = h->state + c * W;
            for (int v = 0; v < W; ++v) {
                row[v] *= x.decay[c];
                u[v] += row[v] * x.k[c];
            }
        }
        for (int v = 0; v < W; ++v) u[v] = x.beta * (x.v[v] - u[v]);
        memset(out, 0, sizeof out);
        for (int c = 0; c < W; ++c) {
            float *const row = h->state + c * W;
            for (int v = 0; v < W; ++v) {
                row[v] += x.k[c] * u[v];
                out[v] += row[v] * x.q[c];
            }
        }
        write_out(h, t, out);
    }
}

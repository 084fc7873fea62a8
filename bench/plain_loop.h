/*
 * What flashkda's CPU backend is measured against: one (sequence, value head) of KDA, token by token, in plain fp32 C. From the same raw bf16
 * inputs, with the same bounded gate and normalisation, exponentials by libm. Compiled once per instruction set with the flags of the
 * micro-kernels of that name.
 *
 *     rows     ggml's structure: S stored [V,K]; per token four passes over the state: decay, dot with k, axpy, dot with q. As the compiler takes it
 *     dots     the same, the two dots with `omp simd reduction`, which is what ggml's hand-written dot does
 *     columns  the same recurrence on S stored [K,V]: nothing is left to reduce, everything vectorises. The strongest plain loop
 */
#ifndef BENCH_PLAIN_LOOP_H
#define BENCH_PLAIN_LOOP_H

#include <stdint.h>

enum { PLAIN_WIDTH = 128 };    /* K = V */

/* One head; every pointer is its first token's row, strides are between tokens. */
typedef struct plain_head {
    int64_t T, qkvg_stride, beta_stride;
    const uint16_t *q, *k, *v, *g, *beta;    /* bf16 [T,128], beta [T] */
    float rate, lower_bound, scale;          /* exp(A_log) */
    const float *dt_bias;                    /* [128] */
    uint16_t *out;                           /* bf16 [T,128], stride of q */
    float *state;                            /* [128,128], zero on entry */
} plain_head;

typedef void plain_loop(const plain_head *head);

plain_loop plain_rows__scalar, plain_dots__scalar, plain_columns__scalar;
plain_loop plain_rows__avx2, plain_dots__avx2, plain_columns__avx2;
plain_loop plain_rows__avx512, plain_dots__avx512, plain_columns__avx512;
plain_loop plain_rows__neon, plain_dots__neon, plain_columns__neon;

#endif

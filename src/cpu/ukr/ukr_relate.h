/* How the tokens of a chunk see each other: A, M, and the decayed operands, one group of 4 tokens after another.
 *
 * Inside a group each earlier key is decayed token by token, in registers, as the recurrence itself does:
 *     w_j = k^_j prod_{j<t<=i} a_t,    A_ij = b_i sum_c k^_ic w_jc,    M_ij = scale sum_c q^_ic w_jc
 * A pair in two groups meets at the border b between them: left factor Kr_j = k^_j prod_{j<t<b} a_t, right factor
 * k^_i prod_{b<=t<=i} a_t. Kr is carried to the next border by the group's whole product, and at the end of the chunk it is the Kr of S'.
 */
#include "ukr.h"
#include "vec_math.h"

enum { G = FKDAI_CPU_GROUP, W = FKDAI_CPU_MAX_WIDTH };

/* Right factors of one group, anchored at its first token. */
typedef struct group_operands {
    _Alignas(64) float k[G][W];    /* k^_i prod_{b<=t<=i} a_t [G,K] */
    float q[G][W];                 /* scale q^_i prod [G,K] */
    float decay[W];                /* product of the whole group [K] */
} group_operands;

#define M_AT(i, j) ((i) * ((i) + 1) / 2 + (j))           /* 10 entries, j <= i */
#define A_AT(i, j) (10 + (i) * ((i) - 1) / 2 + (j))      /* 6 entries, j < i */

/* Pairs inside the group; K+, Q+, Kr of its rows. Nothing lies before the first group: it has no border and needs no right factors;
 * with the constant b = 0 that part folds away. */
ALWAYS_INLINE void relate_inside(const fkdai_cpu_group *group, const int b, int64_t K, fkdai_cpu_chunk *chunk, group_operands *right)
{
    vf acc[16];
    UNROLL for (int n = 0; n < 16; ++n) acc[n] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) {
        vf before = v_set1(1.0f);
        if (b != 0) before = v_load(chunk->decay_cum + c);
        vf w[G], inside = v_set1(1.0f);
        UNROLL for (int i = 0; i < G; ++i) {
            const vf a = v_load(group->alpha[i] + c), k = v_load(group->k[i] + c), q = v_load(group->q[i] + c);
            UNROLL for (int j = 0; j < i; ++j) {
                w[j] = w[j] * a;
                acc[A_AT(i, j)] = v_fma(k, w[j], acc[A_AT(i, j)]);
                acc[M_AT(i, j)] = v_fma(q, w[j], acc[M_AT(i, j)]);
            }
            w[i] = k;
            acc[M_AT(i, i)] = v_fma(q, k, acc[M_AT(i, i)]);
            inside = inside * a;
            if (b != 0) {
                v_store(right->k[i] + c, k * inside);
                v_store(right->q[i] + c, q * inside);
            }
            v_store(chunk->k_decayed[G * b + i] + c, k * inside * before);
            v_store(chunk->q_decayed[G * b + i] + c, q * inside * before);
        }
        UNROLL for (int j = 0; j < G; ++j) v_store(chunk->k_restored[G * b + j] + c, w[j]);
        if (b != 0) v_store(right->decay + c, inside);
        v_store(chunk->decay_cum + c, before * inside);
    }
    float sums[16];
    v_sum16(acc, sums);
    for (int i = 0; i < G; ++i) {
        for (int j = 0; j < i; ++j) chunk->akk[G * b + i][G * b + j] = chunk->beta[G * b + i] * sums[A_AT(i, j)];
        for (int j = 0; j <= i; ++j) chunk->mqk[G * b + i][G * b + j] = sums[M_AT(i, j)];
    }
}

/* sums [G,G] = rows [G,K] columns [G,K]^T. With decay [K], the columns are multiplied by it once they are used. */
ALWAYS_INLINE void multiply_groups(const float (*rows)[W], float (*columns)[W], const float *decay, int64_t K, float *sums)
{
    vf acc[G * G];
    UNROLL for (int n = 0; n < G * G; ++n) acc[n] = v_set1(0.0f);
    for (int64_t c = 0; c < K; c += VL) {
        vf column[G];
        UNROLL for (int j = 0; j < G; ++j) column[j] = v_load(columns[j] + c);
        UNROLL for (int i = 0; i < G; ++i) {
            const vf row = v_load(rows[i] + c);
            UNROLL for (int j = 0; j < G; ++j) acc[G * i + j] = v_fma(row, column[j], acc[G * i + j]);
        }
        if (decay != NULL)
            UNROLL for (int j = 0; j < G; ++j) v_store(columns[j] + c, column[j] * v_load(decay + c));
    }
    v_sum16(acc, sums);
}

static void relate_group(const fkdai_cpu_group *group, int b, int64_t K, fkdai_cpu_chunk *chunk)
{
    group_operands right;
    if (b == 0) {
        relate_inside(group, 0, K, chunk, &right);
        return;
    }
    relate_inside(group, b, K, chunk, &right);
    for (int a = 0; a < b; ++a) {
        float (*const left)[W] = &chunk->k_restored[G * a];
        float akk[G * G], mqk[G * G];
        multiply_groups((const float (*)[W])right.k, left, NULL, K, akk);
        multiply_groups((const float (*)[W])right.q, left, right.decay, K, mqk);
        for (int i = 0; i < G; ++i)
            for (int j = 0; j < G; ++j) {
                chunk->akk[G * b + i][G * a + j] = chunk->beta[G * b + i] * akk[G * i + j];
                chunk->mqk[G * b + i][G * a + j] = mqk[G * i + j];
            }
    }
}

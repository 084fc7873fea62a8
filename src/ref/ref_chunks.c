/* KDA, chunk by chunk: C tokens at once. docs/algorithm.md derives it; the symbols are its own.
 *
 *     gamma_i = sum_{j<=i} log a_j                                                        [C,K]
 *     A_ij = b_i sum_c k^_ic k^_jc e^(gamma_ic - gamma_jc)   (j < i)                      [C,C]
 *     M_ij = scale sum_c q^_ic k^_jc e^(gamma_ic - gamma_jc) (j <= i)                     [C,C]
 *     T  = (I + A)^-1 Diag(b)                                                             [C,C]
 *     R  = V - K+ S,      K+_i = k^_i e^gamma_i                                           [C,V]
 *     U  = T R                                                                            [C,V]
 *     O  = Q+ S + M U,    Q+_i = scale q^_i e^gamma_i                                     [C,V]
 *     S' = Diag(e^gamma_C) S + Kr^T U,    Kr_j = k^_j e^(gamma_C - gamma_j)               [K,V]
 *
 * No exponent is ever positive.
 */
#include <math.h>

#include "ref.h"

enum { C = FKDAI_REF_CHUNK, W = FKDAI_REF_MAX_WIDTH };

/* One chunk; rows >= len do not exist. */
typedef struct chunk {
    int len;
    int64_t K, V;
    double scale;
    fkdai_ref_token token[C];
    double gate_cum[C][W];      /* gamma */
    double akk[C][C];           /* A */
    double mqk[C][C];           /* M */
    double solve[C][C];         /* T */
    double update[C][W];        /* R, then U */
} chunk;

static void sum_gates(chunk *x)
{
    for (int i = 0; i < x->len; ++i)
        for (int64_t c = 0; c < x->K; ++c) x->gate_cum[i][c] = (i ? x->gate_cum[i - 1][c] : 0) + x->token[i].log_decay[c];
}

/* sum_c left_c k^_jc e^(gamma_ic - gamma_jc) */
static double decayed_dot(const chunk *x, const double *left, int i, int j)
{
    double sum = 0;
    for (int64_t c = 0; c < x->K; ++c) sum += left[c] * x->token[j].k[c] * exp(x->gate_cum[i][c] - x->gate_cum[j][c]);
    return sum;
}

static void relate_tokens(chunk *x)    /* A, M */
{
    for (int i = 0; i < x->len; ++i) {
        for (int j = 0; j < i; ++j) x->akk[i][j] = x->token[i].beta * decayed_dot(x, x->token[i].k, i, j);
        for (int j = 0; j <= i; ++j) x->mqk[i][j] = x->scale * decayed_dot(x, x->token[i].q, i, j);
    }
}

/* T: column j of (I + A) T = Diag(b), by forward substitution. */
static void solve_chunk(chunk *x)
{
    for (int j = 0; j < x->len; ++j)
        for (int i = 0; i < x->len; ++i) {
            double sum = i == j ? x->token[i].beta : 0;
            for (int l = j; l < i; ++l) sum -= x->akk[i][l] * x->solve[l][j];
            x->solve[i][j] = sum;
        }
}

/* left_i e^gamma_i S, column v */
static double read_state(const chunk *x, const double *S, const double *left, int i, int64_t v)
{
    double sum = 0;
    for (int64_t c = 0; c < x->K; ++c) sum += left[c] * exp(x->gate_cum[i][c]) * S[c * x->V + v];
    return sum;
}

static void make_updates(chunk *x, const double *S)    /* R = V - K+ S;  U = T R */
{
    for (int64_t v = 0; v < x->V; ++v) {
        double residual[C];
        for (int i = 0; i < x->len; ++i) residual[i] = x->token[i].v[v] - read_state(x, S, x->token[i].k, i, v);
        for (int i = 0; i < x->len; ++i) {
            double sum = 0;
            for (int j = 0; j <= i; ++j) sum += x->solve[i][j] * residual[j];
            x->update[i][v] = sum;
        }
    }
}

static void write_outputs(const chunk *x, const fkdai_ref_item *item, int64_t t0, const double *S)    /* O = Q+ S + M U */
{
    for (int i = 0; i < x->len; ++i) {
        double out[W];
        for (int64_t v = 0; v < x->V; ++v) {
            double sum = x->scale * read_state(x, S, x->token[i].q, i, v);
            for (int j = 0; j <= i; ++j) sum += x->mqk[i][j] * x->update[j][v];
            out[v] = sum;
        }
        fkdai_ref_write_out(item, t0 + i, out);
    }
}

static void advance_state(const chunk *x, double *S)    /* S' = Diag(e^gamma_C) S + Kr^T U */
{
    const double *const last = x->gate_cum[x->len - 1];
    for (int64_t c = 0; c < x->K; ++c)
        for (int64_t v = 0; v < x->V; ++v) {
            double sum = exp(last[c]) * S[c * x->V + v];
            for (int j = 0; j < x->len; ++j) sum += x->token[j].k[c] * exp(last[c] - x->gate_cum[j][c]) * x->update[j][v];
            S[c * x->V + v] = sum;
        }
}

void fkdai_ref_chunks(const fkdai_ref_item *item, double *S)
{
    chunk x = {.K = item->desc->K, .V = item->desc->V, .scale = (double)item->desc->scale};
    for (int64_t t0 = item->seq.begin; t0 < item->seq.end; t0 += C) {
        x.len = item->seq.end - t0 < C ? (int)(item->seq.end - t0) : C;
        for (int i = 0; i < x.len; ++i) fkdai_ref_read_token(item, t0 + i, &x.token[i]);
        sum_gates(&x);
        relate_tokens(&x);
        solve_chunk(&x);
        make_updates(&x, S);
        write_outputs(&x, item, t0, S);
        advance_state(&x, S);
    }
}

/* KDA, token by token:
 *
 *     S <- Diag(a) S;   u = b (v - S^T k^);   S <- S + k^ u^T;   o = scale * S^T q^
 */
#include <math.h>

#include "ref.h"

/* u [V] = b (v - S^T k^) */
static void correct(const fkdai_ref_token *token, const double *S, int64_t K, int64_t V, double *u)
{
    for (int64_t j = 0; j < V; ++j) {
        double predicted = 0;
        for (int64_t c = 0; c < K; ++c) predicted += S[c * V + j] * token->k[c];
        u[j] = token->beta * (token->v[j] - predicted);
    }
}

void fkdai_ref_step(const fkdai_ref_token *token, double scale, int64_t K, int64_t V, double *S, double *o)
{
    double u[FKDAI_REF_MAX_WIDTH];

    for (int64_t c = 0; c < K; ++c) {                    /* S <- Diag(a) S */
        const double a = exp(token->log_decay[c]);
        for (int64_t j = 0; j < V; ++j) S[c * V + j] *= a;
    }

    correct(token, S, K, V, u);

    for (int64_t c = 0; c < K; ++c)                      /* S <- S + k^ u^T */
        for (int64_t j = 0; j < V; ++j) S[c * V + j] += token->k[c] * u[j];

    for (int64_t j = 0; j < V; ++j) {                    /* o = scale S^T q^ */
        double sum = 0;
        for (int64_t c = 0; c < K; ++c) sum += S[c * V + j] * token->q[c];
        o[j] = scale * sum;
    }
}

void fkdai_ref_tokens(const fkdai_ref_item *item, double *S)
{
    fkdai_ref_token token;
    double o[FKDAI_REF_MAX_WIDTH];
    for (int64_t t = item->seq.begin; t < item->seq.end; ++t) {
        fkdai_ref_read_token(item, t, &token);
        fkdai_ref_step(&token, (double)item->desc->scale, item->desc->K, item->desc->V, S, o);
        fkdai_ref_write_out(item, t, o);
    }
}

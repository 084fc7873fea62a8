/* From the caller's tensors to one token in double, and back: activation, normalisation, strides. */
#include <math.h>
#include <string.h>

#include "dtype.h"
#include "ref.h"

#define NORM_EPS 1e-6
#define LOG_DECAY_MIN (-750.0)    /* exp of it is 0 in double; lower would cost the sums of the chunk form digits. docs/numerics.md */
#define A_LOG_MAX 700.0           /* exp of it is finite in double, so that no finite input gives inf * 0 */

double fkdai_ref_sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double exp_A_log(double A_log) { return exp(A_log > A_LOG_MAX ? A_LOG_MAX : A_log); }    /* NaN stays NaN */
static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

/* Element offset of row [heads = h] of token t. */
static int64_t row_at(const fkda_tensor_desc *desc, int64_t batch, int64_t t, int64_t h)
{
    return batch * desc->batch_stride + t * desc->token_stride + h * desc->head_stride;
}

static void read_row(const fkda_tensor_desc *desc, const void *base, int64_t offset, int64_t width, double *row)
{
    for (int64_t i = 0; i < width; ++i) row[i] = fkdai_load(base, desc->dtype, offset + i);
}

static void normalise(double *row, int64_t width)
{
    double squares = 0;
    for (int64_t i = 0; i < width; ++i) squares += row[i] * row[i];
    const double reciprocal = 1 / sqrt(squares + NORM_EPS);
    for (int64_t i = 0; i < width; ++i) row[i] *= reciprocal;
}

/* log a of one channel, from what the caller stored in g. */
static double log_decay_of(const fkda_fwd_desc *d, const fkda_fwd_args *a, int64_t hv, int64_t c, double g)
{
    double log_decay = g;
    if (d->gate != FKDA_GATE_PRECOMPUTED) {
        const double rate = d->A_log == FKDA_NONE ? 1 : exp_A_log(fkdai_load(a->A_log, d->A_log, hv));
        const double x = g + (d->dt_bias == FKDA_NONE ? 0 : fkdai_load(a->dt_bias, d->dt_bias, hv * d->K + c));
        log_decay = d->gate == FKDA_GATE_BOUNDED ? (double)d->lower_bound * fkdai_ref_sigmoid(rate * x) : -rate * softplus(x);
    }
    if (log_decay > 0) return 0;
    return log_decay < LOG_DECAY_MIN ? LOG_DECAY_MIN : log_decay;
}

void fkdai_ref_read_rows(const fkdai_ref_item *item, int64_t t, fkdai_ref_token *token)
{
    const fkda_fwd_desc *const d = item->desc;
    const fkda_fwd_args *const a = item->args;
    const int64_t batch = item->seq.batch, hv = item->hv, h = hv / (d->HV / d->H);    /* value head hv reads query/key head h */
    if (a->q == NULL) memset(token->q, 0, sizeof token->q);    /* nobody asks for out */
    else read_row(&d->q, a->q, row_at(&d->q, batch, t, h), d->K, token->q);
    read_row(&d->k, a->k, row_at(&d->k, batch, t, h), d->K, token->k);
    read_row(&d->v, a->v, row_at(&d->v, batch, t, hv), d->V, token->v);
    read_row(&d->g, a->g, row_at(&d->g, batch, t, hv), d->K, token->log_decay);
    token->beta = fkdai_load(a->beta, d->beta.dtype, row_at(&d->beta, batch, t, hv));
}

void fkdai_ref_activate(const fkdai_ref_item *item, fkdai_ref_token *token)
{
    const fkda_fwd_desc *const d = item->desc;
    if (d->qk_norm == FKDA_QK_NORM_L2) {
        normalise(token->q, d->K);
        normalise(token->k, d->K);
    }
    for (int64_t c = 0; c < d->K; ++c) token->log_decay[c] = log_decay_of(d, item->args, item->hv, c, token->log_decay[c]);
    token->beta = d->beta_multiplier * (d->beta_kind == FKDA_BETA_LOGIT ? fkdai_ref_sigmoid(token->beta) : token->beta);
}

void fkdai_ref_read_token(const fkdai_ref_item *item, int64_t t, fkdai_ref_token *token)
{
    fkdai_ref_read_rows(item, t, token);
    fkdai_ref_activate(item, token);
}

void fkdai_ref_write_out(const fkdai_ref_item *item, int64_t t, const double *out)
{
    const fkda_fwd_desc *const d = item->desc;
    if (item->args->out == NULL) return;
    const int64_t offset = row_at(&d->out, item->seq.batch, t, item->hv);
    for (int64_t j = 0; j < d->V; ++j) fkdai_store(item->args->out, d->out.dtype, offset + j, out[j]);
}

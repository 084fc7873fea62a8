/* One token with what stands around it in a layer, channel by channel:
 *
 *     y = bias + sum_i w_i t_i,  t = (the three taps before, x);   taps <- (t_1, t_2, x);   q, k, v = y sigmoid(y)
 *     S, o as of fkdai_ref_step
 *     out = o / sqrt(mean(o^2) + eps) * w * sigmoid(gate)
 */
#include <math.h>
#include <string.h>

#include "dtype.h"
#include "op_decode_fused.h"
#include "ref.h"

enum { TAPS = FKDA_CONV_WIDTH - 1 };

/* Channel c of q (part 0), k (1) or v (2). */
typedef struct channel {
    int part;
    int64_t h, c;
} channel;

/* The element of the pool: tap i of the channel. */
static char *tap_at(const fkdai_ref_fused *f, channel x, int i)
{
    const fkda_tensor_desc *const t = &f->desc->conv_state;
    const int64_t number = (x.part * f->desc->H + x.h) * f->desc->K + x.c;
    return (char *)f->args->conv_state + (f->row * t->batch_stride + i * t->token_stride + number * t->head_stride) * fkdai_dtype_bytes(t->dtype);
}

static double weight_of(const fkdai_ref_fused *f, channel x, int i)
{
    const void *const weights[] = {f->args->conv_weight_q, f->args->conv_weight_k, f->args->conv_weight_v};
    const fkda_tensor_desc *const w = &f->desc->conv_weight;
    return fkdai_load(weights[x.part], w->dtype, i * w->token_stride + x.h * w->head_stride + x.c);
}

static double bias_of(const fkdai_ref_fused *f, channel x)
{
    const void *const biases[] = {f->args->conv_bias_q, f->args->conv_bias_k, f->args->conv_bias_v};
    return f->desc->conv_bias == FKDA_NONE ? 0 : fkdai_load(biases[x.part], f->desc->conv_bias, x.h * f->desc->K + x.c);
}

static double convolve(const fkdai_ref_fused *f, channel x, double newest)
{
    double y = bias_of(f, x);
    for (int i = 0; i < TAPS; ++i) y += weight_of(f, x, i) * (f->starts_from_0 ? 0 : fkdai_load(tap_at(f, x, i), f->desc->conv_state.dtype, 0));
    return y + weight_of(f, x, TAPS) * newest;
}

/* x is moved as it lies. */
static void shift(const fkdai_ref_fused *f, channel x, const char *newest)
{
    const size_t element = (size_t)fkdai_dtype_bytes(f->desc->conv_state.dtype);
    for (int i = 0; i < TAPS; ++i) {
        const char *const from = i + 1 < TAPS ? tap_at(f, x, i + 1) : newest;
        if (i + 1 < TAPS && f->starts_from_0) memset(tap_at(f, x, i), 0, element);
        else memcpy(tap_at(f, x, i), from, element);
    }
}

static void convolve_row(const fkdai_ref_fused *f, const fkdai_ref_item *item, int part, const fkda_tensor_desc *t, const void *base, double *row)
{
    const char *const x = (const char *)base + (item->seq.batch * t->batch_stride + item->hv * t->head_stride) * fkdai_dtype_bytes(t->dtype);
    for (int64_t c = 0; c < f->desc->K; ++c) {
        const channel at = {part, item->hv, c};
        const double y = convolve(f, at, row[c]);
        shift(f, at, x + c * fkdai_dtype_bytes(t->dtype));
        row[c] = y * fkdai_ref_sigmoid(y);
    }
}

static void norm(const fkdai_ref_fused *f, const fkdai_ref_item *item, double *o)
{
    const fkda_decode_fused_desc *const d = f->desc;
    const int64_t first = item->seq.batch * d->output_gate.batch_stride + item->hv * d->output_gate.head_stride;
    double squares = 0;
    for (int64_t j = 0; j < d->V; ++j) squares += o[j] * o[j];
    const double reciprocal = 1 / sqrt(squares / (double)d->V + (double)d->norm_eps);
    for (int64_t j = 0; j < d->V; ++j)
        o[j] *= reciprocal * fkdai_load(f->args->norm_weight, d->norm_weight, j) *
                fkdai_ref_sigmoid(fkdai_load(f->args->output_gate, d->output_gate.dtype, first + j));
}

void fkdai_ref_fused_token(const fkdai_ref_fused *f, const fkdai_ref_item *item, double *S)
{
    const fkda_decode_fused_desc *const d = f->desc;
    double o[FKDAI_REF_MAX_WIDTH] = {0};
    fkdai_ref_token token;
    if (f->row >= 0) {
        fkdai_ref_read_rows(item, 0, &token);
        if (fkdai_has_conv(d)) {
            convolve_row(f, item, 0, &d->q, f->args->q, token.q);
            convolve_row(f, item, 1, &d->k, f->args->k, token.k);
            convolve_row(f, item, 2, &d->v, f->args->v, token.v);
        }
        fkdai_ref_activate(item, &token);
        fkdai_ref_step(&token, (double)d->scale, d->K, d->V, S, o);
        if (fkdai_has_norm(d)) norm(f, item, o);
    }
    fkdai_ref_write_out(item, 0, o);
}

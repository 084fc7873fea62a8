/* From the caller's tensors to the operands of a chunk, and back: dtypes, strides, activations, tails. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "cpu.h"
#include "dtype.h"

enum { C = FKDAI_CPU_CHUNK, G = FKDAI_CPU_GROUP, P = FKDAI_CPU_PANEL };

static const double log2_e = 1.4426950408889634;

/* Bytes from the tensor's first element to row [head] of token t. */
static int64_t offset_of(const fkdai_cpu_task *task, const fkda_tensor_desc *desc, int64_t t, int64_t head)
{
    return (task->seq.batch * desc->batch_stride + t * desc->token_stride + head * desc->head_stride) * fkdai_dtype_bytes(desc->dtype);
}

static const void *row_at(const fkdai_cpu_task *task, const fkda_tensor_desc *desc, const void *base, int64_t t, int64_t head)
{
    return (const char *)base + offset_of(task, desc, t, head);
}

/* Value head hv reads query/key head h. */
static int64_t query_head(const fkdai_cpu_task *task, int64_t hv) { return hv / (task->desc->HV / task->desc->H); }

void fkdai_cpu_read_gate(const fkdai_cpu_task *task, int64_t hv, fkdai_cpu_gate *gate)
{
    const fkda_fwd_desc *const d = task->desc;
    const fkda_fwd_args *const a = task->args;
    const double rate_log2 = (d->A_log == FKDA_NONE ? 1 : exp(fkdai_load(a->A_log, d->A_log, hv))) * log2_e;
    gate->kind = d->gate;
    /* Positive and finite, so that 0 times inf cannot happen; NaN stays. */
    gate->rate_log2 = rate_log2 > (double)FLT_MAX ? FLT_MAX : rate_log2 < (double)FLT_MIN ? FLT_MIN : (float)rate_log2;
    gate->lower_bound_log2 = (float)((double)d->lower_bound * log2_e);
    if (d->dt_bias == FKDA_NONE) memset(gate->bias, 0, sizeof gate->bias);
    else task->ukr->load_row((const char *)a->dt_bias + hv * d->K * fkdai_dtype_bytes(d->dt_bias), d->dt_bias, d->K, 0, 1, gate->bias);
}

void fkdai_cpu_read_betas(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, fkdai_cpu_scratch *s)
{
    const fkda_fwd_desc *const d = task->desc;
    const float multiplier = (float)d->beta_multiplier;
    for (int i = 0; i < C; ++i)
        s->chunk.beta[i] = i < len ? (float)fkdai_load(row_at(task, &d->beta, task->args->beta, t0 + i, hv), d->beta.dtype, 0) : 0;
    if (d->beta_kind == FKDA_BETA_LOGIT) task->ukr->sigmoid(multiplier, s->chunk.beta);
    else for (int i = 0; i < len; ++i) s->chunk.beta[i] *= multiplier;
    for (int i = len; i < C; ++i) s->chunk.beta[i] = 0;
}

void fkdai_cpu_read_group(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int b, int len, const fkdai_cpu_gate *gate,
                          fkdai_cpu_scratch *s)
{
    const fkda_fwd_desc *const d = task->desc;
    const fkda_fwd_args *const a = task->args;
    const int64_t h = query_head(task, hv);
    const int is_normalised = d->qk_norm == FKDA_QK_NORM_L2;
    for (int i = 0; i < G; ++i) {
        const int row = G * b + i;
        const int64_t t = t0 + row;
        if (row < len) {
            task->ukr->gate(gate, row_at(task, &d->g, a->g, t, hv), d->g.dtype, d->K, s->group.alpha[i], s->chunk.gate_cum);
            task->ukr->load_row(row_at(task, &d->k, a->k, t, h), d->k.dtype, d->K, is_normalised, 1, s->group.k[i]);
            task->ukr->load_row(row_at(task, &d->q, a->q, t, h), d->q.dtype, d->K, is_normalised, d->scale, s->group.q[i]);
        } else {
            for (int64_t c = 0; c < d->K; ++c) s->group.alpha[i][c] = 1;
            memset(s->group.k[i], 0, (size_t)d->K * sizeof(float));
            memset(s->group.q[i], 0, (size_t)d->K * sizeof(float));
        }
    }
}

void fkdai_cpu_read_token(const fkdai_cpu_task *task, int64_t hv, int64_t t, const fkdai_cpu_gate *gate, fkdai_cpu_scratch *s,
                          fkdai_cpu_token *token)
{
    const fkda_fwd_desc *const d = task->desc;
    const fkda_fwd_args *const a = task->args;
    const int64_t h = query_head(task, hv);
    const int is_normalised = d->qk_norm == FKDA_QK_NORM_L2;
    memset(s->chunk.gate_cum, 0, (size_t)d->K * sizeof s->chunk.gate_cum[0]);
    task->ukr->gate(gate, row_at(task, &d->g, a->g, t, hv), d->g.dtype, d->K, s->group.alpha[0], s->chunk.gate_cum);
    task->ukr->close(d->K, &s->chunk);
    memcpy(token->gate_last, s->chunk.gate_last, sizeof token->gate_last);
    memcpy(token->gate_keep, s->chunk.gate_keep, sizeof token->gate_keep);
    task->ukr->load_row(row_at(task, &d->k, a->k, t, h), d->k.dtype, d->K, is_normalised, 1, token->k);
    if (a->q == NULL) memset(token->q, 0, sizeof token->q);    /* nobody asks for out */
    else task->ukr->load_row(row_at(task, &d->q, a->q, t, h), d->q.dtype, d->K, is_normalised, d->scale, token->q);
}

void fkdai_cpu_read_values(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, fkdai_cpu_scratch *s)
{
    const fkda_tensor_desc *const desc = &task->desc->v;
    const int64_t columns = task->panel_count * P, column_bytes = task->first_panel * P * fkdai_dtype_bytes(desc->dtype);
    for (int i = 0; i < len; ++i)
        task->ukr->load_row((const char *)row_at(task, desc, task->args->v, t0 + i, hv) + column_bytes, desc->dtype, columns, 0, 1, s->v[i]);
}

void fkdai_cpu_write_out(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, const fkdai_cpu_scratch *s)
{
    const fkda_tensor_desc *const desc = &task->desc->out;
    const int64_t column_bytes = task->first_panel * P * fkdai_dtype_bytes(desc->dtype);
    for (int i = 0; i < len; ++i)
        task->ukr->store_row(s->out[i], task->panel_count * P, desc->dtype,
                             (char *)task->args->out + offset_of(task, desc, t0 + i, hv) + column_bytes);
}

static void prefetch_row(const void *row, int64_t bytes)
{
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)row + at, 0, 2);
}

void fkdai_cpu_prefetch(const fkdai_cpu_task *task, int64_t hv, int64_t begin, int64_t end)
{
    const fkda_fwd_desc *const d = task->desc;
    const fkda_fwd_args *const a = task->args;
    const int64_t h = query_head(task, hv);
    for (int64_t t = begin; t < end; ++t) {
        if (a->q != NULL) prefetch_row(row_at(task, &d->q, a->q, t, h), d->K * fkdai_dtype_bytes(d->q.dtype));
        prefetch_row(row_at(task, &d->k, a->k, t, h), d->K * fkdai_dtype_bytes(d->k.dtype));
        prefetch_row(row_at(task, &d->g, a->g, t, hv), d->K * fkdai_dtype_bytes(d->g.dtype));
        prefetch_row(row_at(task, &d->v, a->v, t, hv), d->V * fkdai_dtype_bytes(d->v.dtype));
    }
}

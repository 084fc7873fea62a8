/*
 * Decode with convolution and gated norm on the CPU: one head of one sequence at a time. The convolution writes q, k and v as fp32 rows, which the
 * functions of decode then read as if the caller had them.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "dtype.h"
#include "op_decode_fused.h"
#include "status.h"

enum { TAPS = FKDA_CONV_WIDTH - 1, W = FKDAI_CPU_MAX_WIDTH };

typedef struct fused_scratch {
    fkdai_cpu_decode_scratch decode;
    _Alignas(64) float row[3][W];                   /* q, k, v after the convolution */
    float factor[W], input[FKDA_CONV_WIDTH][W], gate[W];
} fused_scratch;
_Static_assert(sizeof(fused_scratch) <= 1 << 20, "at most 1 MiB a thread");
_Static_assert(W % FKDAI_CPU_CHUNK == 0 && 64 % FKDAI_CPU_CHUNK == 0, "the sigmoid takes a chunk of numbers");

typedef struct call {
    const fkda_decode_fused_desc *desc;
    const fkda_decode_fused_args *args;
    fkda_fwd_desc as_fwd;
    fkda_fwd_args args_as_fwd;
    fkdai_cpu_plan own;
    fused_scratch *scratch;    /* [threads] */
} call;

/* One head of one sequence. */
typedef struct head {
    const call *call;
    const fkdai_cpu_ukr *ukr;
    int64_t n, h, row;         /* row: of states and taps; FKDAI_NO_ROW: a null slot */
    fused_scratch *s;
} head;

fkda_status fkdai_cpu_plan_fused(fkdai_plan *plan)
{
    fkda_fwd_desc d;
    fkdai_cpu_plan own;
    fkdai_fused_as_fwd(&plan->desc.decode_fused, &d);
    const int64_t heads = d.N * d.HV;
    TRY(fkdai_cpu_plan_threads(&d, heads / FKDAI_CPU_STATES_PER_THREAD, &own));
    own.panels_per_task = (int32_t)(d.V / FKDAI_CPU_PANEL);
    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = (size_t)own.threads * sizeof(fused_scratch);
    snprintf(plan->choice, sizeof plan->choice, "%s, decode_fused, %lld state%s on %d thread%s", own.ukr->name, (long long)heads, heads == 1 ? "" : "s",
             (int)own.threads, own.threads == 1 ? "" : "s");
    return FKDA_OK;
}

/* ---------------------------------------------------------------- convolution */

/* q (part 0), k (1) or v (2) of a head. */
typedef struct part {
    const void *x, *weight, *bias;
    char *taps;                     /* its first channel */
} part;

static part part_of(const head *at, int i)
{
    const fkda_decode_fused_desc *const d = at->call->desc;
    const fkda_decode_fused_args *const a = at->call->args;
    const fkda_tensor_desc *const x[] = {&d->q, &d->k, &d->v}, *const taps = &d->conv_state;
    const void *const inputs[] = {a->q, a->k, a->v}, *const weights[] = {a->conv_weight_q, a->conv_weight_k, a->conv_weight_v};
    const void *const biases[] = {a->conv_bias_q, a->conv_bias_k, a->conv_bias_v};
    const int64_t element = fkdai_dtype_bytes(taps->dtype), channel = (i * d->H + at->h) * d->K;
    return (part){
        .x = (const char *)inputs[i] + (at->n * x[i]->batch_stride + at->h * x[i]->head_stride) * element,
        .weight = (const char *)weights[i] + at->h * d->conv_weight.head_stride * fkdai_dtype_bytes(d->conv_weight.dtype),
        .bias = d->conv_bias == FKDA_NONE ? NULL : (const char *)biases[i] + at->h * d->K * fkdai_dtype_bytes(d->conv_bias),
        .taps = (char *)a->conv_state + (at->row * taps->batch_stride + channel * taps->head_stride) * element,
    };
}

static char *tap_at(const head *at, const part *p, int i)
{
    const fkda_tensor_desc *const t = &at->call->desc->conv_state;
    return p->taps + i * t->token_stride * fkdai_dtype_bytes(t->dtype);
}

static int starts_from_0(const head *at) { return fkdai_is_masked(&at->call->as_fwd, &at->call->args_as_fwd, at->n); }

/* The taps and x, oldest first, as fp32. */
static void read_inputs(const head *at, const part *p, float (*input)[W])
{
    const fkda_decode_fused_desc *const d = at->call->desc;
    const fkda_tensor_desc *const t = &d->conv_state;
    for (int i = 0; i < TAPS; ++i) {
        if (starts_from_0(at)) memset(input[i], 0, sizeof input[i]);
        else if (t->head_stride == 1) at->ukr->load_row(tap_at(at, p, i), t->dtype, d->K, 0, 1, input[i]);
        else for (int64_t c = 0; c < d->K; ++c) input[i][c] = (float)fkdai_load(tap_at(at, p, i), t->dtype, c * t->head_stride);
    }
    at->ukr->load_row(p->x, t->dtype, d->K, 0, 1, input[TAPS]);
}

static void copy_elements(int64_t count, size_t element, char *to, int64_t to_stride, const char *from, int64_t from_stride)
{
    for (int64_t c = 0; c < count; ++c)
        if (element == 2) memcpy(to + 2 * c * to_stride, from + 2 * c * from_stride, 2);
        else memcpy(to + 4 * c * to_stride, from + 4 * c * from_stride, 4);
}

/* (t0, t1, t2) <- (t1, t2, x), as they lie. */
static void shift(const head *at, const part *p)
{
    static const char zero[4];
    const fkda_decode_fused_desc *const d = at->call->desc;
    const fkda_tensor_desc *const t = &d->conv_state;
    const size_t element = (size_t)fkdai_dtype_bytes(t->dtype);
    for (int i = 0; i + 1 < TAPS; ++i)
        copy_elements(d->K, element, tap_at(at, p, i), t->head_stride, starts_from_0(at) ? zero : tap_at(at, p, i + 1), starts_from_0(at) ? 0 : t->head_stride);
    copy_elements(d->K, element, tap_at(at, p, TAPS - 1), t->head_stride, p->x, 1);
}

/* y sigmoid(y) of y = bias + the sum of weights and inputs. */
static void convolve(const head *at, int i)
{
    const fkda_decode_fused_desc *const d = at->call->desc;
    const part p = part_of(at, i);
    float *const y = at->s->row[i], weight[W];
    read_inputs(at, &p, at->s->input);
    if (p.bias == NULL) memset(y, 0, sizeof at->s->row[i]);
    else at->ukr->load_row(p.bias, d->conv_bias, d->K, 0, 1, y);
    for (int j = 0; j < FKDA_CONV_WIDTH; ++j) {
        const int64_t offset = j * d->conv_weight.token_stride * fkdai_dtype_bytes(d->conv_weight.dtype);
        at->ukr->load_row((const char *)p.weight + offset, d->conv_weight.dtype, d->K, 0, 1, weight);
        for (int64_t c = 0; c < d->K; ++c) y[c] += weight[c] * at->s->input[j][c];
    }
    memcpy(at->s->gate, y, sizeof at->s->gate);
    for (int64_t c = 0; c < d->K; c += FKDAI_CPU_CHUNK) at->ukr->sigmoid(1, at->s->gate + c);
    for (int64_t c = 0; c < d->K; ++c) y[c] *= at->s->gate[c];
    shift(at, &p);
}

/* ---------------------------------------------------------------- norm */

/* out = o / sqrt(mean(o^2) + eps) w sigmoid(gate) */
static void norm(const head *at, float *out)
{
    const fkda_decode_fused_desc *const d = at->call->desc;
    const int64_t offset = (at->n * d->output_gate.batch_stride + at->h * d->output_gate.head_stride) * fkdai_dtype_bytes(d->output_gate.dtype);
    double squares = 0;
    for (int64_t c = 0; c < d->V; ++c) squares += (double)out[c] * (double)out[c];
    const float reciprocal = (float)(1 / sqrt(squares / (double)d->V + (double)d->norm_eps));
    at->ukr->load_row((const char *)at->call->args->output_gate + offset, d->output_gate.dtype, d->V, 0, 1, at->s->gate);
    at->ukr->load_row(at->call->args->norm_weight, d->norm_weight, d->V, 0, 1, at->s->factor);
    for (int64_t c = 0; c < d->V; c += FKDAI_CPU_CHUNK) at->ukr->sigmoid(1, at->s->gate + c);
    for (int64_t c = 0; c < d->V; ++c) out[c] = out[c] * reciprocal * (at->s->factor[c] * at->s->gate[c]);
}

/* ---------------------------------------------------------------- a head */

/* q, k and v where the convolution left them. */
static void take_rows(const fused_scratch *s, fkda_fwd_desc *d, fkda_fwd_args *a)
{
    d->q = d->k = d->v = (fkda_tensor_desc){.dtype = FKDA_F32};
    a->q = s->row[0], a->k = s->row[1], a->v = s->row[2];
}

static void step_head(const head *at)
{
    const call *const c = at->call;
    fkdai_cpu_decode_scratch *const s = &at->s->decode;
    fkda_fwd_desc d = c->as_fwd;
    fkda_fwd_args a = c->args_as_fwd;
    const fkdai_cpu_task task = {.desc = &d, .args = &a, .ukr = at->ukr, .n = at->n, .seq = {at->n, 0, 1}, .first_head = at->h, .head_count = 1,
                                 .panel_count = c->own.panels_per_task};
    fkdai_cpu_gate *const gate = &s->rows.head[0].gate;
    for (int i = 0; i < 3 && fkdai_has_conv(c->desc); ++i) convolve(at, i);
    if (fkdai_has_conv(c->desc)) take_rows(at->s, &d, &a);
    fkdai_cpu_read_gate(&task, at->h, gate);
    fkdai_cpu_read_betas(&task, at->h, 0, 1, &s->rows);
    fkdai_cpu_read_values(&task, at->h, 0, 1, &s->rows);
    fkdai_cpu_read_token(&task, at->h, 0, gate, &s->rows, &s->token[0]);
    s->token[0].beta = s->rows.chunk.beta[0];
    fkdai_cpu_step_state(&task, 1, s);
    if (fkdai_has_norm(c->desc)) norm(at, s->rows.out[0]);
    fkdai_cpu_write_out(&task, at->h, 0, 1, &s->rows);
}

/* A null slot: zeros in out. */
static void clear_out(const head *at)
{
    const fkda_tensor_desc *const out = &at->call->desc->out;
    const int64_t element = fkdai_dtype_bytes(out->dtype);
    memset((char *)at->call->args->out + (at->n * out->batch_stride + at->h * out->head_stride) * element, 0, (size_t)(at->call->desc->V * element));
}

/* Items in order of [N, H]. */
static void run_items(void *context, int64_t first, int64_t count, int thread)
{
    const call *const c = context;
    for (int64_t i = first; i < first + count; ++i) {
        const int64_t n = i / c->desc->H;
        const head at = {c, c->own.ukr, n, i % c->desc->H, fkdai_final_row(&c->as_fwd, &c->args_as_fwd, n), &c->scratch[thread]};
        if (at.row == FKDAI_NO_ROW) clear_out(&at);
        else step_head(&at);
    }
}

fkda_status fkdai_cpu_run_fused(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    call c = {.desc = &plan->desc.decode_fused, .args = args, .scratch = workspace};
    fkdai_fused_as_fwd(c.desc, &c.as_fwd);
    fkdai_fused_args_as_fwd(args, &c.args_as_fwd);
    memcpy(&c.own, plan->own, sizeof c.own);
    fkdai_cpu_for_each(c.desc->N * c.desc->H, FKDAI_CPU_HEADS_PER_TASK, c.own.threads, run_items, &c);
    return FKDA_OK;
}

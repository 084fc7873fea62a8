/*
 * Decode on the CPU: one head of one sequence at a time, its state changed where it lies, or in scratch where it is to stay or is not fp32.
 *
 *     for every token:      a, k^, q^, b
 *     for every part of S:  for every token:  S = decay(S);  u = b (v - S^T k^);  o = S^T q^ + (k^.q^) u;  S = S + k^ u^T
 *
 * A part is some rows of [V,K], or some columns of [K,V]: 8 to 32 KB, which stay in the first-level cache while the tokens pass over them and the
 * states after them are written. One token takes all of a state that lies where it is to stay: memory likes it, and the token is made ready once.
 * Tokens never share an operation, so that S tokens give the bits of S calls.
 */
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "decode_states.h"
#include "dtype.h"
#include "op_decode.h"
#include "status.h"

enum { P = FKDAI_CPU_PANEL, R = FKDAI_CPU_STEP_ROWS };

_Static_assert((int)FKDA_DECODE_MAX_TOKENS <= (int)FKDAI_CPU_CHUNK, "fkdai_cpu_scratch has room for a chunk of tokens");
_Static_assert(sizeof(fkdai_cpu_decode_scratch) <= 1 << 20, "at most 1 MiB a thread");

fkda_status fkdai_cpu_plan_decode(fkdai_plan *plan)
{
    fkda_fwd_desc d;
    fkdai_cpu_plan own;
    fkdai_decode_as_fwd(&plan->desc.decode, &d);
    const int64_t heads = d.N * d.HV;
    TRY(fkdai_cpu_plan_threads(&d, heads / FKDAI_CPU_STATES_PER_THREAD, &own));
    own.panels_per_task = (int32_t)(d.V / P);
    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = (size_t)own.threads * sizeof(fkdai_cpu_decode_scratch);
    snprintf(plan->choice, sizeof plan->choice, "%s, decode, %lld state%s on %d thread%s", own.ukr->name, (long long)heads, heads == 1 ? "" : "s",
             (int)own.threads, own.threads == 1 ? "" : "s");
    return FKDA_OK;
}

/* ---------------------------------------------------------------- one head */

typedef struct call {
    const fkda_decode_desc *decode;
    const fkda_decode_args *decode_args;
    const fkda_fwd_desc *desc;            /* the same as a forward pass */
    const fkda_fwd_args *args;
    const fkdai_cpu_plan *own;
    fkdai_cpu_decode_scratch *scratch;    /* [threads] */
} call;

/* A matrix in the caller's memory. */
typedef struct matrix {
    void *data;    /* NULL: there is none */
    fkda_dtype dtype;
} matrix;

/* Where the state of a head comes from and goes to. */
typedef struct head {
    const fkdai_cpu_task *task;
    fkdai_cpu_decode_scratch *s;
    int len, is_tree;                               /* tokens */
    float *state;                                   /* at work: where it lies, or scratch */
    matrix initial;
    matrix from[FKDA_DECODE_MAX_TOKENS];            /* of a tree: what a token goes on from */
    matrix final[FKDA_DECODE_MAX_TOKENS], step[FKDA_DECODE_MAX_TOKENS];    /* what the state after a token is written to */
} head;

static matrix matrix_at(const fkdai_cpu_task *task, const fkda_state_desc *s, void *base, int64_t row)
{
    const int64_t first = row * s->row_stride + task->first_head * task->desc->K * task->desc->V;
    return (matrix){row == FKDAI_NO_ROW ? NULL : (char *)base + first * fkdai_dtype_bytes(s->dtype), s->dtype};
}

static void find_states(const call *c, int64_t length, head *h)
{
    const fkda_decode_desc *const d = c->decode;
    const fkda_decode_args *const a = c->decode_args;
    const int64_t n = h->task->n;
    h->is_tree = d->parent != FKDA_NONE;
    h->initial = matrix_at(h->task, &d->state, a->state, fkdai_decode_initial_row(d, a, n));
    for (int t = 0; t < h->len; ++t) {
        const int64_t parent = h->is_tree ? fkdai_decode_parent(d, a, n, t) : -1;
        h->final[t] = matrix_at(h->task, &d->state, a->state, fkdai_decode_final_row(d, a, n, t, length));
        h->step[t] = matrix_at(h->task, &d->step_states, a->step_states, fkdai_decode_step_row(d, n, t));
        h->from[t] = parent < 0 ? h->initial : h->step[parent];
    }
    const matrix *const last = &h->final[h->len - 1];
    const int is_in_place = d->commit == FKDA_COMMIT_LAST && last->data != NULL && last->dtype == FKDA_F32;
    h->state = is_in_place ? last->data : h->s->state;
}

/* ---------------------------------------------------------------- a part of the state */

typedef struct part {
    int64_t at, rows, width, stride;    /* elements */
} part;

static void load_part(const fkdai_cpu_ukr *ukr, const part *p, const matrix *from, float *state)
{
    if (from->data == state) return;
    for (int64_t i = 0, at = p->at; i < p->rows; ++i, at += p->stride) {
        if (from->data == NULL) memset(state + at, 0, (size_t)p->width * sizeof *state);
        else ukr->load_row((const char *)from->data + at * fkdai_dtype_bytes(from->dtype), from->dtype, p->width, 0, 1, state + at);
    }
}

static void store_part(const fkdai_cpu_ukr *ukr, const part *p, const float *state, const matrix *to)
{
    if (to->data == NULL || to->data == state) return;
    for (int64_t i = 0, at = p->at; i < p->rows; ++i, at += p->stride)
        ukr->store_row(state + at, p->width, to->dtype, (char *)to->data + at * fkdai_dtype_bytes(to->dtype));
}

/* Value channels from v on, of [K,V] or of [V,K], through all tokens. */
static void step_part(const head *h, int64_t v, int64_t channels, int is_columns)
{
    const fkdai_cpu_ukr *const ukr = h->task->ukr;
    const int64_t K = h->task->desc->K, V = h->task->desc->V;
    const part p = is_columns ? (part){v, K, channels, V} : (part){v * K, channels, K, K};
    for (int t = 0; t < h->len; ++t) {
        const float *const values = h->s->rows.v[t] + v;
        float *const out = h->s->rows.out[t] + v;
        if (t == 0 || h->is_tree) load_part(ukr, &p, h->is_tree ? &h->from[t] : &h->initial, h->state);
        if (is_columns) ukr->step_columns(&h->s->token[t], K, V, channels, values, h->state + p.at, out);
        else ukr->step_rows(&h->s->token[t], K, channels, values, h->state + p.at, out);
        store_part(ukr, &p, h->state, &h->final[t]);
        store_part(ukr, &p, h->state, &h->step[t]);
    }
}

static void step_parts(const head *h)
{
    const int is_columns = h->task->desc->final_state.layout == FKDA_STATE_NHKV;
    const int takes_all = h->len == 1 && (is_columns || h->initial.data == h->state);
    const int64_t V = h->task->desc->V, channels = takes_all ? V : is_columns ? FKDAI_CPU_STEP_COLUMNS : R;
    for (int64_t v = 0; v < V; v += channels) step_part(h, v, channels, is_columns);
}

void fkdai_cpu_step_state(const fkdai_cpu_task *task, int len, fkdai_cpu_decode_scratch *s)
{
    const fkda_fwd_desc *const d = task->desc;
    void *const states = task->args->final_state;
    head h = {.task = task, .s = s, .len = len};
    h.initial = matrix_at(task, &d->final_state, states, fkdai_initial_row(d, task->args, task->n));
    h.final[len - 1] = matrix_at(task, &d->final_state, states, fkdai_final_row(d, task->args, task->n));
    h.state = h.final[len - 1].data != NULL && d->final_state.dtype == FKDA_F32 ? h.final[len - 1].data : s->state;
    step_parts(&h);
}

/* ---------------------------------------------------------------- the tokens */

static void read_tokens(const fkdai_cpu_task *task, int len, fkdai_cpu_decode_scratch *s)
{
    const int64_t hv = task->first_head, t0 = task->seq.begin;
    fkdai_cpu_gate *const gate = &s->rows.head[0].gate;
    fkdai_cpu_read_gate(task, hv, gate);
    fkdai_cpu_read_betas(task, hv, t0, len, &s->rows);
    fkdai_cpu_read_values(task, hv, t0, len, &s->rows);
    for (int i = 0; i < len; ++i) {
        fkdai_cpu_read_token(task, hv, t0 + i, gate, &s->rows, &s->token[i]);
        s->token[i].beta = s->rows.chunk.beta[i];
    }
}

static void step_head(const call *c, const fkdai_cpu_task *task, fkdai_cpu_decode_scratch *s)
{
    const int64_t length = task->seq.end - task->seq.begin;
    head h = {.task = task, .s = s, .len = (int)fkdai_decode_needed(c->decode, c->decode_args, task->n, length)};
    if (h.len == 0) return;
    if (fkdai_decode_is_padding(c->decode, c->decode_args, task->n)) {
        memset(s->rows.out, 0, (size_t)h.len * sizeof s->rows.out[0]);
        fkdai_cpu_write_out(task, task->first_head, task->seq.begin, h.len, &s->rows);
        return;
    }
    read_tokens(task, h.len, s);
    find_states(c, length, &h);
    step_parts(&h);
    if (task->args->out != NULL) fkdai_cpu_write_out(task, task->first_head, task->seq.begin, h.len, &s->rows);
}

/* ---------------------------------------------------------------- a call */

static fkdai_cpu_task task_of(const call *c, int64_t item)
{
    const int64_t n = item / c->desc->HV;
    return (fkdai_cpu_task){
        .desc = c->desc, .args = c->args, .ukr = c->own->ukr, .n = n, .seq = fkdai_sequence_at(c->desc, c->args->cu_seqlens, n),
        .first_head = item % c->desc->HV, .head_count = 1, .panel_count = c->own->panels_per_task,
    };
}

/* Items in order of [N, HV]. */
static void run_items(void *context, int64_t first, int64_t count, int thread)
{
    const call *const c = context;
    fkdai_cpu_task task = task_of(c, first);
    for (int64_t i = first; i < first + count; ++i) {
        const fkdai_cpu_task after = task_of(c, i + 1 < first + count ? i + 1 : i);
        fkdai_cpu_prefetch(&after, after.first_head, after.seq.begin, after.seq.end);
        step_head(c, &task, &c->scratch[thread]);
        task = after;
    }
}

fkda_status fkdai_cpu_run_decode(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    fkda_fwd_desc d;
    fkda_fwd_args a;
    fkdai_cpu_plan own;
    fkdai_decode_as_fwd(&plan->desc.decode, &d);
    fkdai_decode_args_as_fwd(args, &a);
    memcpy(&own, plan->own, sizeof own);
    call c = {&plan->desc.decode, args, &d, &a, &own, workspace};
    fkdai_cpu_for_each(d.N * d.HV, FKDAI_CPU_STATES_PER_TASK, own.threads, run_items, &c);
    return FKDA_OK;
}

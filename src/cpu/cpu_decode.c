/*
 * Decode on the CPU: one head of one sequence at a time, its state changed where it lies.
 *
 *     for every token:      a, k^, q^, b
 *     for every part of S:  for every token:  S = decay(S);  u = b (v - S^T k^);  o = S^T q^ + (k^.q^) u;  S = S + k^ u^T
 *
 * A part is a panel of columns of [K,V], or some rows of [V,K]: 8 or 16 KB, which stay in the first-level cache while the tokens pass over them.
 * The next part is asked for before. Tokens never share an operation, so that S tokens give the bits of S calls.
 */
#include <stdio.h>
#include <string.h>

#include "cpu.h"
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

/* ---------------------------------------------------------------- the state */

/* Of the task's head; NULL: none. */
static void *matrix_of(const fkdai_cpu_task *task)
{
    const fkda_fwd_desc *const d = task->desc;
    const int64_t row = fkdai_final_row(d, task->args, task->n);
    if (row == FKDAI_NO_ROW) return NULL;
    const int64_t first = row * d->final_state.row_stride + task->first_head * d->K * d->V;
    return (char *)task->args->final_state + first * fkdai_dtype_bytes(d->final_state.dtype);
}

/* The state as fp32, before the tokens: in `matrix` itself, or in scratch. */
static float *begin(const fkdai_cpu_task *task, void *matrix, fkdai_cpu_decode_scratch *s)
{
    const fkda_fwd_desc *const d = task->desc;
    const int64_t count = d->K * d->V;
    float *const state = matrix != NULL && d->final_state.dtype == FKDA_F32 ? matrix : s->state;
    if (fkdai_initial_row(d, task->args, task->n) == FKDAI_NO_ROW) memset(state, 0, (size_t)count * sizeof *state);
    else if (state == s->state)
        for (int64_t i = 0; i < count; i += FKDAI_CPU_MAX_WIDTH)
            task->ukr->load_row((const char *)matrix + i * 2, FKDA_BF16, FKDAI_CPU_MAX_WIDTH, 0, 1, state + i);
    return state;
}

static void end(const fkdai_cpu_task *task, void *matrix, const float *state)
{
    const int64_t count = task->desc->K * task->desc->V;
    if (matrix == NULL || matrix == state) return;
    for (int64_t i = 0; i < count; i += FKDAI_CPU_MAX_WIDTH)
        task->ukr->store_row(state + i, FKDAI_CPU_MAX_WIDTH, FKDA_BF16, (char *)matrix + i * 2);
}

/* ---------------------------------------------------------------- the tokens */

static void prefetch(const float *at, int64_t floats)
{
    for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(at + i, 1, 3);
}

/* [K,V], panel after panel. Behind the last one lies, most often, the state of the next head. */
static void step_panels(const fkdai_cpu_task *task, int len, float *state, fkdai_cpu_decode_scratch *s)
{
    const int64_t K = task->desc->K, V = task->desc->V;
    for (int64_t v = 0; v < V; v += P) {
        const float *const next = v + P < V ? state + v + P : state + K * V;
        for (int64_t c = 0; c < K; ++c) prefetch(next + c * V, P);
        for (int i = 0; i < len; ++i) task->ukr->step_columns(&s->token[i], K, V, s->rows.v[i] + v, state + v, s->rows.out[i] + v);
    }
}

/* [V,K], some rows after the others. */
static void step_rows(const fkdai_cpu_task *task, int len, float *state, fkdai_cpu_decode_scratch *s)
{
    const int64_t K = task->desc->K, V = task->desc->V;
    for (int64_t v = 0; v < V; v += R) {
        prefetch(state + (v + R) * K, R * K);
        for (int i = 0; i < len; ++i) task->ukr->step_rows(&s->token[i], K, s->rows.v[i] + v, state + v * K, s->rows.out[i] + v);
    }
}

void fkdai_cpu_step_state(const fkdai_cpu_task *task, int len, fkdai_cpu_decode_scratch *s)
{
    void *const matrix = matrix_of(task);
    float *const state = begin(task, matrix, s);
    if (task->desc->final_state.layout == FKDA_STATE_NHKV) step_panels(task, len, state, s);
    else step_rows(task, len, state, s);
    end(task, matrix, state);
}

static void step_head(const fkdai_cpu_task *task, fkdai_cpu_decode_scratch *s)
{
    const int64_t hv = task->first_head, t0 = task->seq.begin;
    const int len = (int)(task->seq.end - t0);
    if (len == 0) return;
    fkdai_cpu_gate *const gate = &s->rows.head[0].gate;
    fkdai_cpu_read_gate(task, hv, gate);
    fkdai_cpu_read_betas(task, hv, t0, len, &s->rows);
    fkdai_cpu_read_values(task, hv, t0, len, &s->rows);
    for (int i = 0; i < len; ++i) {
        fkdai_cpu_read_token(task, hv, t0 + i, gate, &s->rows, &s->token[i]);
        s->token[i].beta = s->rows.chunk.beta[i];
    }
    fkdai_cpu_step_state(task, len, s);
    fkdai_cpu_write_out(task, hv, t0, len, &s->rows);
}

/* ---------------------------------------------------------------- a call */

typedef struct call {
    const fkda_fwd_desc *desc;
    const fkda_fwd_args *args;
    const fkdai_cpu_plan *own;
    fkdai_cpu_decode_scratch *scratch;    /* [threads] */
} call;

/* Items in order of [N, HV]. */
static void run_items(void *context, int64_t first, int64_t count, int thread)
{
    const call *const c = context;
    for (int64_t i = first; i < first + count; ++i) {
        const int64_t n = i / c->desc->HV;
        const fkdai_cpu_task task = {
            .desc = c->desc, .args = c->args, .ukr = c->own->ukr, .n = n, .seq = fkdai_sequence_at(c->desc, c->args->cu_seqlens, n),
            .first_head = i % c->desc->HV, .head_count = 1, .panel_count = c->own->panels_per_task,
        };
        step_head(&task, &c->scratch[thread]);
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
    call c = {&d, &a, &own, workspace};
    fkdai_cpu_for_each(d.N * d.HV, FKDAI_CPU_HEADS_PER_TASK, own.threads, run_items, &c);
    return FKDA_OK;
}

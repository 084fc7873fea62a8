/*
 * Decode on the CPU: one head of one sequence at a time, its state in, token after token, its state out.
 *
 *     for every token:           a, k^, q^, b
 *         for every panel of S:  S = decay(S);  u = b (v - S^T k^);  o = S^T q^ + (k^.q^) u;  S = S + k^ u^T
 *
 * Tokens never share an operation, so that S tokens give the bits of S calls.
 */
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "op_decode.h"
#include "status.h"

enum { P = FKDAI_CPU_PANEL };

_Static_assert((int)FKDA_DECODE_MAX_TOKENS <= (int)FKDAI_CPU_CHUNK, "fkdai_cpu_scratch has room for a chunk of tokens");

fkda_status fkdai_cpu_plan_decode(fkdai_plan *plan)
{
    fkda_fwd_desc d;
    fkdai_cpu_plan own;
    fkdai_decode_as_fwd(&plan->desc.decode, &d);
    const int64_t heads = d.N * d.HV;
    TRY(fkdai_cpu_plan_threads(&d, heads / FKDAI_CPU_STATES_PER_THREAD, &own));
    own.panels_per_task = (int32_t)(d.V / P);
    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = (size_t)own.threads * sizeof(fkdai_cpu_scratch);
    snprintf(plan->choice, sizeof plan->choice, "%s, decode, %lld state%s on %d thread%s", own.ukr->name, (long long)heads, heads == 1 ? "" : "s",
             (int)own.threads, own.threads == 1 ? "" : "s");
    return FKDA_OK;
}

static void step_token(const fkdai_cpu_task *task, int64_t t, fkdai_cpu_scratch *s)
{
    const int64_t i = t - task->seq.begin;
    fkdai_cpu_read_token(task, task->first_head, t, &s->head[0].gate, s);
    for (int p = 0; p < task->panel_count; ++p)
        task->ukr->step(&s->group, &s->chunk, task->desc->K, s->chunk.beta[i], s->v[i] + p * P, s->head[0].state[p][0], s->out[i] + p * P);
}

static void step_head(const fkdai_cpu_task *task, fkdai_cpu_scratch *s)
{
    const int64_t hv = task->first_head, t0 = task->seq.begin;
    const int len = (int)(task->seq.end - t0);
    if (len == 0) return;
    fkdai_cpu_read_gate(task, hv, &s->head[0].gate);
    fkdai_cpu_read_state(task, hv, &s->head[0]);
    fkdai_cpu_read_betas(task, hv, t0, len, s);
    fkdai_cpu_read_values(task, hv, t0, len, s);
    for (int64_t t = t0; t < task->seq.end; ++t) step_token(task, t, s);
    fkdai_cpu_write_out(task, hv, t0, len, s);
    fkdai_cpu_write_state(task, hv, &s->head[0]);
}

typedef struct call {
    const fkda_fwd_desc *desc;
    const fkda_fwd_args *args;
    const fkdai_cpu_plan *own;
    fkdai_cpu_scratch *scratch;    /* [threads] */
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

/*
 * One task: chunk after chunk, head after head.
 *
 *     for every group of the chunk:  a, k^, q^  ->  K+, Q+, Kr, A, M
 *     for every panel of S:          U = (I + A)^-1 Diag(b) (V - K+ S)
 *                                    O = Q+ S + M U
 *                                    S = decay(S) + Kr^T U
 *
 * Chunks are counted from the start of the sequence, so that a sequence gives the same bits wherever it lies.
 *
 * A checkpoint inside a chunk is what a sequence that ends there would leave: its chunk is cut short and meets a copy of S, before the whole chunk
 * meets S itself. One at the end of a chunk is S.
 */
#include <string.h>

#include "cpu.h"

enum { C = FKDAI_CPU_CHUNK, G = FKDAI_CPU_GROUP, P = FKDAI_CPU_PANEL };

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

static void prepare_chunk(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, const fkdai_cpu_gate *gate, fkdai_cpu_scratch *s)
{
    const int64_t K = task->desc->K;
    fkdai_cpu_read_betas(task, hv, t0, len, s);
    memset(s->chunk.gate_cum, 0, sizeof s->chunk.gate_cum);
    for (int b = 0; G * b < len; ++b) {
        fkdai_cpu_read_group(task, hv, t0, b, len, gate, s);
        task->ukr->relate(&s->group, b, K, &s->chunk);
    }
    task->ukr->close(K, &s->chunk);
    fkdai_cpu_read_values(task, hv, t0, len, s);
    if (len < C) memset(s->v[len], 0, (size_t)(C - len) * sizeof s->v[0]);
}

/* The next chunk's rows are asked for a few at a time: more misses than the cache can have in flight would stop the arithmetic. */
static void meet_state(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, fkdai_cpu_head *head, fkdai_cpu_scratch *s)
{
    const int64_t K = task->desc->K, end = task->seq.end;
    const int64_t next = t0 + C;
    for (int p = 0; p < task->panel_count; ++p) {
        float *const state = head->state[p][0], *const update = s->update[0];
        const int64_t ahead = next + p * C / task->panel_count, stop = next + (p + 1) * C / task->panel_count;
        fkdai_cpu_prefetch(task, hv, ahead, min(ahead + 1, end));
        task->ukr->solve(&s->chunk, K, len, s->v[0] + p * P, state, update);
        fkdai_cpu_prefetch(task, hv, ahead + 1, min(ahead + 2, end));
        task->ukr->out(&s->chunk, K, len, state, update, s->out[0] + p * P);
        fkdai_cpu_prefetch(task, hv, ahead + 2, min(stop, end));
        task->ukr->advance(&s->chunk, K, len, update, state);
    }
}

/* Checkpoints after `len` tokens of the chunk at t0, less than it has. */
static void end_inside(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, const fkdai_cpu_head *head, fkdai_cpu_scratch *s)
{
    const int64_t K = task->desc->K;
    prepare_chunk(task, hv, t0, len, &head->gate, s);
    for (int p = 0; p < task->panel_count; ++p) {
        memcpy(s->ended, head->state[p], (size_t)(K * P) * sizeof s->ended[0][0]);
        task->ukr->solve(&s->chunk, K, len, s->v[0] + p * P, s->ended[0], s->update[0]);
        task->ukr->advance(&s->chunk, K, len, s->update[0], s->ended[0]);
        fkdai_cpu_write_checkpoints(task, hv, t0 + len - task->seq.begin, p, s->ended[0]);
    }
}

/* One chunk of one head. `next`: the first checkpoint beyond its start, in tokens of the sequence. */
static void run_chunk(const fkdai_cpu_task *task, int64_t hv, int64_t t0, int len, int64_t next, fkdai_cpu_head *head, fkdai_cpu_scratch *s)
{
    const int64_t done = t0 - task->seq.begin;
    for (; next < done + len; next = fkdai_next_checkpoint(task->checkpoints, next)) end_inside(task, hv, t0, (int)(next - done), head, s);
    prepare_chunk(task, hv, t0, len, &head->gate, s);
    meet_state(task, hv, t0, len, head, s);
    fkdai_cpu_write_out(task, hv, t0, len, s);
    for (int p = 0; next == done + len && p < task->panel_count; ++p) fkdai_cpu_write_checkpoints(task, hv, next, p, head->state[p][0]);
}

void fkdai_cpu_run_task(const fkdai_cpu_task *task, fkdai_cpu_scratch *s)
{
    memset(&s->chunk, 0, sizeof s->chunk);    /* a tile computes rows behind a short chunk too; nobody reads the result, but the operands should be memory that was written */
    for (int x = 0; x < task->head_count; ++x) {
        fkdai_cpu_read_gate(task, task->first_head + x, &s->head[x].gate);
        fkdai_cpu_read_state(task, task->first_head + x, &s->head[x]);
    }
    int64_t next = fkdai_next_checkpoint(task->checkpoints, 0);
    for (int64_t t0 = task->seq.begin; t0 < task->seq.end; t0 += C) {
        const int len = (int)min(task->seq.end - t0, C);
        for (int x = 0; x < task->head_count; ++x) run_chunk(task, task->first_head + x, t0, len, next, &s->head[x], s);
        while (next <= t0 - task->seq.begin + len) next = fkdai_next_checkpoint(task->checkpoints, next);
    }
    for (int x = 0; x < task->head_count; ++x) fkdai_cpu_write_state(task, task->first_head + x, &s->head[x]);
}

/* The CPU as a backend. cpu.h describes how it works. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "cpu_available.h"
#include "status.h"

_Static_assert(sizeof(fkdai_cpu_plan) <= FKDAI_PLAN_OWN_BYTES, "fkdai_cpu_plan does not fit into a plan");
_Static_assert(sizeof(fkdai_cpu_scratch) <= 1 << 20, "at most 1 MiB a thread");

static fkda_status present(char *text, size_t size)
{
    const char *reason, *limit;
    const fkdai_cpu_ukr *const ukr = fkdai_cpu_ukr_chosen(&reason);
    const int threads = fkdai_cpu_threads_by_default(&limit);
    if (size > 0 && ukr == NULL) snprintf(text, size, "%s", reason);
    if (size > 0 && ukr != NULL)
        snprintf(text, size, "%s, %d thread%s%s%s%s", ukr->name, threads, threads == 1 ? "" : "s", *limit ? " (" : "", limit, *limit ? ")" : "");
    return ukr == NULL ? FKDA_ERR_BAD_VALUE : FKDA_OK;
}

static fkda_status check_widths(const fkda_fwd_desc *d)
{
    REQUIRE(d->K == 64 || d->K == 128, FKDA_ERR_UNSUPPORTED, "K = %lld, but this backend takes 64 and 128", (long long)d->K);
    REQUIRE(d->V == 64 || d->V == 128, FKDA_ERR_UNSUPPORTED, "V = %lld, but this backend takes 64 and 128", (long long)d->V);
    return FKDA_OK;
}

/* Waking a thread costs some microseconds on an idle machine and milliseconds on a busy one: a small problem gets few threads or one. */
static int32_t threads_worth_waking(const fkda_fwd_desc *d, int64_t shares)
{
    const char *limit;
    const int64_t worth = 1 + shares;
    const int available = d->threads > 0 ? fkdai_cpu_threads_available() : fkdai_cpu_threads_by_default(&limit);
    const int64_t allowed = d->threads > 0 && d->threads < available ? d->threads : available;
    return (int32_t)(worth < allowed ? worth : allowed);
}

fkda_status fkdai_cpu_plan_threads(const fkda_fwd_desc *d, int64_t shares, fkdai_cpu_plan *own)
{
    const char *reason;
    const fkdai_cpu_ukr *const ukr = fkdai_cpu_ukr_chosen(&reason);
    REQUIRE(d->memory == FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "the tensors are in CUDA memory, this backend reads host memory");
    TRY(check_widths(d));
    REQUIRE(ukr != NULL, FKDA_ERR_BAD_VALUE, "%s", reason);
    *own = (fkdai_cpu_plan){.ukr = ukr, .threads = threads_worth_waking(d, shares)};
    return FKDA_OK;
}

static int64_t parts_per_head(const fkda_fwd_desc *d, const fkdai_cpu_plan *own) { return d->V / FKDAI_CPU_PANEL / own->panels_per_task; }

/* Too few heads for the threads: even the panels of one head are spread, each task with its own preparation. */
static int32_t panels_per_task(const fkda_fwd_desc *d, int threads)
{
    int32_t panels = (int32_t)(d->V / FKDAI_CPU_PANEL);
    while (panels > 1 && d->N * d->HV * (d->V / FKDAI_CPU_PANEL / panels) < threads) panels /= 2;
    return panels;
}

static fkda_status plan_fwd(fkdai_plan *plan)
{
    const fkda_fwd_desc *const d = &plan->desc.fwd;
    fkdai_cpu_plan own;
    TRY(fkdai_cpu_plan_threads(d, d->B * d->T * d->HV / FKDAI_CPU_TOKEN_HEADS_PER_THREAD, &own));
    own.panels_per_task = panels_per_task(d, own.threads);
    const int64_t parts = parts_per_head(d, &own), heads = d->N * d->HV;
    if (heads * parts < own.threads) own.threads = (int32_t)(heads * parts);

    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = (size_t)own.threads * sizeof(fkdai_cpu_scratch);
    snprintf(plan->choice, sizeof plan->choice, "%s, %d tokens per chunk, %lld head%s%s on %d thread%s", own.ukr->name, FKDAI_CPU_CHUNK,
             (long long)heads, heads == 1 ? "" : "s", parts == 4 ? " in quarters" : parts == 2 ? " in halves" : "", (int)own.threads,
             own.threads == 1 ? "" : "s");
    return FKDA_OK;
}

typedef struct call {
    const fkda_fwd_desc *desc;
    const fkda_fwd_args *args;
    const fkdai_cpu_plan *own;
    fkdai_cpu_scratch *scratch;    /* [threads] */
    int visits;                    /* 2 where lengths differ: every head is visited twice, see is_due */
} call;

/* Sequences longer than the mean run on the first visit, the others on the second, so that no thread is left alone with a long one at the end. */
static int is_due(const call *c, const fkdai_sequence *seq, int64_t visit)
{
    const int is_long = seq->end - seq->begin > c->desc->T / c->desc->N;
    return c->visits == 1 || is_long == (visit == 0);
}

/* The checkpoints of sequence n: most often those of the sequence that the thread was at, or of one soon after it. */
static const fkdai_checkpoints *checkpoints_of(const call *c, int64_t n, fkdai_checkpoints *last)
{
    if (n < last->n) *last = fkdai_first_checkpoints(c->desc, c->args);    /* the second visit */
    fkdai_seek_checkpoints(last, c->args->cu_seqlens, n);
    return last;
}

/* Items in order of [visits, N, HV, parts]; a task does not cross from one sequence to the next. */
static void run_items(void *context, int64_t first, int64_t count, int thread)
{
    const call *const c = context;
    const fkda_fwd_desc *const d = c->desc;
    const int64_t parts = parts_per_head(d, c->own);
    for (int64_t next; count > 0; first += next, count -= next) {
        const int64_t head = first / parts, hv = head % d->HV, n = head / d->HV % d->N;
        next = parts > 1 ? 1 : count < d->HV - hv ? count : d->HV - hv;
        fkdai_cpu_task task = {
            .desc = d, .args = c->args, .ukr = c->own->ukr, .n = n, .seq = fkdai_sequence_at(d, c->args->cu_seqlens, n),
            .first_head = hv, .head_count = (int)next, .first_panel = (int)(first % parts) * c->own->panels_per_task,
            .panel_count = c->own->panels_per_task,
        };
        if (!is_due(c, &task.seq, head / d->HV / d->N)) continue;
        task.checkpoints = checkpoints_of(c, n, &c->scratch[thread].checkpoints);
        fkdai_cpu_run_task(&task, &c->scratch[thread]);
    }
}

static fkda_status run_fwd(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    fkdai_cpu_plan own;
    memcpy(&own, plan->own, sizeof own);
    const fkda_fwd_desc *const d = &plan->desc.fwd;
    call c = {d, args, &own, workspace, d->cu_seqlens == FKDA_NONE ? 1 : 2};
    for (int i = 0; i < own.threads; ++i) c.scratch[i].checkpoints = fkdai_first_checkpoints(d, args);
    const int64_t items = c.visits * d->N * d->HV * parts_per_head(d, &own);
    fkdai_cpu_for_each(items, FKDAI_CPU_HEADS_PER_TASK, own.threads, run_items, &c);
    return FKDA_OK;
}

const fkdai_backend fkdai_cpu = {
    .present = present,
    .offers = {[FKDAI_OP_FWD] = {plan_fwd, run_fwd, NULL}, [FKDAI_OP_DECODE] = {fkdai_cpu_plan_decode, fkdai_cpu_run_decode, NULL},
               [FKDAI_OP_DECODE_FUSED] = {fkdai_cpu_plan_fused, fkdai_cpu_run_fused, NULL}}};

/* The CPU as a backend. cpu.h describes how it works. */
#include <stdio.h>
#include <string.h>

#include "cpu.h"
#include "status.h"

_Static_assert(sizeof(fkdai_cpu_plan) <= FKDAI_PLAN_OWN_BYTES, "fkdai_cpu_plan does not fit into a plan");
_Static_assert(sizeof(fkdai_cpu_scratch) <= 1 << 20, "at most 1 MiB a thread");

static fkda_status present(char *text, size_t size)
{
    const char *reason;
    const fkdai_cpu_ukr *const ukr = fkdai_cpu_ukr_chosen(&reason);
    if (size > 0) {
        if (ukr == NULL) snprintf(text, size, "%s", reason);
        else snprintf(text, size, "%s, %d cores, %s", ukr->name, fkdai_cpu_threads_available(), fkdai_cpu_thread_library());
    }
    return ukr == NULL ? FKDA_ERR_UNSUPPORTED : FKDA_OK;
}

static fkda_status check_widths(const fkda_fwd_desc *d)
{
    REQUIRE(d->K == 64 || d->K == 128, FKDA_ERR_UNSUPPORTED, "K = %lld, but this backend takes 64 and 128", (long long)d->K);
    REQUIRE(d->V == 64 || d->V == 128, FKDA_ERR_UNSUPPORTED, "V = %lld, but this backend takes 64 and 128", (long long)d->V);
    return FKDA_OK;
}

static int64_t head_groups(const fkda_fwd_desc *d, int heads) { return (d->HV + heads - 1) / heads; }

/* Coarse tasks share reads, but every thread should get a few of them; with too few heads even the panels of one head are spread, each task
 * with its own preparation. */
static void cut_work(const fkda_fwd_desc *d, fkdai_cpu_plan *own)
{
    const int64_t wanted = own->threads == 1 ? 1 : 4 * own->threads;
    own->heads_per_task = FKDAI_CPU_HEADS_PER_TASK;
    own->panels_per_task = (int32_t)(d->V / FKDAI_CPU_PANEL);
    while (own->heads_per_task > 1 && d->N * head_groups(d, own->heads_per_task) < wanted) own->heads_per_task /= 2;
    while (own->panels_per_task > 1 && d->N * d->HV * (d->V / FKDAI_CPU_PANEL / own->panels_per_task) < own->threads) own->panels_per_task /= 2;
}

/* Waking a thread costs some microseconds on an idle machine and milliseconds on a busy one: a small problem gets few threads or one. */
static int32_t threads_worth_waking(const fkda_fwd_desc *d, int available)
{
    const int64_t worth = 1 + d->B * d->T * d->HV / FKDAI_CPU_TOKEN_HEADS_PER_THREAD;
    const int64_t allowed = d->threads > 0 && d->threads < available ? d->threads : available;
    return (int32_t)(worth < allowed ? worth : allowed);
}

static int64_t task_count(const fkda_fwd_desc *d, const fkdai_cpu_plan *own)
{
    return d->N * head_groups(d, own->heads_per_task) * (d->V / FKDAI_CPU_PANEL / own->panels_per_task);
}

static fkda_status plan(fkdai_plan *plan)
{
    const fkda_fwd_desc *const d = &plan->desc;
    const char *reason;
    const fkdai_cpu_ukr *const ukr = fkdai_cpu_ukr_chosen(&reason);
    REQUIRE(ukr != NULL, FKDA_ERR_UNSUPPORTED, "%s", reason);
    REQUIRE(d->memory == FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "the tensors are in CUDA memory, this backend reads host memory");
    TRY(check_widths(d));

    fkdai_cpu_plan own = {.ukr = ukr, .threads = threads_worth_waking(d, fkdai_cpu_threads_available())};
    cut_work(d, &own);
    const int64_t tasks = task_count(d, &own);
    if (tasks < own.threads) own.threads = (int32_t)tasks;

    memcpy(plan->own, &own, sizeof own);
    plan->workspace_bytes = (size_t)own.threads * sizeof(fkdai_cpu_scratch);
    snprintf(plan->choice, sizeof plan->choice, "%s, %d tokens per chunk, %lld task%s on %d thread%s", ukr->name, FKDAI_CPU_CHUNK,
             (long long)tasks, tasks == 1 ? "" : "s", (int)own.threads, own.threads == 1 ? "" : "s");
    return FKDA_OK;
}

typedef struct call {
    const fkda_fwd_desc *desc;
    const fkda_fwd_args *args;
    const fkdai_cpu_plan *own;
    fkdai_cpu_scratch *scratch;    /* [threads] */
    int64_t task_count, mean_length;
} call;

/* Every task is visited twice: sequences of at least the mean length run the first time, short ones the second, so that no thread is left alone
 * with a long one at the end. */
static void run_item(void *context, int64_t item, int thread)
{
    const call *const c = context;
    const fkda_fwd_desc *const d = c->desc;
    const int64_t parts = d->V / FKDAI_CPU_PANEL / c->own->panels_per_task, groups = head_groups(d, c->own->heads_per_task);
    const int wants_long = item < c->task_count;
    if (!wants_long) item -= c->task_count;
    const int64_t n = item / (groups * parts), first_head = item / parts % groups * c->own->heads_per_task;
    const int64_t heads_left = d->HV - first_head;
    const fkdai_sequence seq = fkdai_sequence_at(d, c->args->cu_seqlens, n);
    if ((seq.end - seq.begin >= c->mean_length) != wants_long) return;
    const fkdai_cpu_task task = {
        .desc = d, .args = c->args, .ukr = c->own->ukr, .n = n, .seq = seq,
        .first_head = first_head, .head_count = heads_left < c->own->heads_per_task ? (int)heads_left : c->own->heads_per_task,
        .first_panel = (int)(item % parts) * c->own->panels_per_task, .panel_count = c->own->panels_per_task,
    };
    fkdai_cpu_run_task(&task, &c->scratch[thread]);
}

static fkda_status run(const fkdai_plan *plan, const fkda_fwd_args *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    fkdai_cpu_plan own;
    memcpy(&own, plan->own, sizeof own);
    const fkda_fwd_desc *const d = &plan->desc;
    call c = {d, args, &own, workspace, task_count(d, &own), d->cu_seqlens == FKDA_NONE ? d->T : d->T / d->N};
    fkdai_cpu_for_each(2 * c.task_count, own.threads, run_item, &c);
    return FKDA_OK;
}

const fkdai_backend fkdai_cpu = {FKDA_BACKEND_CPU, "cpu", present, plan, run};

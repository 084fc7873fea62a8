/* Planning, running and timing through the public API. */
#include "call.h"

#include <stdlib.h>
#include <time.h>

#include "device.h"
#include "failure.h"

static fkda_status prepare(const problem *p, operation op, const fkda_fwd_desc *desc, const fkda_fwd_args *args, call *c)
{
    *c = (call){.op = op, .from = p, .layer_bytes = p->tensors[PROBLEM_FINAL_STATE].block.bytes / (size_t)operation_layers(op), .args = *args,
                .memory = desc->memory};
    const fkda_status status = operation_plan(op, desc, &c->plan);
    if (status != FKDA_OK) return failure_of_library(status, NULL);
    return memory_alloc(desc->memory, fkda_plan_workspace_size(&c->plan), &c->workspace);
}

/* Decode has one array of slots. */
static problem_role final_slots_of(const problem *p) { return p->op.kind == OPERATION_DECODE ? PROBLEM_INITIAL_SLOTS : PROBLEM_FINAL_SLOTS; }

static fkda_fwd_args args_of(const problem *p)
{
    const problem_tensor *const t = p->tensors;
    const void *const bounds = p->bounds_as_stored != NULL ? p->bounds_as_stored : p->bounds;
    return (fkda_fwd_args){
        .struct_size = sizeof(fkda_fwd_args),
        .q = t[PROBLEM_Q].block.data,
        .k = t[PROBLEM_K].block.data,
        .v = t[PROBLEM_V].block.data,
        .g = t[PROBLEM_G].block.data,
        .beta = t[PROBLEM_BETA].block.data,
        .out = t[PROBLEM_OUT].block.data,
        .A_log = t[PROBLEM_A_LOG].block.data,
        .dt_bias = t[PROBLEM_DT_BIAS].block.data,
        .cu_seqlens = t[PROBLEM_CU_SEQLENS].block.data,
        .cu_seqlens_host = p->desc.memory == FKDA_MEMORY_CUDA ? bounds : NULL,    /* checked there; the device's copy is not looked at */
        .initial_state = t[PROBLEM_INITIAL_STATE].block.data,
        .final_state = t[PROBLEM_FINAL_STATE].block.data,
        .initial_slots = t[PROBLEM_INITIAL_SLOTS].block.data,
        .final_slots = t[final_slots_of(p)].block.data,
        .initial_mask = t[PROBLEM_INITIAL_MASK].block.data,
        .checkpoint_state = t[PROBLEM_CHECKPOINT_STATE].block.data,
        .checkpoint_offsets = t[PROBLEM_CHECKPOINT_OFFSETS].block.data,
        .checkpoint_slots = t[PROBLEM_CHECKPOINT_SLOTS].block.data,
    };
}

fkda_status call_prepare(const problem *p, call *c)
{
    const fkda_fwd_args args = args_of(p);
    return prepare(p, p->op, &p->desc, &args, c);
}

/* The first byte of `row` in a tensor whose rows are everything behind its first `leading` dimensions. */
static void *row_of(const problem *p, problem_role role, int leading, int64_t row)
{
    const problem_tensor *const t = &p->tensors[role];
    if (t->block.data == NULL) return NULL;
    int64_t bytes = safetensors_dtype_bytes(t->dtype);
    for (int i = leading; i < t->rank; ++i) bytes *= t->shape[i];
    return (char *)t->block.data + row * bytes;
}

static void leave_checkpoints_out(fkda_fwd_desc *desc, fkda_fwd_args *args)
{
    desc->checkpoints = (fkda_state_desc){.dtype = FKDA_NONE};
    args->checkpoint_state = NULL;
    args->checkpoint_offsets = args->checkpoint_slots = NULL;
}

fkda_status call_prepare_sequence(const problem *p, int64_t n, call *c)
{
    const problem_sequence s = problem_sequence_at(p, n);
    const int64_t token = s.batch * p->desc.T + s.begin;
    fkda_fwd_desc desc = p->desc;
    desc.B = desc.N = 1;
    desc.T = s.end - s.begin;
    desc.cu_seqlens = FKDA_NONE;
    fkda_fwd_args args = args_of(p);
    args.q = row_of(p, PROBLEM_Q, 2, token);
    args.k = row_of(p, PROBLEM_K, 2, token);
    args.v = row_of(p, PROBLEM_V, 2, token);
    args.g = row_of(p, PROBLEM_G, 2, token);
    args.beta = row_of(p, PROBLEM_BETA, 2, token);
    args.out = row_of(p, PROBLEM_OUT, 2, token);
    args.cu_seqlens = args.cu_seqlens_host = NULL;
    if (desc.initial_state.slot_count == 0) args.initial_state = row_of(p, PROBLEM_INITIAL_STATE, 1, n);
    if (desc.final_state.slot_count == 0) args.final_state = row_of(p, PROBLEM_FINAL_STATE, 1, n);
    args.initial_slots = row_of(p, PROBLEM_INITIAL_SLOTS, 1, n);
    args.final_slots = row_of(p, final_slots_of(p), 1, n);
    if (args.initial_mask != NULL) args.initial_mask += n;
    leave_checkpoints_out(&desc, &args);
    return prepare(p, p->op, &desc, &args, c);
}

/* Of a graph that is timed with layers, a few at least: what a replay costs beside its launches is then a small part. */
static int64_t launches_of(const call *c)
{
    enum { LEAST_LAUNCHES = 8 };
    const int64_t layers = operation_layers(c->op);
    return c->op.layers > 0 && c->memory == FKDA_MEMORY_CUDA && layers < LEAST_LAUNCHES ? LEAST_LAUNCHES : layers;
}

/* A device_work: one layer after the other. */
static fkda_status issue(const void *what, fkda_stream stream)
{
    const call *const c = what;
    fkda_fwd_args args = c->args;
    fkda_status status = FKDA_OK;
    for (int64_t i = 0; status == FKDA_OK && i < launches_of(c); ++i) {
        if (c->op.layers > 0) args.final_state = (char *)c->args.final_state + (size_t)(i % c->op.layers) * c->layer_bytes;
        status = operation_run(c->op, &c->plan, &args, c->workspace.data, c->workspace.bytes, stream);
    }
    return status == FKDA_OK ? FKDA_OK : failure_of_library(status, NULL);
}

fkda_status call_run(const call *c)
{
    TRY(issue(c, NULL));
    return memory_wait(c->memory);
}

void call_free(call *c) { memory_free(&c->workspace); }

double call_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The value below which the fraction lies, between the two nearest. */
static double quantile(const double *sorted, int count, double fraction)
{
    const double place = fraction * (count - 1);
    const int below = (int)place;
    return below + 1 < count ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
}

static fkda_status time_one(const call *c, device_replay *replay, double *ms)
{
    TRY(problem_restore(c->from));
    if (replay != NULL) {
        TRY(device_time(replay, ms));
    } else {
        const double start = call_clock_ms();
        TRY(call_run(c));
        *ms = call_clock_ms() - start;
    }
    *ms /= (double)launches_of(c);
    return FKDA_OK;
}

static fkda_status time_all(const call *c, device_replay *replay, const call_patience *patience, call_times *times)
{
    double ms[CALL_MAX_RUNS], spent = 0;
    int runs = 0;
    while (runs < patience->max_runs && runs < CALL_MAX_RUNS && (runs < patience->min_runs || spent < patience->budget_ms)) {
        TRY(time_one(c, replay, &ms[runs]));
        spent += ms[runs++] * (double)launches_of(c);
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_value);
    *times = (call_times){.runs = runs, .median_ms = quantile(ms, runs, 0.5), .min_ms = ms[0], .p10_ms = quantile(ms, runs, 0.1),
                          .p90_ms = quantile(ms, runs, 0.9), .max_ms = ms[runs - 1]};
    return FKDA_OK;
}

enum { WARM_REPLAYS = 3 };

fkda_status call_measure(const call *c, const call_patience *patience, call_times *times)
{
    device_replay *replay = NULL;
    double ignored;
    if (c->memory == FKDA_MEMORY_CUDA) TRY(device_record(issue, c, &replay));
    fkda_status status = FKDA_OK;
    for (int i = 0; replay != NULL && status == FKDA_OK && i < WARM_REPLAYS; ++i) status = device_time(replay, &ignored);
    if (status == FKDA_OK) status = time_all(c, replay, patience, times);
    device_forget(replay);
    return status;
}

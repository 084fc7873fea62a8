/* Running, timing and comparing. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "failure.h"
#include "verify.h"

/* One run where it takes long, up to fifty where it does not. */
static const call_patience patience = {.min_runs = 1, .max_runs = 50, .budget_ms = 300};

static fkda_status time_sequences(const problem *p, progress *bar, verify_result *r)
{
    for (int64_t n = 0; n < r->row_count; ++n) {
        verify_row *const row = &r->rows[n];
        *row = (verify_row){.where = problem_sequence_at(p, n), .ms = NAN};
        if (n >= VERIFY_TIMED_SEQUENCES || row->where.begin == row->where.end) continue;
        char what[64];
        call alone;
        call_times times;
        snprintf(what, sizeof what, "timing sequence %lld", (long long)n);
        progress_step(bar, what);
        TRY(call_prepare_sequence(p, n, &alone));
        const fkda_status status = call_measure(&alone, &patience, &times);
        call_free(&alone);
        TRY(status);
        row->ms = times.median_ms;
    }
    return FKDA_OK;
}

static fkda_status run_all(const safetensors_file *file, const problem *p, progress *bar, verify_result *r)
{
    call whole;
    progress_step(bar, "first run");
    TRY(call_prepare(p, &whole));
    r->backend = fkda_plan_backend(&whole.plan);
    fkda_plan_describe(&whole.plan, r->plan, sizeof r->plan);
    fkda_status status = call_run(&whole);    /* warms up, and checks cu_seqlens before anybody trusts it */
    if (status != FKDA_OK) status = failure_about(status, file->path);
    if (status == FKDA_OK) status = time_sequences(p, bar, r);
    progress_step(bar, "timing the whole");
    if (status == FKDA_OK) status = call_measure(&whole, &patience, &r->times);
    call_free(&whole);
    return status;
}

/* ---------------------------------------------------------------- the right answer */

/* The answers, in the order of PROBLEM_OUT, PROBLEM_FINAL_STATE, PROBLEM_CHECKPOINT_STATE. */
enum { OUT, FINAL_STATE, CHECKPOINTS, ANSWER_COUNT };

static problem_role role_of(int answer) { return (problem_role)(PROBLEM_OUT + answer); }

static int count_answers(const problem *p) { return problem_has_checkpoints(&p->desc) ? ANSWER_COUNT : CHECKPOINTS; }

/* What the file lacks, the float64 reference computes, in fp32 and in host memory. */
static fkda_status compute_answers(operation_kind op, const safetensors_file *file, problem_tensor *answers)
{
    const problem_request request = {.op = op, .backend = FKDA_BACKEND_REF, .out_dtype = FKDA_F32, .final_state_dtype = FKDA_F32, .is_silent = 1};
    problem ref;
    call c;
    TRY(problem_load(file, &request, &ref));
    fkda_status status = call_prepare(&ref, &c);
    if (status == FKDA_OK) {
        status = call_run(&c);
        call_free(&c);
    }
    for (int i = 0; status == FKDA_OK && i < count_answers(&ref); ++i) {
        problem_tensor *const made = &ref.tensors[role_of(i)];
        if (answers[i].dtype != FKDA_NONE) continue;
        answers[i] = *made;    /* takes over the memory */
        made->block = (memory_block){.data = NULL};
    }
    problem_free(&ref);
    return status;
}

/* What the file has, before anything is computed. */
static fkda_status load_answers(const safetensors_file *file, const problem *p, verify_result *r, problem_tensor *answers)
{
    verify_total *const totals[ANSWER_COUNT] = {&r->out, &r->final_state, &r->checkpoints};
    for (int i = 0; i < count_answers(p); ++i) {
        TRY(problem_load_answer(file, p, role_of(i), &answers[i]));
        problem_tell_strays(file->path, "the answer", role_of(i), &answers[i]);
        totals[i]->answer = answers[i].dtype == FKDA_NONE ? "ref" : "file";
    }
    return FKDA_OK;
}

/* ---------------------------------------------------------------- comparing */

static const void *at(const void *base, fkda_dtype dtype, int64_t element)
{
    return (const char *)base + element * safetensors_dtype_bytes(dtype);
}

/* One value head of out, [rows, V], in every sequence. */
static void compare_out(const problem *p, const void *got, const problem_tensor *want, int64_t hv, verify_result *r)
{
    const fkda_fwd_desc *const d = &p->desc;
    const int64_t tokens = problem_tokens(p);
    if (tokens == 0) return;
    const double usual_rms = accuracy_rms(at(want->block.data, want->dtype, hv * d->V), want->dtype, tokens, d->V, d->HV * d->V);
    for (int64_t n = 0; n < r->row_count; ++n) {
        const problem_sequence where = r->rows[n].where;
        const int64_t first = ((where.batch * d->T + where.begin) * d->HV + hv) * d->V;
        const accuracy_matrix m = {at(got, d->out.dtype, first), at(want->block.data, want->dtype, first), d->out.dtype, want->dtype,
                                   where.end - where.begin, d->V, d->HV * d->V, usual_rms};
        accuracy_add(&r->rows[n].out, &m);
    }
}

/* The states in a row, [V, K] each. */
static void compare_state(const problem *p, const void *got, fkda_dtype got_dtype, const problem_tensor *want, int64_t row, accuracy *to)
{
    const fkda_fwd_desc *const d = &p->desc;
    for (int64_t hv = 0; hv < d->HV; ++hv) {
        const int64_t first = (row * d->HV + hv) * d->V * d->K;
        const void *const answer = at(want->block.data, want->dtype, first);
        const accuracy_matrix m = {at(got, got_dtype, first), answer, got_dtype, want->dtype,
                                   d->V, d->K, d->K, accuracy_rms(answer, want->dtype, d->V, d->K, d->K)};
        accuracy_add(to, &m);
    }
}

static void compare_states(const problem *p, const void *got, const problem_tensor *want, verify_result *r)
{
    for (int64_t n = 0; n < r->row_count; ++n) {
        const int64_t row = p->final_rows == NULL ? n : p->final_rows[n];
        if (row >= 0) compare_state(p, got, p->desc.final_state.dtype, want, row, &r->rows[n].final_state);
        accuracy_merge(&r->out.sums, &r->rows[n].out);
        accuracy_merge(&r->final_state.sums, &r->rows[n].final_state);
    }
}

static void compare_checkpoints(const problem *p, const void *got, const problem_tensor *want, verify_result *r)
{
    for (int64_t i = 0; i < p->desc.checkpoint_count; ++i)
        if (p->checkpoint_rows[i] >= 0) compare_state(p, got, p->desc.checkpoints.dtype, want, p->checkpoint_rows[i], &r->checkpoints.sums);
}

static fkda_status compare(const problem *p, const problem_tensor *answers, verify_result *r)
{
    void *got[ANSWER_COUNT];
    int mapped = 0;
    fkda_status status = FKDA_OK;
    for (; status == FKDA_OK && mapped < count_answers(p); ++mapped)
        status = memory_map(&p->tensors[role_of(mapped)].block, MEMORY_READ, &got[mapped]);
    if (status == FKDA_OK) {
        for (int64_t hv = 0; hv < p->desc.HV; ++hv) compare_out(p, got[OUT], &answers[OUT], hv, r);
        compare_states(p, got[FINAL_STATE], &answers[FINAL_STATE], r);
        if (mapped > CHECKPOINTS) compare_checkpoints(p, got[CHECKPOINTS], &answers[CHECKPOINTS], r);
    } else {
        --mapped;    /* the one that failed */
    }
    for (int i = 0; i < mapped; ++i) {
        const fkda_status unmapped = memory_unmap(&p->tensors[role_of(i)].block, MEMORY_READ, got[i]);
        if (status == FKDA_OK) status = unmapped;
    }
    return status;
}

static void judge(const problem *p, const problem_tensor *answers, verify_result *r)
{
    const fkda_fwd_desc *const d = &p->desc;
    const int64_t state = d->HV * d->V * d->K;
    r->out.bar = accuracy_bar_out(r->backend, d->out.dtype, answers[OUT].dtype, problem_tokens(p) * d->HV * d->V);
    r->final_state.bar = accuracy_bar_state(r->backend, d->final_state.dtype, answers[FINAL_STATE].dtype, d->N * state);
    r->checkpoints.bar = accuracy_bar_state(r->backend, d->checkpoints.dtype, answers[CHECKPOINTS].dtype, d->checkpoint_count * state);
    verify_total *const totals[ANSWER_COUNT] = {&r->out, &r->final_state, &r->checkpoints};
    r->has_checkpoints = count_answers(p) > CHECKPOINTS;
    r->is_inside = 1;
    for (int i = 0; i < count_answers(p); ++i) {
        totals[i]->got_dtype = p->tensors[role_of(i)].dtype;
        totals[i]->want_dtype = answers[i].dtype;
        r->is_inside = r->is_inside && accuracy_is_inside(&totals[i]->sums, totals[i]->bar);
    }
}

static fkda_status run_and_compare(const safetensors_file *file, problem *p, progress *bar, verify_result *r, problem_tensor *answers)
{
    int is_complete = 1;
    TRY(load_answers(file, p, r, answers));
    TRY(run_all(file, p, bar, r));
    for (int i = 0; i < count_answers(p); ++i) is_complete = is_complete && answers[i].dtype != FKDA_NONE;
    progress_step(bar, is_complete ? "comparing" : "computing the answer with the reference");
    if (!is_complete) TRY(compute_answers(p->op.kind, file, answers));
    TRY(compare(p, answers, r));
    judge(p, answers, r);
    return problem_examine_results(p);
}

static fkda_status measure(const work_options *w, const safetensors_file *file, problem *p, progress *bar, verify_result *r)
{
    problem_tensor answers[ANSWER_COUNT] = {{.dtype = FKDA_NONE}};
    const fkda_status status = run_and_compare(file, p, bar, r, answers);
    for (int i = 0; i < ANSWER_COUNT; ++i) memory_free(&answers[i].block);
    progress_step(bar, "writing");
    return status == FKDA_OK ? work_save(w, p, r->backend) : status;
}

int verify_step_count(void) { return 4; }

fkda_status verify_measure(const work_options *w, const safetensors_file *file, problem *p, progress *bar, verify_result *r)
{
    *r = (verify_result){.row_count = p->desc.N, .rows = calloc((size_t)p->desc.N + 1, sizeof *r->rows)};
    CHECK(r->rows != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %lld sequences", (long long)p->desc.N);
    bar->total += (int)(p->desc.N < VERIFY_TIMED_SEQUENCES ? p->desc.N : VERIFY_TIMED_SEQUENCES);
    const fkda_status status = measure(w, file, p, bar, r);
    if (status != FKDA_OK) verify_free(r);
    return status;
}

void verify_free(verify_result *r)
{
    free(r->rows);
    *r = (verify_result){.rows = NULL};
}

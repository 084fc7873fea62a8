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

/* What the file lacks, the float64 reference computes, in fp32 and in host memory. */
static fkda_status compute_answers(const safetensors_file *file, problem_tensor *out, problem_tensor *final_state)
{
    const problem_request request = {.backend = FKDA_BACKEND_REF, .out_dtype = FKDA_F32, .final_state_dtype = FKDA_F32, .is_silent = 1};
    problem ref;
    call c;
    TRY(problem_load(file, &request, &ref));
    fkda_status status = call_prepare(&ref, &c);
    if (status == FKDA_OK) {
        status = call_run(&c);
        call_free(&c);
    }
    problem_tensor *const wanted[2] = {out, final_state};
    for (int i = 0; status == FKDA_OK && i < 2; ++i) {
        problem_tensor *const made = &ref.tensors[i == 0 ? PROBLEM_OUT : PROBLEM_FINAL_STATE];
        if (wanted[i]->dtype != FKDA_NONE) continue;
        *wanted[i] = *made;    /* takes over the memory */
        made->block = (memory_block){.data = NULL};
    }
    problem_free(&ref);
    return status;
}

/* What the file has, before anything is computed. */
static fkda_status load_answers(const safetensors_file *file, const problem *p, verify_result *r, problem_tensor *out, problem_tensor *final_state)
{
    TRY(problem_load_answer(file, p, PROBLEM_OUT, out));
    TRY(problem_load_answer(file, p, PROBLEM_FINAL_STATE, final_state));
    problem_tell_strays(file->path, "the answer", PROBLEM_OUT, out);
    problem_tell_strays(file->path, "the answer", PROBLEM_FINAL_STATE, final_state);
    r->out.answer = out->dtype == FKDA_NONE ? "ref" : "file";
    r->final_state.answer = final_state->dtype == FKDA_NONE ? "ref" : "file";
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

/* The final states of sequence n, [V, K] each. */
static void compare_state(const problem *p, const void *got, const problem_tensor *want, int64_t n, verify_row *row)
{
    const fkda_fwd_desc *const d = &p->desc;
    for (int64_t hv = 0; hv < d->HV; ++hv) {
        const int64_t first = (n * d->HV + hv) * d->V * d->K;
        const void *const answer = at(want->block.data, want->dtype, first);
        const accuracy_matrix m = {at(got, d->final_state.dtype, first), answer, d->final_state.dtype, want->dtype,
                                   d->V, d->K, d->K, accuracy_rms(answer, want->dtype, d->V, d->K, d->K)};
        accuracy_add(&row->final_state, &m);
    }
}

static fkda_status compare(const problem *p, const problem_tensor *out, const problem_tensor *final_state, verify_result *r)
{
    void *got_out, *got_state;
    TRY(memory_map(&p->tensors[PROBLEM_OUT].block, MEMORY_READ, &got_out));
    TRY(memory_map(&p->tensors[PROBLEM_FINAL_STATE].block, MEMORY_READ, &got_state));
    for (int64_t hv = 0; hv < p->desc.HV; ++hv) compare_out(p, got_out, out, hv, r);
    for (int64_t n = 0; n < r->row_count; ++n) {
        compare_state(p, got_state, final_state, n, &r->rows[n]);
        accuracy_merge(&r->out.sums, &r->rows[n].out);
        accuracy_merge(&r->final_state.sums, &r->rows[n].final_state);
    }
    TRY(memory_unmap(&p->tensors[PROBLEM_OUT].block, MEMORY_READ, got_out));
    return memory_unmap(&p->tensors[PROBLEM_FINAL_STATE].block, MEMORY_READ, got_state);
}

static void judge(const problem *p, const problem_tensor *out, const problem_tensor *final_state, verify_result *r)
{
    r->out.got_dtype = p->desc.out.dtype;
    r->out.want_dtype = out->dtype;
    r->final_state.got_dtype = p->desc.final_state.dtype;
    r->final_state.want_dtype = final_state->dtype;
    const fkda_fwd_desc *const d = &p->desc;
    r->out.bar = accuracy_bar_out(r->backend, r->out.got_dtype, r->out.want_dtype, problem_tokens(p) * d->HV * d->V);
    r->final_state.bar = accuracy_bar_state(r->backend, r->final_state.got_dtype, r->final_state.want_dtype, d->N * d->HV * d->V * d->K);
    r->is_inside = accuracy_is_inside(&r->out.sums, r->out.bar) && accuracy_is_inside(&r->final_state.sums, r->final_state.bar);
}

static fkda_status run_and_compare(const safetensors_file *file, problem *p, progress *bar, verify_result *r, problem_tensor *out,
                                   problem_tensor *final_state)
{
    TRY(load_answers(file, p, r, out, final_state));
    TRY(run_all(file, p, bar, r));
    const int is_complete = out->dtype != FKDA_NONE && final_state->dtype != FKDA_NONE;
    progress_step(bar, is_complete ? "comparing" : "computing the answer with the reference");
    if (!is_complete) TRY(compute_answers(file, out, final_state));
    TRY(compare(p, out, final_state, r));
    judge(p, out, final_state, r);
    return problem_examine_results(p);
}

static fkda_status measure(const work_options *w, const safetensors_file *file, problem *p, progress *bar, verify_result *r)
{
    problem_tensor out = {.dtype = FKDA_NONE}, final_state = {.dtype = FKDA_NONE};
    const fkda_status status = run_and_compare(file, p, bar, r, &out, &final_state);
    memory_free(&out.block);
    memory_free(&final_state.block);
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

/* The result as a table for people, and as one JSON object. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "json_out.h"
#include "text.h"
#include "verify.h"

enum { TABLE_WIDTH = 84 };

static void print_rule(void)
{
    printf("  ");
    for (int i = 0; i < TABLE_WIDTH; ++i) putchar('-');
    putchar('\n');
}

/* "-" where there is nothing to compare: a sequence without tokens has no output. */
static const char *error_text(const accuracy *a, int64_t tokens, char *to)
{
    if (tokens == 0) snprintf(to, TEXT_NUMBER_BYTES, "-");
    else snprintf(to, TEXT_NUMBER_BYTES, "%.2e", fabs(accuracy_m1(a)));    /* fabs: a NaN has no sign that means anything */
    return to;
}

static void print_row(const char *name, int64_t tokens, const problem *p, const verify_result *r, double ms, const accuracy *out, const accuracy *state)
{
    char count[TEXT_NUMBER_BYTES], time[TEXT_NUMBER_BYTES], rate[TEXT_NUMBER_BYTES], out_error[TEXT_NUMBER_BYTES], state_error[TEXT_NUMBER_BYTES];
    printf("  %8s  %9s  %5lld  %-7s  %9s  %12s  %9s  %11s\n", name, text_grouped((double)tokens, count), (long long)p->desc.HV,
           fkda_backend_name(r->backend), text_duration(ms, time), text_grouped(1e3 * (double)tokens / ms, rate), error_text(out, tokens, out_error),
           error_text(state, 1, state_error));
}

static void print_heading(const work_options *w, const problem *p, const verify_result *r)
{
    const fkda_fwd_desc *const d = &p->desc;
    char path[4096], tokens[TEXT_NUMBER_BYTES], bound[48] = "";
    if (d->gate == FKDA_GATE_BOUNDED) snprintf(bound, sizeof bound, " (lower bound %g)", (double)d->lower_bound);
    printf("%s\n", text_printable(work_input_name(w), path, sizeof path));
    printf("  %lld sequence%s (%s), %s tokens, H = %lld, HV = %lld, K = %lld, V = %lld, gate %s%s\n", (long long)d->N, d->N == 1 ? "" : "s",
           p->bounds == NULL ? "dense" : "packed", text_grouped((double)problem_tokens(p), tokens), (long long)d->H, (long long)d->HV, (long long)d->K,
           (long long)d->V, problem_gate_name(d->gate), bound);
    printf("  %s\n\n", r->plan);
}

static void print_table(const problem *p, const verify_result *r)
{
    printf("  %8s  %9s  %5s  %-7s  %9s  %12s  %9s  %11s\n", "sequence", "tokens", "heads", "backend", "time", "tokens/s", "error out", "error state");
    print_rule();
    const int64_t shown = r->row_count < VERIFY_TIMED_SEQUENCES ? r->row_count : VERIFY_TIMED_SEQUENCES;
    for (int64_t n = 0; n < shown; ++n) {
        const verify_row *const row = &r->rows[n];
        char name[TEXT_NUMBER_BYTES];
        snprintf(name, sizeof name, "%lld", (long long)n);
        print_row(name, row->where.end - row->where.begin, p, r, row->ms, &row->out, &row->final_state);
    }
    if (shown < r->row_count) printf("  and %lld more: compared, but not listed here nor timed alone (--json lists them)\n", (long long)(r->row_count - shown));
    print_rule();
    print_row("all", problem_tokens(p), p, r, r->times.median_ms, &r->out.sums, &r->final_state.sums);
}

static const char *verdict(int is_inside)
{
    const int colours = terminal_takes_escapes(STDOUT_FILENO);
    if (is_inside) return colours ? "\033[32mpass\033[0m" : "pass";
    return colours ? "\033[1;31mFAIL\033[0m" : "FAIL";
}

static void print_total(const char *name, const verify_total *t)
{
    char stored[32];
    snprintf(stored, sizeof stored, "%s / %s", safetensors_dtype_name(t->got_dtype), safetensors_dtype_name(t->want_dtype));
    printf("  %-11s  %-11s  %8.2e <= %7.1e   %8.2e <= %7.1e   %13.3g   %s\n", name, stored, fabs(accuracy_m1(&t->sums)), t->bar,
           fabs(t->sums.m2), accuracy_m2_factor() * t->bar, fabs(t->sums.m3), verdict(accuracy_is_inside(&t->sums, t->bar)));
}

void verify_print_text(const work_options *w, const problem *p, const verify_result *r)
{
    print_heading(w, p, r);
    print_table(p, r);
    printf("\n  %-11s  %-11s  %-19s   %-19s   %13s\n", "", "ours/answer", "M1 relative RMS", "M2 worst 16 rows", "worst element");
    print_total("out", &r->out);
    print_total("final_state", &r->final_state);
    if (r->has_checkpoints) print_total("checkpoints", &r->checkpoints);
    const int is_mixed = strcmp(r->out.answer, r->final_state.answer) != 0 ||
                         (r->has_checkpoints && strcmp(r->out.answer, r->checkpoints.answer) != 0);
    const char *const source = is_mixed ? "the file and, where it has none, the float64 reference"
                               : strcmp(r->out.answer, "file") == 0              ? "the file"
                                                                                 : "the float64 reference (the file has none)";
    printf("\n  %s: the answer comes from %s", verdict(r->is_inside), source);
    char path[4096];
    if (w->out != NULL) printf("; wrote %s", text_printable(work_output_name(w), path, sizeof path));
    printf("\n");
}

/* ---------------------------------------------------------------- JSON */

static void add_total(cJSON *object, const char *name, const verify_total *t)
{
    cJSON *const item = cJSON_AddObjectToObject(object, name);
    json_add_number(item, "m1", accuracy_m1(&t->sums));
    json_add_number(item, "m2", t->sums.m2);
    json_add_number(item, "m3", t->sums.m3);
    json_add_number(item, "bar_m1", t->bar);
    json_add_number(item, "bar_m2", accuracy_m2_factor() * t->bar);
    cJSON_AddStringToObject(item, "dtype", safetensors_dtype_name(t->got_dtype));
    cJSON_AddStringToObject(item, "answer", t->answer);
    cJSON_AddStringToObject(item, "answer_dtype", safetensors_dtype_name(t->want_dtype));
    cJSON_AddBoolToObject(item, "pass", accuracy_is_inside(&t->sums, t->bar));
}

static void add_rows(cJSON *object, const problem *p, const verify_result *r)
{
    cJSON *const list = cJSON_AddArrayToObject(object, "sequences");
    for (int64_t n = 0; n < r->row_count; ++n) {
        const verify_row *const row = &r->rows[n];
        cJSON *const item = cJSON_CreateObject();
        const double tokens = (double)(row->where.end - row->where.begin);
        json_add_number(item, "sequence", (double)n);
        json_add_number(item, "tokens", tokens);
        json_add_number(item, "heads", (double)p->desc.HV);
        json_add_number(item, "ms", row->ms);
        json_add_number(item, "tokens_per_s", 1e3 * tokens / row->ms);
        json_add_number(item, "out_m1", tokens > 0 ? accuracy_m1(&row->out) : NAN);
        json_add_number(item, "final_state_m1", accuracy_m1(&row->final_state));
        cJSON_AddItemToArray(list, item);
    }
}

void verify_print_json(const work_options *w, const problem *p, const verify_result *r)
{
    cJSON *const line = cJSON_CreateObject();
    const double tokens = (double)problem_tokens(p);
    json_add_text(line, "input", w->in);
    if (w->out != NULL) json_add_text(line, "output", w->out);
    cJSON_AddStringToObject(line, "backend", fkda_backend_name(r->backend));
    json_add_text(line, "plan", r->plan);
    choice_add_json(&p->choice, line);
    json_add_number(line, "tokens", tokens);
    json_add_number(line, "ms", r->times.median_ms);
    json_add_number(line, "tokens_per_s", 1e3 * tokens / r->times.median_ms);
    add_total(line, "out", &r->out);
    add_total(line, "final_state", &r->final_state);
    if (r->has_checkpoints) add_total(line, "checkpoint_state", &r->checkpoints);
    cJSON_AddBoolToObject(line, "pass", r->is_inside);
    work_add_strays(p, line);
    add_rows(line, p, r);
    json_print_line(line);
}

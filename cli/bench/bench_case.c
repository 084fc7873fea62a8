/* Running a case, and its line in the table. */
#include "bench_case.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>

#include "failure.h"
#include "fkda_commit.h"
#include "json_out.h"
#include "text.h"

#define LOWER_BOUND (-5.0f)    /* what models with the bounded gate use */

/* So many layers that the states of no two launches meet in a cache. */
static operation operation_of(const bench_case *c)
{
    enum { COLD_BYTES = 320000000, MOST_LAYERS = 1024 };
    const double bytes = (double)(c->slots > 0 ? c->slots : c->N) * (double)(c->HV * c->K * c->V) * 4;
    const double layers = bytes > 0 ? ceil(COLD_BYTES / bytes) : 1;
    if (c->op == OPERATION_PREFILL) return (operation){.kind = OPERATION_PREFILL};
    return (operation){.kind = OPERATION_DECODE, .layers = layers > MOST_LAYERS ? MOST_LAYERS : (int64_t)layers};
}

static fkda_status desc_of(const bench_case *c, const bench_settings *s, fkda_fwd_desc *desc, choice *chosen)
{
    *desc = (fkda_fwd_desc){
        .struct_size = sizeof *desc, .backend = s->backend, .threads = s->threads, .B = 1, .T = c->T, .N = c->N, .H = c->H, .HV = c->HV, .K = c->K, .V = c->V,
        .cu_seqlens = c->len_values != NULL ? FKDA_I64 : FKDA_NONE, .gate = c->gate, .lower_bound = c->gate == FKDA_GATE_BOUNDED ? LOWER_BOUND : 0,
        .A_log = FKDA_F32, .dt_bias = FKDA_F32, .scale = (float)(1.0 / sqrt((double)c->K)),
        .initial_state = {.dtype = FKDA_F32}, .final_state = {.dtype = FKDA_F32},
    };
    if (c->gate == FKDA_GATE_PRECOMPUTED) desc->A_log = desc->dt_bias = FKDA_NONE;
    for (problem_role role = PROBLEM_Q; role <= PROBLEM_BETA; ++role) problem_tell(desc, role, role == PROBLEM_G && c->g != FKDA_NONE ? c->g : FKDA_BF16);
    problem_tell(desc, PROBLEM_OUT, FKDA_BF16);
    if (c->op == OPERATION_DECODE) {
        desc->B = c->N;
        desc->T = c->S;
        desc->initial_state.slot_count = desc->final_state.slot_count = c->slots;
        desc->initial_state.slot_dtype = desc->final_state.slot_dtype = c->slots > 0 ? FKDA_I32 : FKDA_NONE;
    }
    return choice_make(operation_of(c), desc, chosen);
}

fkda_status bench_query(const bench_case *c, const bench_settings *s)
{
    fkda_fwd_desc desc;
    choice chosen;
    char what[128];
    TRY(desc_of(c, s, &desc, &chosen));
    const fkda_status status = problem_fits(operation_of(c), &desc);
    snprintf(what, sizeof what, "case '%s'", c->name);
    return status == FKDA_OK ? FKDA_OK : failure_about(status, what);
}

int bench_steps(void) { return 2; }

fkda_status bench_run(const bench_case *c, const bench_settings *s, progress *bar, bench_result *r)
{
    fkda_fwd_desc desc;
    problem p;
    call whole;
    char what[128];
    TRY(desc_of(c, s, &desc, &r->choice));
    snprintf(what, sizeof what, "%s: generating", c->name);
    progress_step(bar, what);
    TRY(problem_make(operation_of(c), &desc, c->gates, c->len_values, &p));
    snprintf(what, sizeof what, "%s: timing", c->name);
    progress_step(bar, what);
    fkda_status status = call_prepare(&p, &whole);
    if (status == FKDA_OK) {
        r->backend = fkda_plan_backend(&whole.plan);
        fkda_plan_describe(&whole.plan, r->plan, sizeof r->plan);
        status = call_run(&whole);    /* warms up */
        if (status == FKDA_OK) status = call_measure(&whole, &s->patience, &r->times);
        if (r->backend == FKDA_BACKEND_CUDA) device_look(&r->device);
        call_free(&whole);
    }
    problem_free(&p);
    return status;
}

/*
 * The fewest bytes that the call can move: q, k, v, g, out in bf16 and beta in bf16 for every token and head (1282; published tables
 * say 1280 and leave beta out, and so do we), and the fp32 states once in and once out. 4.2 TB/s is what a large copy reaches on an H200.
 */
#define HBM_TB_PER_S 4.2
static const char *gate_name(const bench_case *c) { return c->g == FKDA_F32 ? "precomputed-f32" : problem_gate_name(c->gate); }

static double least_bytes(const bench_case *c)
{
    const double token_heads = (double)c->T * (double)c->HV, states = (double)(c->N * c->HV * c->K * c->V);
    const double g_bytes = c->g == FKDA_F32 ? 4 : 2;
    return token_heads * (2 * (double)(2 * c->K + 2 * c->V) + g_bytes * (double)c->K) + states * 2 * 4;
}

static double floor_ms(const bench_case *c) { return least_bytes(c) / (HBM_TB_PER_S * 1e9); }

void bench_print_heading(void)
{
    printf("%-20s  %-15s  %-6s  %-7s  %8s  %5s  %9s  %21s  %4s  %12s  %6s\n", "case", "gate", "gates", "backend", "tokens", "heads", "median", "p10 .. p90",
           "runs", "tokens/s", "of HBM");
    for (int i = 0; i < 133; ++i) putchar('-');
    putchar('\n');
}

void bench_print_row(const bench_case *c, const bench_result *r)
{
    char tokens[TEXT_NUMBER_BYTES], median[TEXT_NUMBER_BYTES], low[TEXT_NUMBER_BYTES], high[TEXT_NUMBER_BYTES], rate[TEXT_NUMBER_BYTES];
    char spread[2 * TEXT_NUMBER_BYTES + 8], share[16] = "-";
    snprintf(spread, sizeof spread, "%s .. %s", text_duration(r->times.p10_ms, low), text_duration(r->times.p90_ms, high));
    if (r->backend == FKDA_BACKEND_CUDA) snprintf(share, sizeof share, "%.1f %%", 100 * floor_ms(c) / r->times.median_ms);
    printf("%-20s  %-15s  %-6s  %-7s  %8s  %5lld  %9s  %21s  %4d  %12s  %6s\n", c->name, gate_name(c), problem_gates_names[c->gates],
           fkda_backend_name(r->backend), text_grouped((double)c->T, tokens), (long long)c->HV, text_duration(r->times.median_ms, median), spread,
           r->times.runs, text_grouped(1e3 * (double)c->T / r->times.median_ms, rate), share);
}

/* What only figures of a GPU need: which one, and how near they come to what its memory allows. */
static void add_device(cJSON *line, const bench_case *c, const bench_result *r)
{
    json_add_text(line, "gpu", r->device.gpu);
    json_add_text(line, "driver", r->device.driver);
    json_add_number(line, "sm_mhz", r->device.sm_mhz);
    json_add_number(line, "memory_mhz", r->device.memory_mhz);
    cJSON_AddStringToObject(line, "method", c->op == OPERATION_PREFILL ? "CUDA graph replay, L2 flushed, events" : "CUDA graph of one launch a layer, states cold, events");
    json_add_number(line, "hbm_floor_ms", floor_ms(c));
    json_add_number(line, "hbm_fraction", floor_ms(c) / r->times.median_ms);
    json_add_number(line, "tb_per_s", 1e-9 * least_bytes(c) / r->times.median_ms);
}

void bench_print_json(const bench_case *c, const bench_settings *s, const bench_result *r)
{
    cJSON *const line = cJSON_CreateObject();
    cJSON_AddStringToObject(line, "case", c->name);
    cJSON_AddStringToObject(line, "suite", c->suite);
    cJSON_AddStringToObject(line, "op", operation_names[c->op]);
    cJSON_AddStringToObject(line, "backend", fkda_backend_name(r->backend));
    json_add_text(line, "plan", r->plan);
    choice_add_json(&r->choice, line);
    cJSON_AddStringToObject(line, "gate", gate_name(c));
    cJSON_AddStringToObject(line, "gates", problem_gates_names[c->gates]);
    json_add_text(line, "lens", c->lens == NULL ? "" : c->lens);
    cJSON_AddStringToObject(line, "commit", FKDA_COMMIT);
    const struct { const char *key; double value; } numbers[] = {
        {"T", (double)c->T}, {"N", (double)c->N}, {"H", (double)c->H}, {"HV", (double)c->HV}, {"K", (double)c->K}, {"V", (double)c->V},
        {"threads", (double)s->threads}, {"runs", (double)r->times.runs}, {"median_ms", r->times.median_ms}, {"min_ms", r->times.min_ms},
        {"p10_ms", r->times.p10_ms}, {"p90_ms", r->times.p90_ms}, {"max_ms", r->times.max_ms}, {"tokens_per_s", 1e3 * (double)c->T / r->times.median_ms},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; ++i) json_add_number(line, numbers[i].key, numbers[i].value);
    if (c->op == OPERATION_DECODE) {
        json_add_number(line, "S", (double)c->S);
        json_add_number(line, "slots", (double)c->slots);
        json_add_number(line, "layers", (double)operation_of(c).layers);
    }
    if (r->backend == FKDA_BACKEND_CUDA) add_device(line, c, r);
    json_print_line(line);
}

/* flashkda bench: cases from suites.def or from the options, each warmed up, run, and summed up in a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "commands.h"
#include "options.h"
#include "progress.h"

static struct { const char *suite, *lens; int64_t T, H, HV, K, V, threads, runs; int backend, gate, gates, json; } asked = {.gate = -1};
static const char *const gate_kinds[] = {"bounded", "softplus", NULL};         /* index: fkda_gate */
static const char *const gates[] = {"slow", "random", "floor", "all", NULL};    /* index: problem_gates */

enum { MAX_T = 1 << 30, MAX_HEADS = 1 << 16, MAX_WIDTH = 256 };
static const option options[] = {
    {.name = "--suite", .value = "NAME", .help = "quick (the default), cpu, seed or shapes: cases of cli/suites.def", .kind = OPTION_TEXT, .to = &asked.suite},
    {.name = "--T", .value = "N", .help = "one case of your own: tokens", .kind = OPTION_INTEGER, .to = &asked.T, .min = 1, .max = MAX_T},
    {.name = "--H", .value = "N", .help = "query and key heads (default 8)", .kind = OPTION_INTEGER, .to = &asked.H, .min = 1, .max = MAX_HEADS},
    {.name = "--HV", .value = "N", .help = "value heads, a multiple of H (default H)", .kind = OPTION_INTEGER, .to = &asked.HV, .min = 1, .max = MAX_HEADS},
    {.name = "--K", .value = "N", .help = "key width (default 128)", .kind = OPTION_INTEGER, .to = &asked.K, .min = 1, .max = MAX_WIDTH},
    {.name = "--V", .value = "N", .help = "value width (default K)", .kind = OPTION_INTEGER, .to = &asked.V, .min = 1, .max = MAX_WIDTH},
    {.name = "--lens", .value = "A,B,..", .help = "packed sequences of so many tokens (64x128: 64 times 128); T is their sum", .kind = OPTION_TEXT, .to = &asked.lens},
    {.name = "--gate", .value = "KIND", .help = "bounded or softplus (default: as the case says)", .kind = OPTION_CHOICE, .to = &asked.gate, .choices = gate_kinds},
    {.name = "--gates", .value = "FAMILY", .help = "inputs of the gate: slow (trained models; default), random, floor, or all three", .kind = OPTION_CHOICE,
     .to = &asked.gates, .choices = gates},
    {.name = "--backend", .value = "NAME", .help = "auto, cuda, cpu or ref (default auto: the best that can)", .kind = OPTION_CHOICE, .to = &asked.backend,
     .choices = option_backends},
    {.name = "--threads", .value = "N", .help = "at most N threads (default: all cores)", .kind = OPTION_INTEGER, .to = &asked.threads, .min = 1,
     .max = OPTION_MAX_THREADS},
    {.name = "--runs", .value = "N", .help = "exactly N timed runs (default: 5 or more, about a second)", .kind = OPTION_INTEGER, .to = &asked.runs, .min = 1,
     .max = CALL_MAX_RUNS},
    {.name = "--json", .help = "print one JSON object a case instead of the table", .kind = OPTION_FLAG, .to = &asked.json},
};
static const command this_command = {
    .name = "bench",
    .usage = "[--suite NAME | --T N --H N [--HV N] [--K N] [--V N] [--lens A,B,..]] [options]",
    .about = "Times KDA on generated problems: normal q, k, v (bf16) and logits, gates as trained models have them, fp32 states in and\n"
             "out; the same numbers on every machine. One warm-up run, then the timed ones: median, and the 10th and 90th percentile.\n"
             "On a GPU: replays of a CUDA graph with the L2 cache flushed before each, timed by events. 'of HBM' is the time that the\n"
             "fewest bytes need at 4.2 TB/s (q, k, v, g, out, states once), over the median.\n",
    .examples = "  flashkda bench\n"
                "  flashkda bench --suite cpu --backend cpu --threads 1\n"
                "  flashkda bench --T 4096 --H 8\n"
                "  flashkda bench --suite shapes --backend cuda --gates all --json\n"
                "  flashkda bench --H 4 --lens 1300,547,2048 --gate softplus --json\n",
    .options = options,
    .option_count = sizeof options / sizeof *options,
};

static fkda_status collect(bench_list *list)
{
    const int is_own = asked.T || asked.H || asked.HV || asked.K || asked.V || asked.lens;
    CHECK(!is_own || asked.suite == NULL, FKDA_ERR_BAD_VALUE, "--suite excludes --T, --H, --HV, --K, --V and --lens: a case comes from one or the other");
    if (!is_own) return bench_add_suite(list, asked.suite == NULL ? "quick" : asked.suite);
    const int64_t H = asked.H ? asked.H : 8, K = asked.K ? asked.K : 128;
    const bench_case c = {.suite = "own", .T = asked.T, .H = H, .HV = asked.HV ? asked.HV : H, .K = K, .V = asked.V ? asked.V : K,
                          .gate = FKDA_GATE_BOUNDED, .lens = asked.lens};
    return bench_add_own(list, &c);
}

static bench_settings settings(void)
{
    const int runs = (int)asked.runs;
    bench_settings s = {.backend = (fkda_backend)asked.backend, .threads = (int32_t)asked.threads,
                        .patience = {.min_runs = runs ? runs : 5, .max_runs = runs ? runs : 200, .budget_ms = runs ? 0 : 1000}};
    return s;
}

/* Sizes that no backend takes or that do not fit are known before anything is generated: all cases are asked about first. */
static fkda_status query_all(const bench_list *list, const bench_settings *s)
{
    for (int i = 0; i < list->count; ++i) TRY(bench_query(&list->cases[i], s));
    return FKDA_OK;
}

static fkda_status run_all(const bench_list *list, const bench_settings *s, progress *bar)
{
    if (!asked.json) bench_print_heading();
    for (int i = 0; i < list->count; ++i) {
        bench_result result;
        TRY(bench_run(&list->cases[i], s, bar, &result));
        progress_end(bar);
        if (asked.json) bench_print_json(&list->cases[i], s, &result);
        else bench_print_row(&list->cases[i], &result);
        fflush(stdout);
    }
    return FKDA_OK;
}

/* What the library refuses here came from the options: a usage error, unless no backend takes it. */
static cli_exit report_refusal(fkda_status status)
{
    return status == FKDA_ERR_SHAPE || status == FKDA_ERR_BAD_VALUE || status == FKDA_ERR_OVERFLOW ? failure_report_usage(this_command.name)
                                                                                                   : failure_report(this_command.name, status);
}

cli_exit command_bench(int argc, char *const *argv)
{
    const options_outcome outcome = options_parse(&this_command, argc, argv);
    if (outcome == OPTIONS_HELP_SHOWN) return CLI_OK;
    if (outcome == OPTIONS_BAD) return failure_report_usage(this_command.name);
    bench_list list = {.cases = NULL};
    const bench_settings s = settings();
    progress bar = progress_start(0);
    fkda_status status = collect(&list);
    if (status == FKDA_OK && asked.gate >= 0)
        for (int i = 0; i < list.count; ++i) list.cases[i].gate = (fkda_gate)asked.gate;
    for (int i = 0; i < list.count; ++i) list.cases[i].gates = (problem_gates)asked.gates;
    if (status == FKDA_OK && asked.gates == PROBLEM_GATES_COUNT) status = bench_spread_gates(&list);
    if (status == FKDA_OK) status = query_all(&list, &s);
    bar = progress_start(list.count * bench_steps());
    if (status == FKDA_OK) status = run_all(&list, &s, &bar);
    bench_list_free(&list);
    if (status == FKDA_OK) return CLI_OK;
    progress_end(&bar);
    return report_refusal(status);
}

/* flashkda bench: cases from suites.def or from the options, each warmed up, run, and summed up in a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "commands.h"
#include "progress.h"
#include "terminal.h"

static struct {
    const char *lens;
    int64_t T, N, S, slots, H, HV, K, V, threads, runs;
    int op, suite, backend, gate, gates, json;
} asked = {.suite = -1, .gate = -1};
static const char *const gate_kinds[] = {"bounded", "softplus", "precomputed", "precomputed-f32", NULL};    /* index: fkda_gate, then its g in fp32 */
static const char *const gates[] = {"slow", "random", "floor", "all", NULL};    /* index: problem_gates */

enum { MAX_T = 1 << 30, MAX_HEADS = 1 << 16, MAX_WIDTH = 256 };
static const option options[] = {
    {.name = "--suite", .value = "NAME", .help = "the cases of a suite (default quick)", .kind = OPTION_CHOICE, .to = &asked.suite, .choices = bench_suite_names},
    {.name = "--T", .value = "N", .help = "one case of your own: tokens (default 1024)", .kind = OPTION_INTEGER, .to = &asked.T, .min = 1, .max = MAX_T},
    {.name = "--op", .value = "NAME", .help = "of your own case: prefill (default), or decode", .kind = OPTION_CHOICE, .to = &asked.op, .choices = operation_names},
    {.name = "--N", .value = "N", .help = "decode: sequences (default 1)", .kind = OPTION_INTEGER, .to = &asked.N, .min = 1, .max = MAX_HEADS},
    {.name = "--S", .value = "N", .help = "decode: new tokens of each sequence (default 1)", .kind = OPTION_INTEGER, .to = &asked.S, .min = 1,
     .max = FKDA_DECODE_MAX_TOKENS},
    {.name = "--slots", .value = "N", .help = "decode: states in a pool of so many slots (default: dense)", .kind = OPTION_INTEGER, .to = &asked.slots, .min = 1,
     .max = MAX_HEADS},
    {.name = "--H", .value = "N", .help = "query and key heads (default 8)", .kind = OPTION_INTEGER, .to = &asked.H, .min = 1, .max = MAX_HEADS},
    {.name = "--HV", .value = "N", .help = "value heads, a multiple of H (default H)", .kind = OPTION_INTEGER, .to = &asked.HV, .min = 1, .max = MAX_HEADS},
    {.name = "--K", .value = "N", .help = "key width (default 128)", .kind = OPTION_INTEGER, .to = &asked.K, .min = 1, .max = MAX_WIDTH},
    {.name = "--V", .value = "N", .help = "value width (default K)", .kind = OPTION_INTEGER, .to = &asked.V, .min = 1, .max = MAX_WIDTH},
    {.name = "--lens", .value = "A,B,..", .help = "packed sequences of so many tokens (64x128: 64 times 128); T is their sum", .kind = OPTION_TEXT, .to = &asked.lens},
    {.name = "--gate", .value = "KIND", .help = "bounded, softplus, precomputed or precomputed-f32 (default: as the case says)", .kind = OPTION_CHOICE, .to = &asked.gate, .choices = gate_kinds},
    {.name = "--gates", .value = "FAMILY", .help = "inputs of the gate: slow (trained models; default), random, floor, or all three", .kind = OPTION_CHOICE,
     .to = &asked.gates, .choices = gates},
    OPTION_ROW_BACKEND(&asked.backend),
    OPTION_ROW_THREADS(&asked.threads),
    {.name = "--runs", .value = "N", .help = "exactly N timed runs (default: 5 or more, about a second)", .kind = OPTION_INTEGER, .to = &asked.runs, .min = 1,
     .max = CALL_MAX_RUNS},
    {.name = "--json", .help = "print one JSON object a case instead of the table", .kind = OPTION_FLAG, .to = &asked.json},
    OPTION_ROW_QUIET,
};

static fkda_status collect(bench_list *list)
{
    const int is_decode = asked.op == OPERATION_DECODE;
    const int is_own = is_decode || asked.T || asked.N || asked.S || asked.slots || asked.H || asked.HV || asked.K || asked.V || asked.lens;
    CHECK(!is_own || asked.suite < 0, FKDA_ERR_BAD_VALUE, "--suite excludes --T, --H, --HV, --K, --V, --lens, --op decode, --N, --S and --slots: a case comes from one or the other");
    if (!is_own) return bench_add_suite(list, bench_suite_names[asked.suite < 0 ? 0 : asked.suite]);
    CHECK(is_decode || !(asked.N || asked.S || asked.slots), FKDA_ERR_BAD_VALUE, "--N, --S and --slots belong to --op decode");
    const int64_t H = asked.H ? asked.H : 8, K = asked.K ? asked.K : 128;
    const bench_case c = {.suite = "own", .op = (operation_kind)asked.op, .T = asked.T, .N = asked.N, .S = asked.S, .slots = asked.slots, .H = H, .HV = asked.HV ? asked.HV : H, .K = K, .V = asked.V ? asked.V : K,
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

static fkda_status print(const bench_case *c, const bench_settings *s, const bench_result *r, int is_first)
{
    if (asked.json) {
        bench_print_json(c, s, r);
    } else {
        if (is_first) bench_print_heading();    /* with the first row: a failure before it prints no table without one */
        bench_print_row(c, r);
    }
    CHECK(fflush(stdout) == 0, FKDA_ERR_IO, "standard output cannot be written");
    choice_tell(&r->choice, c->name);
    return FKDA_OK;
}

static fkda_status run_all(const bench_list *list, const bench_settings *s, progress *bar)
{
    for (int i = 0; i < list->count; ++i) {
        bench_result result;
        TRY(bench_run(&list->cases[i], s, bar, &result));
        progress_end(bar);
        TRY(print(&list->cases[i], s, &result, i == 0));
    }
    const int is_kimi = list->count > 0 && strcmp(list->cases[0].suite, "kimi-linear") == 0;
    return is_kimi ? bench_print_memory(asked.json) : FKDA_OK;
}

/* All cases, and whether each would run here: sizes that no backend takes, or that do not fit into memory, are refused before any work. */
static fkda_status prepare(bench_list *list, const bench_settings *s)
{
    TRY(collect(list));
    for (int i = 0; i < list->count; ++i) {
        const int is_wide = asked.gate > (int)FKDA_GATE_PRECOMPUTED;
        if (asked.gate >= 0) list->cases[i].gate = is_wide ? FKDA_GATE_PRECOMPUTED : (fkda_gate)asked.gate;
        if (is_wide) list->cases[i].g = FKDA_F32;
        list->cases[i].gates = (problem_gates)asked.gates;
    }
    if (asked.gates == PROBLEM_GATES_COUNT) TRY(bench_spread_gates(list));
    for (int i = 0; i < list->count; ++i) TRY(bench_query(&list->cases[i], s));
    return FKDA_OK;
}

/* What is refused before any work came from the options: a usage error, unless no backend takes it. */
static cli_exit report_refusal(fkda_status status)
{
    const int is_usage = status == FKDA_ERR_SHAPE || status == FKDA_ERR_BAD_VALUE || status == FKDA_ERR_OVERFLOW || status == FKDA_ERR_NO_MEMORY;
    return is_usage ? failure_report_usage(command_bench.name) : failure_report(command_bench.name, status);
}

static cli_exit bench(void)
{
    bench_list list = {.cases = NULL};
    const bench_settings s = settings();
    const fkda_status refused = prepare(&list, &s);
    progress bar = progress_start(list.count * bench_steps());
    const fkda_status status = refused == FKDA_OK ? run_all(&list, &s, &bar) : refused;
    bench_list_free(&list);
    if (status == FKDA_OK) return CLI_OK;
    progress_end(&bar);
    return refused != FKDA_OK ? report_refusal(refused) : failure_report(command_bench.name, status);
}

const command command_bench = {
    .name = "bench",
    .summary = "times generated problems: medians, spread, tokens per second",
    .usage = "[--suite NAME | --T N --H N [--HV N] [--K N] [--V N] [--lens A,B,..] | --op decode --N N --H N ..] [options]",
    .about = "Times KDA on generated problems: normal q, k, v (bf16) and logits, gates as trained models have them, fp32 states in and\n"
             "out; the same numbers on every machine. One warm-up run, then the timed ones: median, and the 10th and 90th percentile.\n"
             "On a GPU: replays of a CUDA graph with the L2 cache flushed before each, timed by events. 'of HBM' is the time that the\n"
             "fewest bytes need at 4.2 TB/s (q, k, v, g, out, states once), over the median.\n"
             "Decode: one launch for each of so many layers that their states come from memory; the time is that of one launch.\n\n"
             "If one case does not fit into memory, none is run. Suites:\n"
#define FKDA_SUITE(suite, about) "  " #suite ": " about "\n"
#include "suites.def"
    ,
    .examples = "  flashkda bench\n"
                "  flashkda bench --suite cpu --backend cpu --threads 1\n"
                "  flashkda bench --T 4096 --H 8\n"
                "  flashkda bench --suite shapes --backend cuda --gates all --json\n"
                "  flashkda bench --op decode --N 64 --H 32 --slots 1024\n"
                "  flashkda bench --H 4 --lens 1300,547,2048 --gate softplus --json\n",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = bench,
    .computes = 1,
};

/* flashkda run: a file in, a file out. */
#include <cjson/cJSON.h>
#include <stdio.h>

#include "call.h"
#include "commands.h"
#include "json_out.h"
#include "progress.h"
#include "text.h"
#include "work.h"

static work_options work = WORK_DEFAULTS;
static const option options[] = {WORK_OPTION_ROWS(&work)};
static const command this_command = {
    .name = "run",
    .usage = "IN.safetensors -o OUT.safetensors [options]",
    .about = "Computes KDA for the tensors in IN and writes out and final_state to OUT.\n\n"
             "IN holds q, k, v, g, beta and, if wanted, A_log, dt_bias, initial_state, cu_seqlens; its metadata holds gate\n"
             "(sigmoid_lower_bound, softplus or precomputed), lower_bound, and scale (default 1/sqrt(K)). OUT appears when it is\n"
             "complete, or not at all.\n",
    .examples = "  flashkda run data/kda_lb.safetensors -o out.safetensors\n"
                "  flashkda run in.safetensors -o out.safetensors --backend cpu --threads 2 --out-dtype f32\n"
                "  flashkda run in.safetensors -o out.safetensors --force --json\n",
    .positional = "IN.safetensors",
    .positional_to = &work.in,
    .options = options,
    .option_count = sizeof options / sizeof *options,
};

static void report(const problem *p, const call *c, double ms)
{
    const fkda_backend backend = fkda_plan_backend(&c->plan);
    const double tokens = (double)(p->desc.B * p->desc.T);
    char plan[512], in[4096], out[4096], time[TEXT_NUMBER_BYTES], rate[TEXT_NUMBER_BYTES], count[TEXT_NUMBER_BYTES];
    fkda_plan_describe(&c->plan, plan, sizeof plan);
    if (work.json) {
        cJSON *const line = cJSON_CreateObject();
        json_add_text(line, "input", work.in);
        json_add_text(line, "output", work.out);
        cJSON_AddStringToObject(line, "backend", fkda_backend_name(backend));
        cJSON_AddStringToObject(line, "plan", plan);
        if (*p->why_host != 0) json_add_text(line, "why_not_cuda", p->why_host);
        cJSON_AddNumberToObject(line, "tokens", tokens);
        cJSON_AddNumberToObject(line, "sequences", (double)p->desc.N);
        cJSON_AddNumberToObject(line, "ms", ms);
        json_print_line(line);
        return;
    }
    printf("%s\n  %s\n  %s tokens of %lld sequences in %s, %s tokens/s (one call, unwarmed)\n  wrote %s\n", text_printable(work.in, in, sizeof in), plan,
           text_grouped(tokens, count), (long long)p->desc.N, text_duration(ms, time), text_grouped(1e3 * tokens / ms, rate),
           text_printable(work.out, out, sizeof out));
}

static fkda_status compute_and_save(const problem *p, call *c, progress *bar)
{
    progress_step(bar, "computing");
    const double start = call_clock_ms();
    const fkda_status status = call_run(c);
    if (status != FKDA_OK) return failure_of_library(status, work.in);    /* cu_seqlens is checked here: the sentence needs the file */
    const double ms = call_clock_ms() - start;
    progress_step(bar, "writing");
    TRY(work_save(&work, p, fkda_plan_backend(&c->plan)));
    progress_end(bar);
    report(p, c, ms);
    return FKDA_OK;
}

static fkda_status run(progress *bar)
{
    safetensors_file file;
    problem p;
    call c;
    progress_step(bar, "reading");
    TRY(work_load(&work, &file, &p));
    fkda_status status = call_prepare(&p, &c);
    if (status == FKDA_OK) {
        status = compute_and_save(&p, &c, bar);
        call_free(&c);
    }
    problem_free(&p);
    safetensors_close(&file);
    return status;
}

cli_exit command_run(int argc, char *const *argv)
{
    const options_outcome outcome = options_parse(&this_command, argc, argv);
    if (outcome == OPTIONS_HELP_SHOWN) return CLI_OK;
    if (outcome == OPTIONS_GO && work.out == NULL) failure(FKDA_ERR_BAD_VALUE, "-o OUT.safetensors is missing");
    if (outcome == OPTIONS_BAD || work.out == NULL) return failure_report_usage(this_command.name);
    progress bar = progress_start(3);
    const fkda_status status = run(&bar);
    if (status == FKDA_OK) return CLI_OK;
    progress_end(&bar);
    return failure_report(this_command.name, status);
}

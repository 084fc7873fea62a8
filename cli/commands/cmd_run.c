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

static void report(const problem *p, const call *c, double ms)
{
    const double tokens = (double)problem_tokens(p);
    char plan[512], in[4096], out[4096], time[TEXT_NUMBER_BYTES], rate[TEXT_NUMBER_BYTES], count[TEXT_NUMBER_BYTES];
    fkda_plan_describe(&c->plan, plan, sizeof plan);
    if (work.json) {
        cJSON *const line = cJSON_CreateObject();
        json_add_text(line, "input", work.in);
        json_add_text(line, "output", work.out);
        cJSON_AddStringToObject(line, "backend", fkda_backend_name(fkda_plan_backend(&c->plan)));
        json_add_text(line, "plan", plan);
        choice_add_json(&p->choice, line);
        json_add_number(line, "tokens", tokens);
        json_add_number(line, "sequences", (double)p->desc.N);
        json_add_number(line, "ms", ms);
        work_add_strays(p, line);
        json_print_line(line);
        return;
    }
    printf("%s\n  %s\n  %s tokens of %lld sequences in %s, %s tokens/s (one call, unwarmed)\n  wrote %s\n",
           text_printable(work_input_name(&work), in, sizeof in), plan, text_grouped(tokens, count), (long long)p->desc.N, text_duration(ms, time),
           text_grouped(1e3 * tokens / ms, rate), text_printable(work_output_name(&work), out, sizeof out));
}

static fkda_status compute_and_save(problem *p, call *c, progress *bar)
{
    progress_step(bar, "computing");
    const double start = call_clock_ms();
    const fkda_status status = call_run(c);
    if (status != FKDA_OK) return failure_about(status, work_input_name(&work));    /* cu_seqlens is checked here: the sentence needs the file */
    const double ms = call_clock_ms() - start;
    progress_step(bar, "writing");
    TRY(problem_examine_results(p));
    TRY(work_save(&work, p, fkda_plan_backend(&c->plan)));
    progress_end(bar);
    work_tell_strays(&work, p);
    report(p, c, ms);
    return FKDA_OK;
}

static fkda_status compute(progress *bar)
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

static cli_exit run(void)
{
    if (work.out == NULL) {
        failure(FKDA_ERR_BAD_VALUE, "-o OUT.safetensors is missing");
        return failure_report_usage(command_run.name);
    }
    progress bar = progress_start(3);
    const fkda_status status = compute(&bar);
    if (status == FKDA_OK) return CLI_OK;
    progress_end(&bar);
    return failure_report(command_run.name, status);
}

const command command_run = {
    .name = "run",
    .summary = "computes the problem in a file and writes out and the states",
    .usage = "IN.safetensors -o OUT.safetensors [options]",
    .about = "Computes KDA for the tensors in IN and writes out and final_state to OUT. - is standard input or standard output (a file of that\n"
             "name is ./-).\n\n"
             "IN holds q, k, v, g, beta and, if wanted, A_log, dt_bias, initial_state, cu_seqlens; its metadata holds gate\n"
             "(sigmoid_lower_bound, softplus or precomputed), lower_bound, and scale (default 1/sqrt(K)). OUT appears when it is\n"
             "complete, or not at all. Rows of out that belong to no sequence, behind the end of cu_seqlens, are zeros. NaN and infinity in\n"
             "a tensor are computed with, and a note names the tensor.\n\n"
             WORK_ABOUT_STATES,
    .examples = "  flashkda run data/kda_lb.safetensors -o out.safetensors\n"
                "  flashkda run in.safetensors -o out.safetensors --backend cpu --threads 2 --out-dtype f32\n"
                "  flashkda run in.safetensors -o out.safetensors --force --json\n"
                "  zstd -dc in.safetensors.zst | flashkda run - -o - | zstd > out.safetensors.zst\n"
                "  flashkda run step.safetensors --op decode -o after.safetensors\n",
    .operand = WORK_OPERAND(&work),
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
    .computes = 1,
};

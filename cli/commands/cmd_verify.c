/* flashkda verify: is the answer right? */
#include "commands.h"
#include "verify.h"

static work_options work = WORK_DEFAULTS;
static const option options[] = {WORK_OPTION_ROWS(&work)};

static fkda_status compare(progress *bar, int *is_inside)
{
    safetensors_file file;
    problem p;
    verify_result result;
    progress_step(bar, "reading");
    TRY(work_load(&work, &file, &p));
    const fkda_status status = verify_measure(&work, &file, &p, bar, &result);
    if (status == FKDA_OK) {
        progress_end(bar);
        work_tell_strays(&work, &p);
        if (work.json) verify_print_json(&work, &p, &result);
        else verify_print_text(&work, &p, &result);
        *is_inside = result.is_inside;
        verify_free(&result);
    }
    problem_free(&p);
    safetensors_close(&file);
    return status;
}

static cli_exit verify(void)
{
    progress bar = progress_start(1 + verify_step_count());
    int is_inside = 0;
    const fkda_status status = compare(&bar, &is_inside);
    if (status == FKDA_OK) return is_inside ? CLI_OK : CLI_VERIFY_FAILED;
    progress_end(&bar);
    return failure_report(command_verify.name, status);
}

const command command_verify = {
    .name = "verify",
    .summary = "computes it and compares with the answer in the file, or with the float64 reference",
    .usage = "IN.safetensors [-o OUT.safetensors] [options]",
    .about = "Computes the problem in IN and compares with out, final_state and checkpoint_state of IN; an answer that IN lacks is\n"
             "computed by the float64 reference, which is slow. Exit code 1 if an error is outside its bar. - is standard input or\n"
             "standard output.\n\n"
             "  M1  relative RMS error, sqrt(sum err^2 / sum answer^2)\n"
             "  M2  worst tile of 16 rows of a (sequence, head): rms(err) / max(rms(tile), 0.05 rms(head)); bar: 3 times M1's\n"
             "  worst element: in units of 2^-8 of the largest answer of its row; shown, not judged\n\n"
             "NaN or infinity, in an answer or in a result, is inside no bar; a note names the tensor. Rows of out that belong to no\n"
             "sequence, behind the end of cu_seqlens, are not compared, nor are slots that no sequence writes.\n\n"
             WORK_ABOUT_STATES "\n"
             "Times are medians of a few calls. The row of a sequence shows the sequence run alone; the last row shows the call\n"
             "over all of them, which uses the machine better than one sequence can.\n",
    .examples = "  flashkda verify data/kda_lb.safetensors\n"
                "  flashkda verify data/kda_softplus.safetensors --backend ref --out-dtype f32\n"
                "  flashkda verify data/kda_lb.safetensors -o out.safetensors --force --json\n"
                "  flashkda verify step.safetensors --op decode --backend cpu\n",
    .operand = WORK_OPERAND(&work),
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = verify,
    .computes = 1,
};

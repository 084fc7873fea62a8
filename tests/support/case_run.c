/* Running a case, and comparing two runs. */
#include "harness.h"

#include "case_run.h"

case_result case_run(const case_spec *spec, const input_values *x, const run_setup *setup)
{
    case_image image = image_build(spec, x, setup);
    const guarded *const workspace = &image.buffer[IMAGE_WORKSPACE];
    const fkda_status status = image_call(&image, &image.args, workspace->data, workspace->bytes);
    if (status != FKDA_OK && status != FKDA_ERR_UNSUPPORTED)
        fail_msg("%s on %s: %s: %s", spec->name, fkda_backend_name(setup->backend), fkda_status_name(status), fkda_last_error());
    image_check_untouched(&image);
    const case_result result = image_gather(&image, status);
    image_free(&image);
    return result;
}

case_result case_run_reference(const case_spec *spec, const input_values *x)
{
    case_spec plain = *spec;
    plain.view = VIEW_PLAIN;
    plain.row_gap = 0;
    plain.is_plain = 1;
    plain.out = FKDA_F32;
    if (plain.final != FKDA_NONE) plain.final = FKDA_F32;
    if (plain.checkpoints != FKDA_NONE) plain.checkpoints = FKDA_F32;
    const run_setup setup = {.backend = FKDA_BACKEND_REF, .poison = 0xa5};
    return case_run(&plain, x, &setup);
}

void result_free(case_result *r)
{
    free(r->out);
    free(r->state);
    free(r->checkpoints);
    memset(r, 0, sizeof *r);
}

int result_same_bits(const case_result *a, const case_result *b)
{
    return a->out_count == b->out_count && a->state_count == b->state_count && a->checkpoint_elems == b->checkpoint_elems &&
           memcmp(a->checkpoints, b->checkpoints, (size_t)a->checkpoint_elems * sizeof *a->checkpoints) == 0 &&
           memcmp(a->out, b->out, (size_t)a->out_count * sizeof *a->out) == 0 &&
           memcmp(a->state, b->state, (size_t)a->state_count * sizeof *a->state) == 0;
}

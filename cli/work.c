/* Loading and saving for run and verify. */
#include "work.h"

#include <stdio.h>

#include "failure.h"

const char *const work_out_dtypes[] = {"bf16", "f32", NULL};

static safetensors_existing existing(const work_options *w) { return w->force ? SAFETENSORS_REPLACE_EXISTING : SAFETENSORS_KEEP_EXISTING; }

fkda_status work_load(const work_options *w, safetensors_file *file, problem *p)
{
    const problem_request request = {
        .backend = (fkda_backend)w->backend,
        .threads = (int32_t)w->threads,
        .out_dtype = w->out_dtype < 0 ? FKDA_NONE : w->out_dtype == 0 ? FKDA_BF16 : FKDA_F32,
    };
    TRY(safetensors_open(w->in, file));
    fkda_status status = w->out == NULL ? FKDA_OK : safetensors_check_output(w->out, w->in, existing(w));
    if (status == FKDA_OK) status = problem_load(file, &request, p);
    if (status != FKDA_OK) safetensors_close(file);
    return status;
}

static fkda_status entry_of(const problem *p, problem_role role, safetensors_entry *e)
{
    const problem_tensor *const t = &p->tensors[role];
    *e = (safetensors_entry){.name = problem_role_name(role), .dtype = t->dtype, .rank = t->rank};
    for (int i = 0; i < t->rank; ++i) e->shape[i] = t->shape[i];
    void *data;
    TRY(memory_map(&t->block, MEMORY_READ, &data));
    e->data = data;
    return FKDA_OK;
}

static fkda_status save(const work_options *w, const problem *p, fkda_backend backend, const safetensors_entry *entries)
{
    char scale[32], lower_bound[32] = "none";
    snprintf(scale, sizeof scale, "%.9g", (double)p->desc.scale);
    if (p->desc.gate == FKDA_GATE_BOUNDED) snprintf(lower_bound, sizeof lower_bound, "%.9g", (double)p->desc.lower_bound);
    const safetensors_pair metadata[] = {
        {"producer", "flashkda"}, {"version", fkda_version_string()}, {"backend", fkda_backend_name(backend)},
        {"scale", scale}, {"lower_bound", lower_bound},
        {"gate", p->desc.gate == FKDA_GATE_BOUNDED ? "sigmoid_lower_bound" : problem_gate_name(p->desc.gate)},
    };
    const safetensors_content content = {entries, 2, metadata, sizeof metadata / sizeof *metadata};
    return safetensors_write(w->out, existing(w), &content);
}

fkda_status work_save(const work_options *w, const problem *p, fkda_backend backend)
{
    if (w->out == NULL) return FKDA_OK;
    /* the wider dtype first, so that every tensor is aligned in the file */
    const int state_first = safetensors_dtype_bytes(p->desc.final_state.dtype) >= safetensors_dtype_bytes(p->desc.out.dtype);
    const problem_role roles[2] = {state_first ? PROBLEM_FINAL_STATE : PROBLEM_OUT, state_first ? PROBLEM_OUT : PROBLEM_FINAL_STATE};
    safetensors_entry entries[2] = {{.name = NULL}, {.name = NULL}};
    fkda_status status = FKDA_OK;
    int mapped = 0;
    for (; status == FKDA_OK && mapped < 2; ++mapped) status = entry_of(p, roles[mapped], &entries[mapped]);
    if (status == FKDA_OK) status = save(w, p, backend, entries);
    for (int i = 0; i < mapped; ++i) (void)memory_unmap(&p->tensors[roles[i]].block, MEMORY_READ, (void *)(uintptr_t)entries[i].data);
    return status;
}

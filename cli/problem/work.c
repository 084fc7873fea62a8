/* Loading and saving for run and verify. */
#include "work.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"
#include "json_out.h"

const char *const work_out_dtypes[] = {"bf16", "f32", NULL};

static safetensors_existing existing(const work_options *w) { return w->force ? SAFETENSORS_REPLACE_EXISTING : SAFETENSORS_KEEP_EXISTING; }

static int is_stream(const char *path) { return path != NULL && strcmp(path, "-") == 0; }

const char *work_input_name(const work_options *w) { return is_stream(w->in) ? "standard input" : w->in; }
const char *work_output_name(const work_options *w) { return is_stream(w->out) ? "standard output" : w->out; }

/* Standard output itself, while stdout of the C library is standard error: no line of text can get into the file. */
static int result_stream = -1;

static fkda_status take_standard_output(const work_options *w, const char *input_path)
{
    TRY(safetensors_check_stream(STDOUT_FILENO, work_output_name(w), input_path, existing(w)));
    result_stream = dup(STDOUT_FILENO);
    CHECK_IN(work_output_name(w), result_stream >= 0 && dup2(STDERR_FILENO, STDOUT_FILENO) >= 0, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    return FKDA_OK;
}

static fkda_status prepare_output(const work_options *w)
{
    const char *const input_path = is_stream(w->in) ? "/dev/stdin" : w->in;
    if (w->out == NULL) return FKDA_OK;
    return is_stream(w->out) ? take_standard_output(w, input_path) : safetensors_check_output(w->out, input_path, existing(w));
}

fkda_status work_load(const work_options *w, safetensors_file *file, problem *p)
{
    const problem_request request = {
        .op = (operation_kind)w->op,
        .backend = (fkda_backend)w->backend,
        .threads = (int32_t)w->threads,
        .out_dtype = w->out_dtype < 0 ? FKDA_NONE : w->out_dtype == 0 ? FKDA_BF16 : FKDA_F32,
    };
    TRY(is_stream(w->in) ? safetensors_open_stream(STDIN_FILENO, work_input_name(w), file) : safetensors_open(w->in, file));
    fkda_status status = prepare_output(w);
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

static fkda_status save(const work_options *w, const problem *p, fkda_backend backend, const safetensors_entry *entries, size_t count)
{
    char scale[32], lower_bound[32] = "none";
    snprintf(scale, sizeof scale, "%.9g", (double)p->desc.scale);
    if (p->desc.gate == FKDA_GATE_BOUNDED) snprintf(lower_bound, sizeof lower_bound, "%.9g", (double)p->desc.lower_bound);
    const safetensors_pair metadata[] = {
        {"producer", "flashkda"}, {"version", fkda_version_string()}, {"backend", fkda_backend_name(backend)},
        {"scale", scale}, {"lower_bound", lower_bound},
        {"gate", p->desc.gate == FKDA_GATE_BOUNDED ? "sigmoid_lower_bound" : problem_gate_name(p->desc.gate)},
    };
    const safetensors_content content = {entries, count, metadata, sizeof metadata / sizeof *metadata};
    if (!is_stream(w->out)) return safetensors_write(w->out, existing(w), &content);
    TRY(safetensors_write_stream(result_stream, work_output_name(w), &content));
    CHECK_IN(work_output_name(w), close(result_stream) == 0, FKDA_ERR_IO, "cannot be written: %s", strerror(errno));
    return FKDA_OK;
}

/* The results that there are, wider dtypes first, so that every tensor is aligned in the file. */
static int list_results(const problem *p, problem_role roles[3])
{
    int count = 0;
    for (int64_t bytes = 4; bytes >= 2; bytes /= 2)
        for (problem_role role = PROBLEM_CHECKPOINT_STATE; role >= PROBLEM_OUT; --role)
            if (safetensors_dtype_bytes(p->tensors[role].dtype) == bytes) roles[count++] = role;
    return count;
}

fkda_status work_save(const work_options *w, const problem *p, fkda_backend backend)
{
    if (w->out == NULL) return FKDA_OK;
    problem_role roles[3];
    safetensors_entry entries[3] = {{.name = NULL}, {.name = NULL}, {.name = NULL}};
    const int count = list_results(p, roles);
    fkda_status status = FKDA_OK;
    int mapped = 0;
    for (; status == FKDA_OK && mapped < count; ++mapped) status = entry_of(p, roles[mapped], &entries[mapped]);
    if (status == FKDA_OK) status = save(w, p, backend, entries, (size_t)count);
    for (int i = 0; i < mapped; ++i) (void)memory_unmap(&p->tensors[roles[i]].block, MEMORY_READ, (void *)(uintptr_t)entries[i].data);
    return status;
}

void work_tell_strays(const work_options *w, const problem *p)
{
    for (problem_role role = PROBLEM_OUT; role <= PROBLEM_CHECKPOINT_STATE; ++role)
        problem_tell_strays(work_input_name(w), "the result", role, &p->tensors[role]);
}

void work_add_strays(const problem *p, cJSON *line)
{
    cJSON *list = NULL;
    for (problem_role role = PROBLEM_Q; role < PROBLEM_ROLE_COUNT; ++role) {
        const problem_tensor *const t = &p->tensors[role];
        int64_t index[4];
        if (t->strays.nan_count + t->strays.inf_count == 0) continue;
        if (list == NULL) list = cJSON_AddObjectToObject(line, "non_finite");
        cJSON *const item = cJSON_AddObjectToObject(list, problem_role_name(role)), *const first = cJSON_CreateArray();
        json_add_number(item, "nan", (double)t->strays.nan_count);
        json_add_number(item, "inf", (double)t->strays.inf_count);
        problem_index_of(t, t->strays.first, index);
        for (int i = 0; i < t->rank; ++i) cJSON_AddItemToArray(first, cJSON_CreateNumber((double)index[i]));
        cJSON_AddItemToObject(item, "first", first);
    }
}

/*
 * A problem from a safetensors file. Tensors q, k, v, g, beta; optional A_log, dt_bias, initial_state, cu_seqlens (absent from the file:
 * absent from the problem), and those of problem_states.c; out, final_state and checkpoint_state are answers to compare
 * with. Metadata: scale (default 1/sqrt(K)), gate
 * (sigmoid_lower_bound, softplus, precomputed; default sigmoid_lower_bound if there is a lower_bound), lower_bound (a number or none).
 * Every refusal names file, tensor, value and rule.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "problem.h"
#include "terminal.h"
#include "text.h"

enum { SHAPE_TEXT_BYTES = 200 };
#define MISSING "tensor '%s' is missing; needed are q, k, v, g, beta"

static const char *shape_text(int rank, const int64_t *shape, char *to)
{
    size_t used = (size_t)snprintf(to, SHAPE_TEXT_BYTES, "[");
    for (int i = 0; i < rank; ++i) used += (size_t)snprintf(to + used, SHAPE_TEXT_BYTES - used, "%s%" PRId64, i ? "," : "", shape[i]);
    snprintf(to + used, SHAPE_TEXT_BYTES - used, "]");
    return to;
}

static const char *shape_rule(problem_role role)
{
    switch (role) {
    case PROBLEM_Q: return "q is [B,T,H,K]";
    case PROBLEM_K: return "k is [B,T,H,K], as q";
    case PROBLEM_V: return "v is [B,T,HV,V] with B and T of q";
    case PROBLEM_G: return "g is [B,T,HV,K] with HV of v and K of q";
    case PROBLEM_BETA: return "beta is [B,T,HV] with HV of v";
    case PROBLEM_A_LOG: return "A_log is [HV] with HV of v";
    case PROBLEM_DT_BIAS: return "dt_bias is [HV,K] with HV of v and K of q";
    case PROBLEM_INITIAL_STATE: return "initial_state is [N,HV,V,K] with HV and V of v, K of q, N sequences (with initial_slots: [slots,HV,V,K])";
    case PROBLEM_CU_SEQLENS: return "cu_seqlens is [N+1]";
    case PROBLEM_OUT: return "out is [B,T,HV,V], as v";
    case PROBLEM_FINAL_STATE: return "final_state is [N,HV,V,K] with HV and V of v, K of q, N sequences (with final_slots: as initial_state)";
    case PROBLEM_INITIAL_SLOTS: return "initial_slots is [N]";
    case PROBLEM_FINAL_SLOTS: return "final_slots is [N]";
    case PROBLEM_INITIAL_MASK: return "initial_mask is [N]";
    case PROBLEM_CHECKPOINT_OFFSETS: return "checkpoint_offsets is [N] or [N,C]";
    case PROBLEM_CHECKPOINT_SLOTS: return "checkpoint_slots has one slot for each checkpoint";
    case PROBLEM_CHECKPOINT_STATE: return "checkpoint_state is [rows,HV,V,K] with HV and V of v, K of q, one row for each checkpoint";
    case PROBLEM_ROLE_COUNT: break;
    }
    return "";
}

static fkda_status find_required(const safetensors_file *file, problem_role role, int rank, const safetensors_tensor **found)
{
    char shape[SHAPE_TEXT_BYTES];
    *found = safetensors_find(file, problem_role_name(role));
    CHECK_IN(file->path, *found != NULL, FKDA_ERR_FORMAT, MISSING, problem_role_name(role));
    CHECK_IN(file->path, (*found)->rank == rank, FKDA_ERR_SHAPE, "tensor '%s' has shape %s, but %s", problem_role_name(role),
             shape_text((*found)->rank, (*found)->shape, shape), shape_rule(role));
    return FKDA_OK;
}

/* B, T, H, HV, K, V, N out of the shapes of q, v and cu_seqlens. */
static fkda_status read_sizes(const safetensors_file *file, fkda_fwd_desc *d)
{
    const safetensors_tensor *q, *v;
    TRY(find_required(file, PROBLEM_Q, 4, &q));
    TRY(find_required(file, PROBLEM_V, 4, &v));
    d->B = q->shape[0];
    d->T = q->shape[1];
    d->H = q->shape[2];
    d->K = q->shape[3];
    d->HV = v->shape[2];
    d->V = v->shape[3];
    d->N = d->B;
    CHECK_IN(file->path, d->HV > 0 && d->H > 0 && d->HV % d->H == 0, FKDA_ERR_SHAPE,
             "tensor 'v' has HV = %" PRId64 " heads, which is not a multiple of the H = %" PRId64 " heads of q", d->HV, d->H);
    const safetensors_tensor *cu_seqlens = safetensors_find(file, problem_role_name(PROBLEM_CU_SEQLENS));
    if (cu_seqlens == NULL) return FKDA_OK;
    TRY(find_required(file, PROBLEM_CU_SEQLENS, 1, &cu_seqlens));
    CHECK_IN(file->path, cu_seqlens->shape[0] >= 1, FKDA_ERR_SHAPE, "tensor 'cu_seqlens' has no entry, but N sequences need N + 1");
    CHECK_IN(file->path, d->B == 1, FKDA_ERR_SHAPE, "tensor 'q' has B = %" PRId64 ", but with cu_seqlens it must be 1", d->B);
    d->N = cu_seqlens->shape[0] - 1;
    return FKDA_OK;
}

/* ---------------------------------------------------------------- metadata */

static fkda_status read_number(const safetensors_file *file, const char *key, float *value)
{
    double number;
    const char *const text = safetensors_metadata(file, key);
    CHECK_IN(file->path, text_to_real(text, &number) && fabs(number) < 1e30, FKDA_ERR_FORMAT, "metadata '%s' is '%.64s', but it must be a number", key,
             text);
    *value = (float)number;
    return FKDA_OK;
}

static fkda_status read_gate(const safetensors_file *file, fkda_fwd_desc *d)
{
    const char *const bound = safetensors_metadata(file, "lower_bound"), *gate = safetensors_metadata(file, "gate");
    const int has_bound = bound != NULL && strcmp(bound, "none") != 0;
    if (gate == NULL && has_bound) gate = "sigmoid_lower_bound";
    CHECK_IN(file->path, gate != NULL, FKDA_ERR_FORMAT, "metadata 'gate' and 'lower_bound' are both missing: which gate is meant?");
    if (strcmp(gate, "sigmoid_lower_bound") == 0) d->gate = FKDA_GATE_BOUNDED;
    else if (strcmp(gate, "softplus") == 0) d->gate = FKDA_GATE_SOFTPLUS;
    else if (strcmp(gate, "precomputed") == 0) d->gate = FKDA_GATE_PRECOMPUTED;
    else return failure_in(file->path, FKDA_ERR_FORMAT, "metadata 'gate' is '%.64s', but it must be sigmoid_lower_bound, softplus or precomputed", gate);
    if (d->gate != FKDA_GATE_BOUNDED) return FKDA_OK;
    CHECK_IN(file->path, has_bound, FKDA_ERR_FORMAT, "metadata 'lower_bound' is %s, but gate sigmoid_lower_bound needs a number in [-5, 0]",
             bound == NULL ? "missing" : "none");
    TRY(read_number(file, "lower_bound", &d->lower_bound));
    CHECK_IN(file->path, d->lower_bound >= -5.0f && d->lower_bound <= 0.0f, FKDA_ERR_BAD_VALUE, "metadata 'lower_bound' is '%.64s', outside [-5, 0]", bound);
    return FKDA_OK;
}

static fkda_status read_metadata(const safetensors_file *file, fkda_fwd_desc *d)
{
    TRY(read_gate(file, d));
    d->scale = d->K > 0 ? (float)(1.0 / sqrt((double)d->K)) : 1.0f;
    return safetensors_metadata(file, "scale") == NULL ? FKDA_OK : read_number(file, "scale", &d->scale);
}

/* ---------------------------------------------------------------- tensors */

static fkda_status check_dtype(const safetensors_file *file, problem_role role, const safetensors_tensor *t)
{
    const int is_index = role == PROBLEM_CU_SEQLENS || role == PROBLEM_INITIAL_SLOTS || role == PROBLEM_FINAL_SLOTS ||
                         role == PROBLEM_CHECKPOINT_OFFSETS || role == PROBLEM_CHECKPOINT_SLOTS;
    if (role == PROBLEM_INITIAL_MASK) {
        CHECK_IN(file->path, strcmp(t->dtype_name, "U8") == 0 || strcmp(t->dtype_name, "BOOL") == 0, FKDA_ERR_DTYPE,
                 "tensor '%s' has dtype %s, but it must be U8 or BOOL", t->name, t->dtype_name);
        return FKDA_OK;
    }
    const int is_taken = is_index ? t->dtype == FKDA_I32 || t->dtype == FKDA_I64 : t->dtype == FKDA_BF16 || t->dtype == FKDA_F32;
    CHECK_IN(file->path, is_taken, FKDA_ERR_DTYPE, "tensor '%s' has dtype %s, but it must be %s", t->name, t->dtype_name,
             is_index ? "I32 or I64" : "BF16 or F32");
    return FKDA_OK;
}

static fkda_status check_shape(const safetensors_file *file, problem_role role, const safetensors_tensor *t, const problem_tensor *want)
{
    char got_text[SHAPE_TEXT_BYTES], want_text[SHAPE_TEXT_BYTES];
    CHECK_IN(file->path, t->rank == want->rank && memcmp(t->shape, want->shape, (size_t)t->rank * sizeof *t->shape) == 0, FKDA_ERR_SHAPE,
             "tensor '%s' has shape %s, but it must be %s: %s", t->name, shape_text(t->rank, t->shape, got_text),
             shape_text(want->rank, want->shape, want_text), shape_rule(role));
    return FKDA_OK;
}

static fkda_status read_into(const safetensors_file *file, const safetensors_tensor *from, problem *p, problem_role role)
{
    problem_tensor *const to = &p->tensors[role];
    void *data;
    TRY(memory_map(&to->block, MEMORY_WRITE, &data));
    const fkda_status status = safetensors_read(file, from, data);
    if (status == FKDA_OK && role < PROBLEM_CU_SEQLENS) to->strays = problem_examine(p, role, to->dtype, data);
    const fkda_status unmapped = memory_unmap(&to->block, MEMORY_WRITE, data);
    return status != FKDA_OK ? status : unmapped;
}

static fkda_status load_tensor(const safetensors_file *file, problem *p, problem_role role)
{
    const safetensors_tensor *const t = safetensors_find(file, problem_role_name(role));
    if (t == NULL) return FKDA_OK;
    TRY(problem_add(p, role, t->dtype));
    return read_into(file, t, p, role);
}

/* Where the sequences lie, for the host; whether they are in order, the library checks. */
static fkda_status copy_bounds(problem *p)
{
    const problem_tensor *const t = &p->tensors[PROBLEM_CU_SEQLENS];
    if (t->dtype == FKDA_NONE) return FKDA_OK;
    const size_t count = (size_t)t->shape[0];
    p->bounds = calloc(count, sizeof *p->bounds);
    p->bounds_as_stored = malloc(t->block.bytes);
    CHECK(p->bounds != NULL && p->bounds_as_stored != NULL, FKDA_ERR_NO_MEMORY, "out of memory for cu_seqlens");
    void *data;
    TRY(memory_map(&t->block, MEMORY_READ, &data));
    memcpy(p->bounds_as_stored, data, t->block.bytes);
    for (size_t i = 0; i < count; ++i) p->bounds[i] = t->dtype == FKDA_I64 ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
    return memory_unmap(&t->block, MEMORY_READ, data);
}

/* Decode: so many tokens of a sequence, and no more. */
static fkda_status check_tokens(const safetensors_file *file, const problem *p)
{
    CHECK_IN(file->path, p->op.kind == OPERATION_PREFILL || p->desc.cu_seqlens != FKDA_NONE || p->desc.T <= FKDA_DECODE_MAX_TOKENS, FKDA_ERR_SHAPE,
             "tensor 'q' has T = %" PRId64 " tokens of each sequence, but decode takes at most %d", p->desc.T, FKDA_DECODE_MAX_TOKENS);
    return FKDA_OK;
}

static fkda_status count_tokens(const safetensors_file *file, problem *p)
{
    if (p->op.kind == OPERATION_PREFILL || p->bounds == NULL) return FKDA_OK;
    for (int64_t n = 0; n < p->desc.N; ++n) {
        const int64_t tokens = p->bounds[n + 1] - p->bounds[n];
        CHECK_IN(file->path, tokens <= FKDA_DECODE_MAX_TOKENS, FKDA_ERR_CU_SEQLENS,
                 "tensor 'cu_seqlens' gives sequence %" PRId64 " %" PRId64 " tokens, but decode takes at most %d", n, tokens, FKDA_DECODE_MAX_TOKENS);
        if (tokens > p->op.most_tokens) p->op.most_tokens = tokens;
    }
    return FKDA_OK;
}

/* How many checkpoints there are is known when cu_seqlens is loaded. */
static int has_late_shape(problem_role role) { return role == PROBLEM_CHECKPOINT_SLOTS || role == PROBLEM_CHECKPOINT_STATE; }

static fkda_status check_late_shapes(const safetensors_file *file, const problem *p)
{
    for (problem_role role = PROBLEM_Q; role < PROBLEM_ROLE_COUNT; ++role) {
        const safetensors_tensor *const t = safetensors_find(file, problem_role_name(role));
        problem_tensor want;
        if (t == NULL || !has_late_shape(role)) continue;
        problem_shape(&p->desc, role, &want);
        TRY(check_shape(file, role, t, &want));
    }
    return FKDA_OK;
}

/* The dtype that the file has for a role, NONE if it is absent; dtype and shape are checked. */
static fkda_status dtype_in_file(const safetensors_file *file, problem_role role, const fkda_fwd_desc *d, fkda_dtype *dtype)
{
    const safetensors_tensor *const t = safetensors_find(file, problem_role_name(role));
    problem_tensor want;
    *dtype = FKDA_NONE;
    CHECK_IN(file->path, t != NULL || role > PROBLEM_BETA, FKDA_ERR_FORMAT, MISSING, problem_role_name(role));
    if (t == NULL) return FKDA_OK;
    problem_shape(d, role, &want);
    TRY(check_dtype(file, role, t));
    if (!has_late_shape(role)) TRY(check_shape(file, role, t, &want));
    *dtype = t->dtype;
    return FKDA_OK;
}

/* States are as asked for, else as the file has them, else as the initial state, else fp32. A pool stays what it is,
 * and so do states that are updated in place. */
static fkda_status describe_result(const safetensors_file *file, const problem_request *request, fkda_fwd_desc *d, problem_role role)
{
    fkda_dtype dtype;
    const int is_pool = role == PROBLEM_FINAL_STATE && (d->final_state.slot_count > 0 || request->op == OPERATION_DECODE);
    TRY(dtype_in_file(file, role, d, &dtype));
    if (dtype == FKDA_NONE || is_pool) dtype = d->initial_state.dtype != FKDA_NONE ? d->initial_state.dtype : FKDA_F32;
    problem_tell(d, role, request->final_state_dtype != FKDA_NONE ? request->final_state_dtype : dtype);
    return FKDA_OK;
}

/* The whole desc, before anything is loaded: where the tensors go depends on it. out is as asked for, else as v. */
static fkda_status describe(const safetensors_file *file, const problem_request *request, fkda_fwd_desc *d)
{
    fkda_dtype dtype;
    for (problem_role role = PROBLEM_Q; role < PROBLEM_OUT; ++role) {
        TRY(dtype_in_file(file, role, d, &dtype));
        if (role != PROBLEM_INITIAL_MASK || safetensors_find(file, problem_role_name(role)) != NULL) problem_tell(d, role, dtype);
    }
    CHECK_IN(file->path, d->gate != FKDA_GATE_PRECOMPUTED || (d->A_log == FKDA_NONE && d->dt_bias == FKDA_NONE), FKDA_ERR_BAD_VALUE,
             "tensors A_log and dt_bias must be absent, because metadata 'gate' is precomputed");
    TRY(dtype_in_file(file, PROBLEM_OUT, d, &dtype));
    TRY(describe_result(file, request, d, PROBLEM_FINAL_STATE));
    if (d->checkpoint_every > 0 || d->checkpoint_offset_dtype != FKDA_NONE) TRY(describe_result(file, request, d, PROBLEM_CHECKPOINT_STATE));
    if (d->checkpoints.slot_dtype != FKDA_NONE) d->checkpoints.slot_count = d->checkpoint_count > 0 ? d->checkpoint_count : 1;
    problem_tell(d, PROBLEM_OUT, request->out_dtype != FKDA_NONE ? request->out_dtype : d->v.dtype);
    return FKDA_OK;
}

/* A tensor whose name is mistyped would silently count as absent. */
static void warn_of_strangers(const safetensors_file *file)
{
    const safetensors_tensor *first = NULL;
    size_t count = 0;
    for (size_t i = 0; i < file->count; ++i) {
        int role = 0;
        while (role < PROBLEM_ROLE_COUNT && strcmp(file->tensors[i].name, problem_role_name((problem_role)role)) != 0) ++role;
        if (role < PROBLEM_ROLE_COUNT) continue;
        if (count++ == 0) first = &file->tensors[i];
    }
    if (count == 0) return;
    terminal_note(file->path, "%zu of its tensors are not among those that flashkda reads and are ignored, such as '%.64s'", count, first->name);
}

/* Nobody computes the rows behind the last sequence: in a file that is written they are zeros. */
static fkda_status clear_rows_behind(problem *p)
{
    static const char zeros[4096];
    return problem_tokens(p) == p->desc.B * p->desc.T ? FKDA_OK : memory_repeat(&p->tensors[PROBLEM_OUT].block, zeros, sizeof zeros);
}

/* Refusals that need no data come first. */
static fkda_status check_fit(const safetensors_file *file, const problem *p)
{
    const fkda_status status = problem_fits(p->op, &p->desc);
    return status == FKDA_OK ? FKDA_OK : failure_about(status, file->path);
}

static fkda_status load(const safetensors_file *file, const problem_request *request, problem *p)
{
    p->op.kind = request->op;
    p->desc.struct_size = sizeof p->desc;
    p->desc.backend = request->backend;
    p->desc.threads = request->threads;
    TRY(read_sizes(file, &p->desc));
    TRY(read_metadata(file, &p->desc));
    TRY(problem_describe_states(file, request->op, &p->desc));
    TRY(describe(file, request, &p->desc));
    TRY(check_tokens(file, p));
    TRY(choice_make(p->op, &p->desc, &p->choice));
    TRY(check_fit(file, p));
    TRY(load_tensor(file, p, PROBLEM_CU_SEQLENS));    /* first: it says which rows of the others count */
    TRY(copy_bounds(p));
    TRY(count_tokens(file, p));
    problem_count_checkpoints(p);
    TRY(check_late_shapes(file, p));
    for (problem_role role = PROBLEM_Q; role < PROBLEM_OUT; ++role)
        if (role != PROBLEM_CU_SEQLENS) TRY(load_tensor(file, p, role));
    TRY(problem_add(p, PROBLEM_FINAL_STATE, p->desc.final_state.dtype));
    TRY(problem_add(p, PROBLEM_OUT, p->desc.out.dtype));
    if (problem_has_checkpoints(&p->desc)) TRY(problem_add(p, PROBLEM_CHECKPOINT_STATE, p->desc.checkpoints.dtype));
    TRY(problem_begin_states(p));
    return clear_rows_behind(p);
}

fkda_status problem_load(const safetensors_file *file, const problem_request *request, problem *p)
{
    *p = (problem){.bounds = NULL};
    const fkda_status status = load(file, request, p);
    if (status != FKDA_OK) {
        problem_free(p);
        return status;
    }
    if (request->is_silent) return FKDA_OK;
    warn_of_strangers(file);
    choice_tell(&p->choice, file->path);
    for (problem_role role = PROBLEM_Q; role < PROBLEM_CU_SEQLENS; ++role) problem_tell_strays(file->path, "tensor", role, &p->tensors[role]);
    return FKDA_OK;
}

fkda_status problem_load_answer(const safetensors_file *file, const problem *p, problem_role role, problem_tensor *answer)
{
    const safetensors_tensor *const t = safetensors_find(file, problem_role_name(role));
    *answer = (problem_tensor){.dtype = FKDA_NONE};
    if (t == NULL) return FKDA_OK;
    *answer = p->tensors[role];    /* shape and rank; memory of its own */
    answer->dtype = t->dtype;
    TRY(memory_alloc(FKDA_MEMORY_HOST, (size_t)(t->end - t->begin), &answer->block));
    const fkda_status status = safetensors_read(file, t, answer->block.data);
    if (status == FKDA_OK) answer->strays = problem_examine(p, role, answer->dtype, answer->block.data);
    else memory_free(&answer->block);
    return status;
}

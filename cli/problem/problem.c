/* What every problem has: shapes by role, memory, sequences. */
#include "problem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "failure.h"
#include "terminal.h"

const char *problem_role_name(problem_role role)
{
    static const char *const names[PROBLEM_ROLE_COUNT] = {
        "q", "k", "v", "g", "beta", "A_log", "dt_bias", "initial_state", "cu_seqlens", "initial_slots", "final_slots", "initial_mask",
        "checkpoint_offsets", "checkpoint_slots", "out", "final_state", "checkpoint_state"};
    return names[role];
}

const char *problem_gate_name(fkda_gate gate)
{
    return gate == FKDA_GATE_BOUNDED ? "bounded" : gate == FKDA_GATE_SOFTPLUS ? "softplus" : "precomputed";
}

static void set_shape(problem_tensor *t, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    t->rank = rank;
    t->shape[0] = a;
    t->shape[1] = b;
    t->shape[2] = c;
    t->shape[3] = d;
}

static void set_state_shape(problem_tensor *t, const fkda_fwd_desc *d, const fkda_state_desc *s, int64_t rows)
{
    set_shape(t, 4, s->slot_count > 0 ? s->slot_count : rows, d->HV, d->V, d->K);
}

/* The one table of shapes. */
void problem_shape(const fkda_fwd_desc *d, problem_role role, problem_tensor *t)
{
    switch (role) {
    case PROBLEM_Q: case PROBLEM_K: set_shape(t, 4, d->B, d->T, d->H, d->K); break;
    case PROBLEM_V: case PROBLEM_OUT: set_shape(t, 4, d->B, d->T, d->HV, d->V); break;
    case PROBLEM_G: set_shape(t, 4, d->B, d->T, d->HV, d->K); break;
    case PROBLEM_BETA: set_shape(t, 3, d->B, d->T, d->HV, 1); break;
    case PROBLEM_A_LOG: set_shape(t, 1, d->HV, 1, 1, 1); break;
    case PROBLEM_DT_BIAS: set_shape(t, 2, d->HV, d->K, 1, 1); break;
    case PROBLEM_INITIAL_STATE: set_state_shape(t, d, &d->initial_state, d->N); break;
    case PROBLEM_FINAL_STATE: set_state_shape(t, d, &d->final_state, d->N); break;
    case PROBLEM_CHECKPOINT_STATE: set_state_shape(t, d, &d->checkpoints, d->checkpoint_count); break;
    case PROBLEM_CHECKPOINT_OFFSETS: set_shape(t, d->checkpoints_per_sequence > 0 ? 2 : 1, d->N, d->checkpoints_per_sequence, 1, 1); break;
    case PROBLEM_CHECKPOINT_SLOTS: set_shape(t, 1, d->checkpoint_count, 1, 1, 1); break;
    case PROBLEM_INITIAL_SLOTS: case PROBLEM_FINAL_SLOTS: case PROBLEM_INITIAL_MASK: set_shape(t, 1, d->N, 1, 1, 1); break;
    case PROBLEM_CU_SEQLENS: set_shape(t, 1, d->N + 1, 1, 1, 1); break;
    case PROBLEM_ROLE_COUNT: break;
    }
}

/* Where the desc keeps the dtype of a role. */
static fkda_dtype *dtype_place(fkda_fwd_desc *d, problem_role role)
{
    fkda_dtype *const places[PROBLEM_ROLE_COUNT] = {
        [PROBLEM_Q] = &d->q.dtype, [PROBLEM_K] = &d->k.dtype, [PROBLEM_V] = &d->v.dtype, [PROBLEM_G] = &d->g.dtype, [PROBLEM_BETA] = &d->beta.dtype,
        [PROBLEM_A_LOG] = &d->A_log, [PROBLEM_DT_BIAS] = &d->dt_bias, [PROBLEM_INITIAL_STATE] = &d->initial_state.dtype,
        [PROBLEM_CU_SEQLENS] = &d->cu_seqlens, [PROBLEM_OUT] = &d->out.dtype, [PROBLEM_FINAL_STATE] = &d->final_state.dtype,
        [PROBLEM_INITIAL_SLOTS] = &d->initial_state.slot_dtype, [PROBLEM_FINAL_SLOTS] = &d->final_state.slot_dtype,
        [PROBLEM_CHECKPOINT_OFFSETS] = &d->checkpoint_offset_dtype, [PROBLEM_CHECKPOINT_SLOTS] = &d->checkpoints.slot_dtype,
        [PROBLEM_CHECKPOINT_STATE] = &d->checkpoints.dtype,
    };
    return places[role];
}

void problem_tell(fkda_fwd_desc *d, problem_role role, fkda_dtype dtype)
{
    if (role == PROBLEM_INITIAL_MASK) d->flags |= FKDA_FLAG_INITIAL_MASK;
    else *dtype_place(d, role) = dtype;
}

static int64_t element_bytes(problem_role role, fkda_dtype dtype) { return role == PROBLEM_INITIAL_MASK ? 1 : safetensors_dtype_bytes(dtype); }

/* The bytes of a tensor; shape and dtype are set. */
static fkda_status bytes_of(operation op, problem_role role, const problem_tensor *t, uint64_t *bytes)
{
    *bytes = (uint64_t)element_bytes(role, t->dtype) * (role == PROBLEM_FINAL_STATE ? (uint64_t)operation_layers(op) : 1);
    for (int i = 0; i < t->rank; ++i) {
        CHECK(t->shape[i] == 0 || *bytes <= (uint64_t)INT64_MAX / (uint64_t)t->shape[i], FKDA_ERR_OVERFLOW, "%s: its size does not fit 63 bits",
              problem_role_name(role));
        *bytes *= (uint64_t)t->shape[i];
    }
    return FKDA_OK;
}

fkda_status problem_fits(operation op, const fkda_fwd_desc *desc)
{
    fkda_fwd_desc d = *desc;
    size_t workspace = 0;
    const fkda_status status = operation_workspace_size(op, &d, &workspace);
    if (status != FKDA_OK) return failure_of_library(status, NULL);
    uint64_t sum = workspace;
    for (problem_role role = PROBLEM_Q; role < PROBLEM_ROLE_COUNT; ++role) {
        problem_tensor t = {.dtype = role == PROBLEM_INITIAL_MASK ? FKDA_NONE : *dtype_place(&d, role)};
        uint64_t bytes;
        if (role == PROBLEM_INITIAL_MASK && (d.flags & FKDA_FLAG_INITIAL_MASK) == 0) continue;
        problem_shape(&d, role, &t);
        TRY(bytes_of(op, role, &t, &bytes));
        CHECK(sum <= INT64_MAX - bytes, FKDA_ERR_OVERFLOW, "the size of all tensors does not fit 63 bits");
        sum += bytes;
    }
    return memory_fits(d.memory, sum);
}

fkda_status problem_add(problem *p, problem_role role, fkda_dtype dtype)
{
    problem_tensor *const t = &p->tensors[role];
    problem_shape(&p->desc, role, t);
    t->dtype = dtype;
    problem_tell(&p->desc, role, dtype);
    uint64_t bytes;
    TRY(bytes_of(p->op, role, t, &bytes));
    return memory_alloc(p->desc.memory, (size_t)bytes, &t->block);
}

problem_sequence problem_sequence_at(const problem *p, int64_t n)
{
    if (p->bounds == NULL) return (problem_sequence){.batch = n, .begin = 0, .end = p->desc.T};
    return (problem_sequence){.batch = 0, .begin = p->bounds[n], .end = p->bounds[n + 1]};
}

int64_t problem_tokens(const problem *p)
{
    const int64_t all = p->desc.B * p->desc.T;
    if (p->bounds == NULL) return all;
    const int64_t end = p->bounds[p->desc.N];
    return end < 0 ? 0 : end < all ? end : all;    /* a broken cu_seqlens is refused later, by the library */
}

non_finite problem_examine(const problem *p, problem_role role, fkda_dtype dtype, const void *data)
{
    problem_tensor t = {.rank = 0};
    problem_shape(&p->desc, role, &t);
    const int has_tokens = role <= PROBLEM_BETA || role == PROBLEM_OUT;
    int64_t count = has_tokens ? problem_tokens(p) : 1;
    for (int i = has_tokens ? 2 : 0; i < t.rank; ++i) count *= t.shape[i];
    return non_finite_count(data, dtype, count);
}

fkda_status problem_examine_results(problem *p)
{
    for (problem_role role = PROBLEM_OUT; role <= PROBLEM_CHECKPOINT_STATE; ++role) {
        problem_tensor *const t = &p->tensors[role];
        void *data;
        if (t->dtype == FKDA_NONE) continue;
        TRY(memory_map(&t->block, MEMORY_READ, &data));
        t->strays = problem_examine(p, role, t->dtype, data);
        TRY(memory_unmap(&t->block, MEMORY_READ, data));
    }
    return FKDA_OK;
}

void problem_index_of(const problem_tensor *t, int64_t element, int64_t index[4])
{
    for (int i = t->rank - 1; i >= 0; --i) {
        index[i] = element % t->shape[i];
        element /= t->shape[i];
    }
}

void problem_tell_strays(const char *path, const char *what, problem_role role, const problem_tensor *t)
{
    const non_finite *const found = &t->strays;
    int64_t index[4];
    char at[128] = "", nan[32] = "", inf[40] = "";
    size_t used = 0;
    if (found->nan_count + found->inf_count == 0) return;
    problem_index_of(t, found->first, index);
    for (int i = 0; i < t->rank; ++i) used += (size_t)snprintf(at + used, sizeof at - used, "%s%" PRId64, i ? "," : "", index[i]);
    if (found->nan_count > 0) snprintf(nan, sizeof nan, "%" PRId64 " NaN", found->nan_count);
    if (found->inf_count > 0) snprintf(inf, sizeof inf, "%" PRId64 " %s", found->inf_count, found->inf_count == 1 ? "infinity" : "infinities");
    terminal_note(path, "%s '%s' holds %s%s%s, the first at [%s]", what, problem_role_name(role), nan, *nan && *inf ? " and " : "", inf, at);
}

void problem_free(problem *p)
{
    for (int i = 0; i < PROBLEM_ROLE_COUNT; ++i) memory_free(&p->tensors[i].block);
    free(p->bounds);
    free(p->bounds_as_stored);
    free(p->final_rows);
    free(p->checkpoint_rows);
    *p = (problem){.bounds = NULL};
}

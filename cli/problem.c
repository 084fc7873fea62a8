/* What every problem has: shapes by role, memory, sequences. */
#include "problem.h"

#include <stdlib.h>

#include "failure.h"

const char *problem_role_name(problem_role role)
{
    static const char *const names[PROBLEM_ROLE_COUNT] = {"q", "k", "v", "g", "beta", "A_log", "dt_bias", "initial_state", "cu_seqlens", "out",
                                                          "final_state"};
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
    case PROBLEM_INITIAL_STATE: case PROBLEM_FINAL_STATE: set_shape(t, 4, d->N, d->HV, d->V, d->K); break;
    case PROBLEM_CU_SEQLENS: set_shape(t, 1, d->N + 1, 1, 1, 1); break;
    case PROBLEM_ROLE_COUNT: break;
    }
}

void problem_tell(fkda_fwd_desc *d, problem_role role, fkda_dtype dtype)
{
    switch (role) {
    case PROBLEM_Q: d->q.dtype = dtype; break;
    case PROBLEM_K: d->k.dtype = dtype; break;
    case PROBLEM_V: d->v.dtype = dtype; break;
    case PROBLEM_G: d->g.dtype = dtype; break;
    case PROBLEM_BETA: d->beta.dtype = dtype; break;
    case PROBLEM_OUT: d->out.dtype = dtype; break;
    case PROBLEM_A_LOG: d->A_log = dtype; break;
    case PROBLEM_DT_BIAS: d->dt_bias = dtype; break;
    case PROBLEM_CU_SEQLENS: d->cu_seqlens = dtype; break;
    case PROBLEM_INITIAL_STATE: d->initial_state.dtype = dtype; break;
    case PROBLEM_FINAL_STATE: d->final_state.dtype = dtype; break;
    case PROBLEM_ROLE_COUNT: break;
    }
}

fkda_status problem_add(problem *p, problem_role role, fkda_dtype dtype)
{
    problem_tensor *const t = &p->tensors[role];
    problem_shape(&p->desc, role, t);
    t->dtype = dtype;
    problem_tell(&p->desc, role, dtype);
    uint64_t bytes = (uint64_t)safetensors_dtype_bytes(dtype);
    for (int i = 0; i < t->rank; ++i) {
        CHECK(t->shape[i] == 0 || bytes <= (uint64_t)INT64_MAX / (uint64_t)t->shape[i], FKDA_ERR_OVERFLOW, "%s: its size does not fit 63 bits",
              problem_role_name(role));
        bytes *= (uint64_t)t->shape[i];
    }
    return memory_alloc(p->desc.memory, (size_t)bytes, &t->block);
}

problem_sequence problem_sequence_at(const problem *p, int64_t n)
{
    if (p->bounds == NULL) return (problem_sequence){.batch = n, .begin = 0, .end = p->desc.T};
    return (problem_sequence){.batch = 0, .begin = p->bounds[n], .end = p->bounds[n + 1]};
}

void problem_free(problem *p)
{
    for (int i = 0; i < PROBLEM_ROLE_COUNT; ++i) memory_free(&p->tensors[i].block);
    free(p->bounds);
    free(p->bounds_as_stored);
    *p = (problem){.bounds = NULL};
}

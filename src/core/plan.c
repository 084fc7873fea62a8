/* Asks the backends in order; collects their refusals into one sentence. */
#include "plan.h"

#include <stdio.h>
#include <string.h>

#include "status.h"
#include "validate.h"

const fkdai_backend *fkdai_find_backend(fkda_backend id)
{
    for (const fkdai_backend *const *b = fkdai_backends; *b != NULL; ++b)
        if ((*b)->id == id) return *b;
    return NULL;
}

/* What no backend offers yet; the fields are there so that the structs need not change. */
static fkda_status refuse_what_is_not_there_yet(const fkda_fwd_desc *d)
{
    REQUIRE(d->initial_state.slot_count == 0 || d->initial_state.dtype == FKDA_NONE, FKDA_ERR_UNSUPPORTED,
            "desc.initial_state.slot_count: state pools are not offered yet, only dense states (slot_count 0)");
    REQUIRE(d->final_state.slot_count == 0 || d->final_state.dtype == FKDA_NONE, FKDA_ERR_UNSUPPORTED,
            "desc.final_state.slot_count: state pools are not offered yet, only dense states (slot_count 0)");
    REQUIRE((d->flags & FKDA_FLAG_INITIAL_MASK) == 0, FKDA_ERR_UNSUPPORTED, "desc.flags: FKDA_FLAG_INITIAL_MASK is not offered yet");
    REQUIRE(d->checkpoints.dtype == FKDA_NONE, FKDA_ERR_UNSUPPORTED, "desc.checkpoints: checkpoints are not offered yet");
    const fkda_dtype dtypes[] = {d->q.dtype, d->k.dtype, d->v.dtype, d->g.dtype, d->beta.dtype, d->out.dtype,
                                 d->A_log, d->dt_bias, d->initial_state.dtype, d->final_state.dtype};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; ++i)
        REQUIRE(dtypes[i] != FKDA_F16, FKDA_ERR_UNSUPPORTED, "desc: fp16 tensors are not offered yet, only bf16 and f32");
    return FKDA_OK;
}

/* The size that a caller is told can be given to aligned_alloc as it is. */
static size_t whole_alignments(size_t bytes) { return (bytes + FKDA_WORKSPACE_ALIGN - 1) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN; }

static fkda_status ask(const fkdai_backend *backend, const fkda_fwd_desc *resolved, fkdai_plan *plan)
{
    memset(plan, 0, sizeof *plan);
    plan->magic = FKDAI_PLAN_MAGIC;
    plan->backend = backend;
    plan->desc = *resolved;
    TRY(backend->plan(plan));
    plan->workspace_bytes = whole_alignments(plan->workspace_bytes);
    return FKDA_OK;
}

/* The first backend that accepts. BAD_VALUE is no refusal of this problem: the environment of the process has a word that nobody knows. */
static fkda_status ask_all(const fkda_fwd_desc *resolved, fkdai_plan *plan)
{
    char before[FKDAI_SENTENCE_BYTES], reasons[FKDAI_SENTENCE_BYTES], last_reason[sizeof plan->fallback] = "";
    size_t used = 0;
    snprintf(before, sizeof before, "%s", fkda_last_error());
    for (const fkdai_backend *const *b = fkdai_backends; *b != NULL; ++b) {
        const fkda_status status = ask(*b, resolved, plan);
        if (status == FKDA_OK) {
            if ((*b)->id == FKDA_BACKEND_REF) memcpy(plan->fallback, last_reason, sizeof last_reason);
            return fkdai_fail(FKDA_OK, "%s", before);    /* refusals on the way are no failure */
        }
        if (status == FKDA_ERR_BAD_VALUE) return status;
        snprintf(last_reason, sizeof last_reason, "%s: %.100s", (*b)->name, fkda_last_error());
        if (used < sizeof reasons)
            used += (size_t)snprintf(reasons + used, sizeof reasons - used, "%s%s: %s", used ? "; " : "", (*b)->name, fkda_last_error());
    }
    return fkdai_fail(FKDA_ERR_UNSUPPORTED, "%s", reasons);
}

static fkda_status check_build(const fkda_fwd_desc *d)
{
    const int wants_cuda = d->memory == FKDA_MEMORY_CUDA || d->backend == FKDA_BACKEND_CUDA;
    REQUIRE(!wants_cuda || fkdai_find_backend(FKDA_BACKEND_CUDA) != NULL, FKDA_ERR_UNSUPPORTED, FKDAI_NO_CUDA ", but %s",
            d->memory == FKDA_MEMORY_CUDA ? "the tensors are in CUDA memory" : "desc.backend = FKDA_BACKEND_CUDA");
    return FKDA_OK;
}

fkda_status fkdai_make_plan(const fkda_fwd_desc *desc, fkdai_plan *plan)
{
    fkda_fwd_desc resolved;
    fkdai_plan made;
    TRY(fkdai_resolve_fwd(desc, &resolved));
    TRY(check_build(&resolved));
    TRY(refuse_what_is_not_there_yet(&resolved));
    if (resolved.backend == FKDA_BACKEND_AUTO) TRY(ask_all(&resolved, &made));
    else TRY(ask(fkdai_find_backend(resolved.backend), &resolved, &made));
    *plan = made;
    return FKDA_OK;
}

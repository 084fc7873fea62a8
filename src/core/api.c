/* The public functions: validate, plan, pick, run, over the row of an operation. */
#include "api.h"

#include <stdio.h>
#include <string.h>

#include "plan.h"
#include "status.h"
#include "validate.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

/* What fkdai_api_plan put into *plan. 0, and *made all zero, if it did not. */
static int look_inside(const fkda_plan *plan, fkdai_plan *made)
{
    if (plan != NULL) memcpy(made, plan, sizeof *made);
    if (plan != NULL && made->magic == FKDAI_PLAN_MAGIC) return 1;
    memset(made, 0, sizeof *made);
    return 0;
}

/* ---------------------------------------------------------------- any operation */

static fkda_status run_plan(const fkdai_plan *plan, const void *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    const fkdai_operation *const operation = plan->operation;
    const void *known;
    fkdai_args room;
    TRY(fkdai_know_args(operation, args, &room, &known));
    TRY(fkdai_validate_call(plan, known, workspace, workspace_bytes));
    if (operation->is_empty(&plan->desc)) return FKDA_OK;
    return plan->backend->backend->offers[operation->id].run(plan, known, workspace, stream);
}

fkda_status fkdai_api_call(const fkdai_operation *operation, const void *desc, const void *args, void *workspace, size_t workspace_bytes,
                           fkda_stream stream)
{
    fkdai_plan plan;
    TRY(fkdai_make_plan(operation, desc, &plan));
    return run_plan(&plan, args, workspace, workspace_bytes, stream);
}

fkda_status fkdai_api_plan(const fkdai_operation *operation, const void *desc, fkda_plan *plan)
{
    fkdai_plan made;
    REQUIRE(plan != NULL, FKDA_ERR_NULL_POINTER, "plan is NULL");
    TRY(fkdai_make_plan(operation, desc, &made));
    memcpy(plan, &made, sizeof made);
    memset((char *)plan + sizeof made, 0, sizeof *plan - sizeof made);
    return FKDA_OK;
}

fkda_status fkdai_api_run(const fkdai_operation *operation, const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes,
                          fkda_stream stream)
{
    fkdai_plan made;
    REQUIRE(plan != NULL, FKDA_ERR_NULL_POINTER, "plan is NULL");
    REQUIRE(look_inside(plan, &made), FKDA_ERR_BAD_VALUE, "plan was not made by fkda_%s_plan", operation->name);
    REQUIRE(made.operation == operation, FKDA_ERR_BAD_VALUE, "plan was not made by fkda_%s_plan, but by fkda_%s_plan", operation->name,
            made.operation->name);
    return run_plan(&made, args, workspace, workspace_bytes, stream);
}

fkda_status fkdai_api_workspace_size(const fkdai_operation *operation, const void *desc, size_t *bytes)
{
    fkdai_plan plan;
    REQUIRE(bytes != NULL, FKDA_ERR_NULL_POINTER, "bytes is NULL");
    TRY(fkdai_make_plan(operation, desc, &plan));
    *bytes = plan.workspace_bytes;
    return FKDA_OK;
}

fkda_status fkdai_api_query(const fkdai_operation *operation, const void *desc, fkda_backend *backend)
{
    fkdai_plan plan;
    TRY(fkdai_make_plan(operation, desc, &plan));
    if (backend != NULL) *backend = plan.backend->id;
    return FKDA_OK;
}

fkda_status fkdai_api_advise(const fkdai_operation *operation, const void *desc, const void *args, void *takes, uint32_t *copies)
{
    fkdai_plan plan;
    fkdai_args room;
    const void *known = NULL;
    size_t desc_size;
    uint32_t marked;
    REQUIRE(desc != NULL && takes != NULL && copies != NULL, FKDA_ERR_NULL_POINTER, "%s is NULL",
            desc == NULL ? "desc" : takes == NULL ? "takes" : "copies");
    if (args != NULL) TRY(fkdai_know_args(operation, args, &room, &known));
    TRY(fkdai_make_suited_plan(operation, desc, known, &plan, &marked));
    memcpy(&desc_size, desc, sizeof desc_size);
    fkdai_hand_back(operation, &plan.desc, desc_size, takes);
    *copies = marked;
    return FKDA_OK;
}

/* ---------------------------------------------------------------- the forward pass */

fkda_status fkda_fwd(const fkda_fwd_desc *desc, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkdai_api_call(&fkdai_op_fwd, desc, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_fwd_plan(const fkda_fwd_desc *desc, fkda_plan *plan) { return fkdai_api_plan(&fkdai_op_fwd, desc, plan); }

fkda_status fkda_fwd_run(const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkdai_api_run(&fkdai_op_fwd, plan, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_fwd_workspace_size(const fkda_fwd_desc *desc, size_t *bytes) { return fkdai_api_workspace_size(&fkdai_op_fwd, desc, bytes); }

fkda_status fkda_fwd_query(const fkda_fwd_desc *desc, fkda_backend *backend) { return fkdai_api_query(&fkdai_op_fwd, desc, backend); }

fkda_status fkda_fwd_advise(const fkda_fwd_desc *desc, const fkda_fwd_args *args, fkda_fwd_desc *takes, uint32_t *copies)
{
    return fkdai_api_advise(&fkdai_op_fwd, desc, args, takes, copies);
}

/* ---------------------------------------------------------------- decode */

fkda_status fkda_decode(const fkda_decode_desc *desc, const fkda_decode_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkdai_api_call(&fkdai_op_decode, desc, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_decode_plan(const fkda_decode_desc *desc, fkda_plan *plan) { return fkdai_api_plan(&fkdai_op_decode, desc, plan); }

fkda_status fkda_decode_run(const fkda_plan *plan, const fkda_decode_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkdai_api_run(&fkdai_op_decode, plan, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_decode_workspace_size(const fkda_decode_desc *desc, size_t *bytes)
{
    return fkdai_api_workspace_size(&fkdai_op_decode, desc, bytes);
}

fkda_status fkda_decode_query(const fkda_decode_desc *desc, fkda_backend *backend) { return fkdai_api_query(&fkdai_op_decode, desc, backend); }

/* ---------------------------------------------------------------- decode with what stands around it */

fkda_status fkda_decode_fused(const fkda_decode_fused_desc *desc, const fkda_decode_fused_args *args, void *workspace, size_t workspace_bytes,
                              fkda_stream stream)
{
    return fkdai_api_call(&fkdai_op_decode_fused, desc, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_decode_fused_plan(const fkda_decode_fused_desc *desc, fkda_plan *plan) { return fkdai_api_plan(&fkdai_op_decode_fused, desc, plan); }

fkda_status fkda_decode_fused_run(const fkda_plan *plan, const fkda_decode_fused_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkdai_api_run(&fkdai_op_decode_fused, plan, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_decode_fused_workspace_size(const fkda_decode_fused_desc *desc, size_t *bytes)
{
    return fkdai_api_workspace_size(&fkdai_op_decode_fused, desc, bytes);
}

fkda_status fkda_decode_fused_query(const fkda_decode_fused_desc *desc, fkda_backend *backend)
{
    return fkdai_api_query(&fkdai_op_decode_fused, desc, backend);
}

/* ---------------------------------------------------------------- plans of any operation */

size_t fkda_plan_workspace_size(const fkda_plan *plan)
{
    fkdai_plan made;
    (void)look_inside(plan, &made);
    return made.workspace_bytes;
}

fkda_backend fkda_plan_backend(const fkda_plan *plan)
{
    fkdai_plan made;
    return look_inside(plan, &made) ? made.backend->id : FKDA_BACKEND_AUTO;
}

uint32_t fkda_plan_copies(const fkda_plan *plan)
{
    fkdai_plan made;
    (void)look_inside(plan, &made);
    return made.copies;
}

size_t fkda_plan_describe(const fkda_plan *plan, char *text, size_t size)
{
    fkdai_plan made;
    if (!look_inside(plan, &made)) return (size_t)snprintf(text, size, "not a plan");
    const int is_fallback = made.fallback[0] != 0;
    return (size_t)snprintf(text, size, "%s: %s, workspace %.1f MiB%s%s", made.backend->name, made.choice,
                            (double)made.workspace_bytes / (1024.0 * 1024.0), is_fallback ? "; slow, as " : "", made.fallback);
}

/* ---------------------------------------------------------------- backends and the library */

fkda_status fkda_init(void)
{
    for (const fkdai_backend_entry *entry = fkdai_backends; entry->id != FKDA_BACKEND_AUTO; ++entry)
        if (entry->backend != NULL) (void)entry->backend->present(NULL, 0);
    return FKDA_OK;    /* a backend that is off is an answer of fkda_backend_status, not an error */
}

fkda_status fkda_backend_status(fkda_backend backend, char *text, size_t size)
{
    REQUIRE(backend != FKDA_BACKEND_AUTO && (unsigned)backend < FKDA_BACKEND_COUNT, FKDA_ERR_BAD_VALUE, "backend = %d is not CUDA, CPU or REF",
            (int)backend);
    REQUIRE(text != NULL || size == 0, FKDA_ERR_NULL_POINTER, "text is NULL, but size = %zu", size);
    const fkdai_backend *const found = fkdai_find_backend(backend)->backend;
    char answer[FKDAI_SENTENCE_BYTES] = FKDAI_NO_CUDA;
    const fkda_status status = found == NULL ? FKDA_ERR_UNSUPPORTED : found->present(answer, sizeof answer);
    if (size > 0) snprintf(text, size, "%s", answer);
    REQUIRE(status == FKDA_OK, status, "%s: %s", fkda_backend_name(backend), answer);
    return FKDA_OK;
}

const char *fkda_backend_name(fkda_backend backend)
{
    const fkdai_backend_entry *const entry = fkdai_find_backend(backend);
    return entry->id == backend ? entry->name : "?";
}

int fkda_version(void) { return 10000 * FKDA_VERSION_MAJOR + 100 * FKDA_VERSION_MINOR + FKDA_VERSION_PATCH; }

const char *fkda_version_string(void)
{
    return STRING(FKDA_VERSION_MAJOR) "." STRING(FKDA_VERSION_MINOR) "." STRING(FKDA_VERSION_PATCH);
}

const char *fkda_build_info(void) { return FKDA_BUILD_INFO; }

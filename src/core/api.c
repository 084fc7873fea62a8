/* The public functions: validate, plan, pick, run. */
#include <stdio.h>
#include <string.h>

#include "plan.h"
#include "status.h"
#include "validate.h"

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)

/* What fkda_fwd_plan put into *plan; all zero if it did not. */
static fkdai_plan inside(const fkda_plan *plan)
{
    fkdai_plan made = {.magic = 0};
    if (plan != NULL) memcpy(&made, plan, sizeof made);
    return made.magic == FKDAI_PLAN_MAGIC ? made : (fkdai_plan){.magic = 0};
}

fkda_status fkda_init(void)
{
    for (const fkdai_backend *const *b = fkdai_backends; *b != NULL; ++b) (void)(*b)->present(NULL, 0);
    return FKDA_OK;    /* a backend that is off is an answer of fkda_backend_status, not an error */
}

static fkda_status run_plan(const fkdai_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    TRY(fkdai_validate_args(&plan->desc, args));
    TRY(fkdai_validate_workspace(&plan->desc, args, plan->workspace_bytes, workspace, workspace_bytes));
    return plan->desc.N == 0 ? FKDA_OK : plan->backend->run(plan, args, workspace, stream);    /* no sequence: nothing is read or written */
}

fkda_status fkda_fwd(const fkda_fwd_desc *desc, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    fkdai_plan plan;
    TRY(fkdai_make_plan(desc, &plan));
    return run_plan(&plan, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_fwd_plan(const fkda_fwd_desc *desc, fkda_plan *plan)
{
    REQUIRE(plan != NULL, FKDA_ERR_NULL_POINTER, "plan is NULL");
    fkdai_plan made;
    TRY(fkdai_make_plan(desc, &made));
    memset(plan, 0, sizeof *plan);
    memcpy(plan, &made, sizeof made);
    return FKDA_OK;
}

fkda_status fkda_fwd_run(const fkda_plan *plan, const fkda_fwd_args *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    REQUIRE(plan != NULL, FKDA_ERR_NULL_POINTER, "plan is NULL");
    const fkdai_plan made = inside(plan);
    REQUIRE(made.magic != 0, FKDA_ERR_BAD_VALUE, "plan was not made by fkda_fwd_plan");
    return run_plan(&made, args, workspace, workspace_bytes, stream);
}

fkda_status fkda_fwd_workspace_size(const fkda_fwd_desc *desc, size_t *bytes)
{
    REQUIRE(bytes != NULL, FKDA_ERR_NULL_POINTER, "bytes is NULL");
    fkdai_plan plan;
    TRY(fkdai_make_plan(desc, &plan));
    *bytes = plan.workspace_bytes;
    return FKDA_OK;
}

fkda_status fkda_fwd_query(const fkda_fwd_desc *desc, fkda_backend *backend)
{
    fkdai_plan plan;
    TRY(fkdai_make_plan(desc, &plan));
    if (backend != NULL) *backend = plan.backend->id;
    return FKDA_OK;
}

size_t fkda_plan_workspace_size(const fkda_plan *plan) { return inside(plan).workspace_bytes; }

fkda_backend fkda_plan_backend(const fkda_plan *plan)
{
    const fkdai_plan made = inside(plan);
    return made.magic == 0 ? FKDA_BACKEND_AUTO : made.backend->id;
}

size_t fkda_plan_describe(const fkda_plan *plan, char *text, size_t size)
{
    const fkdai_plan made = inside(plan);
    if (made.magic == 0) return (size_t)snprintf(text, size, "not a plan");
    const int is_fallback = made.fallback[0] != 0;
    return (size_t)snprintf(text, size, "%s: %s, workspace %.1f MiB%s%s", made.backend->name, made.choice,
                            (double)made.workspace_bytes / (1024.0 * 1024.0), is_fallback ? "; slow, as " : "", made.fallback);
}

fkda_status fkda_backend_status(fkda_backend backend, char *text, size_t size)
{
    REQUIRE(backend != FKDA_BACKEND_AUTO && (unsigned)backend < FKDA_BACKEND_COUNT, FKDA_ERR_BAD_VALUE, "backend = %d is not CUDA, CPU or REF",
            (int)backend);
    REQUIRE(text != NULL || size == 0, FKDA_ERR_NULL_POINTER, "text is NULL, but size = %zu", size);
    const fkdai_backend *const found = fkdai_find_backend(backend);
    char answer[FKDAI_SENTENCE_BYTES] = FKDAI_NO_CUDA;
    const fkda_status status = found == NULL ? FKDA_ERR_UNSUPPORTED : found->present(answer, sizeof answer);
    if (size > 0) snprintf(text, size, "%s", answer);
    REQUIRE(status == FKDA_OK, status, "%s: %s", fkda_backend_name(backend), answer);
    return FKDA_OK;
}

const char *fkda_backend_name(fkda_backend backend)
{
    static const char *const names[FKDA_BACKEND_COUNT] = {"auto", "cuda", "cpu", "ref"};
    return (unsigned)backend < FKDA_BACKEND_COUNT ? names[backend] : "?";
}

int fkda_version(void) { return 10000 * FKDA_VERSION_MAJOR + 100 * FKDA_VERSION_MINOR + FKDA_VERSION_PATCH; }

const char *fkda_version_string(void)
{
    return STRING(FKDA_VERSION_MAJOR) "." STRING(FKDA_VERSION_MINOR) "." STRING(FKDA_VERSION_PATCH);
}

const char *fkda_build_info(void) { return FKDA_BUILD_INFO; }

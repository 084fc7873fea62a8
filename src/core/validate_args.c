/* Rules on pointers, over the table of arguments: present where the desc says so, aligned, apart from each other; the workspace. */
#include <inttypes.h>

#include "status.h"
#include "validate.h"

/* The arguments that have bytes. */
typedef struct buffers {
    int count;
    struct { uintptr_t begin, end; int argument; } at[FKDAI_MAX_ARGUMENTS];
} buffers;

static fkda_status check_presence(const fkdai_plan *plan, const void *args, int i)
{
    const fkdai_argument *const argument = &plan->operation->arguments[i];
    const void *const data = fkdai_pointer(plan->operation, args, i);
    const int64_t bytes = plan->extents.bytes[i];
    const uintptr_t align = plan->extents.align[i];
    REQUIRE(bytes == 0 || data != NULL || argument->may_be_null, FKDA_ERR_NULL_POINTER, "args.%s is NULL, but the desc asks for it", argument->name);
    REQUIRE(align > 0 || data == NULL, FKDA_ERR_BAD_VALUE, "args.%s is given, but the desc says that it is absent", argument->name);
    REQUIRE(align == 0 || (uintptr_t)data % align == 0, FKDA_ERR_MISALIGNED, "args.%s = %p is not aligned to its element of %d bytes", argument->name,
            data, (int)align);
    return FKDA_OK;
}

static fkda_status list_buffers(const fkdai_plan *plan, const void *args, buffers *list)
{
    list->count = 0;
    for (int i = 0; i < plan->operation->argument_count; ++i) {
        const uintptr_t begin = (uintptr_t)fkdai_pointer(plan->operation, args, i), bytes = (uintptr_t)plan->extents.bytes[i];
        const uintptr_t forbidden = (uintptr_t)plan->extents.align[i] - 1;    /* bits of its address: alignments are powers of two, absent is 0 */
        if ((begin & forbidden) != 0 || (begin == 0 && bytes != 0)) TRY(check_presence(plan, args, i));
        if (begin == 0 || bytes == 0) continue;
        list->at[list->count].begin = begin, list->at[list->count].end = begin + bytes, list->at[list->count].argument = i;
        list->count += 1;
    }
    return FKDA_OK;
}

static fkda_status check_pair(const fkdai_plan *plan, const void *args, int written, int other)
{
    const fkdai_argument *const w = &plan->operation->arguments[written], *const o = &plan->operation->arguments[other];
    const void *const w_data = fkdai_pointer(plan->operation, args, written), *const o_data = fkdai_pointer(plan->operation, args, other);
    if (written == other || (other < written && o->access == FKDAI_WRITE)) return FKDA_OK;    /* the pair has been seen */
    if (w_data == o_data && plan->operation->may_be_in_place(&plan->desc, written, other)) return FKDA_OK;
    return fkdai_fail(FKDA_ERR_ALIAS, "args.%s (%p, %" PRId64 " bytes) overlaps args.%s (%p, %" PRId64 " bytes)", w->name, w_data,
                      plan->extents.bytes[written], o->name, o_data, plan->extents.bytes[other]);
}

static fkda_status check_aliases(const fkdai_plan *plan, const void *args, const buffers *list)
{
    for (int w = 0; w < list->count; ++w) {
        if (plan->operation->arguments[list->at[w].argument].access != FKDAI_WRITE) continue;
        for (int i = 0; i < list->count; ++i)
            if (list->at[w].begin < list->at[i].end && list->at[i].begin < list->at[w].end)
                TRY(check_pair(plan, args, list->at[w].argument, list->at[i].argument));
    }
    return FKDA_OK;
}

static fkda_status check_workspace(const fkdai_plan *plan, const void *args, const buffers *list, const void *workspace, size_t bytes)
{
    const size_t needed = plan->workspace_bytes;
    REQUIRE(bytes >= needed, FKDA_ERR_WORKSPACE, "workspace_bytes = %zu, but this plan needs %zu", bytes, needed);
    if (needed == 0) return FKDA_OK;
    REQUIRE(workspace != NULL, FKDA_ERR_WORKSPACE, "workspace is NULL, but this plan needs %zu bytes", needed);
    REQUIRE((uintptr_t)workspace % FKDA_WORKSPACE_ALIGN == 0, FKDA_ERR_WORKSPACE, "workspace = %p is not aligned to %d bytes", workspace,
            FKDA_WORKSPACE_ALIGN);
    for (int i = 0; i < list->count; ++i) {
        const int argument = list->at[i].argument;
        REQUIRE((uintptr_t)workspace >= list->at[i].end || list->at[i].begin >= (uintptr_t)workspace + needed, FKDA_ERR_ALIAS,
                "workspace (%p, %zu bytes) overlaps args.%s (%p, %" PRId64 " bytes)", workspace, needed, plan->operation->arguments[argument].name,
                fkdai_pointer(plan->operation, args, argument), plan->extents.bytes[argument]);
    }
    return FKDA_OK;
}

fkda_status fkdai_validate_call(const fkdai_plan *plan, const void *args, void *workspace, size_t workspace_bytes)
{
    buffers list;
    TRY(list_buffers(plan, args, &list));
    TRY(check_aliases(plan, args, &list));
    TRY(check_workspace(plan, args, &list, workspace, workspace_bytes));
    return plan->operation->check_values(&plan->desc, args, workspace);
}

/* Rules on pointers, over the table of arguments: present where the desc says so, aligned, apart from each other; the workspace. */
#include <inttypes.h>

#include "status.h"
#include "validate.h"

/* One pointer of the args and what the desc says about it. */
typedef struct buffer {
    const char *name;
    const void *data;
    int64_t bytes;          /* 0: absent or empty */
    int64_t align;          /* 0: the desc says that it is absent */
    fkdai_access access;
} buffer;

static void list_buffers(const fkdai_operation *operation, const fkdai_desc *desc, const void *args, buffer *list)
{
    fkdai_extent extents[FKDAI_MAX_ARGUMENTS];
    operation->measure(desc, extents);
    for (int i = 0; i < operation->argument_count; ++i) {
        const fkdai_argument *const argument = &operation->arguments[i];
        const void *const data = fkdai_pointer(operation, args, i);
        const int is_left_out = argument->may_be_null && data == NULL;
        list[i] = (buffer){argument->name, data, is_left_out ? 0 : extents[i].bytes, extents[i].align, argument->access};
    }
}

static fkda_status check_presence(const buffer *b)
{
    REQUIRE(b->bytes == 0 || b->data != NULL, FKDA_ERR_NULL_POINTER, "args.%s is NULL, but the desc asks for it", b->name);
    REQUIRE(b->align > 0 || b->data == NULL, FKDA_ERR_BAD_VALUE, "args.%s is given, but the desc says that it is absent",
            b->name);
    REQUIRE(b->align == 0 || (uintptr_t)b->data % (uintptr_t)b->align == 0, FKDA_ERR_MISALIGNED,
            "args.%s = %p is not aligned to its element of %" PRId64 " bytes", b->name, b->data, b->align);
    return FKDA_OK;
}

static int overlap(const buffer *a, const buffer *b)
{
    const uintptr_t a0 = (uintptr_t)a->data, b0 = (uintptr_t)b->data;
    return a->bytes > 0 && b->bytes > 0 && a0 < b0 + (uintptr_t)b->bytes && b0 < a0 + (uintptr_t)a->bytes;
}

static fkda_status check_aliases(const fkdai_operation *operation, const fkdai_desc *desc, const buffer *list)
{
    const int count = operation->argument_count;
    for (int w = 0; w < count; ++w) {
        if (list[w].access != FKDAI_WRITE) continue;
        for (int i = 0; i < count; ++i) {
            if (i == w || (i < w && list[i].access == FKDAI_WRITE) || !overlap(&list[w], &list[i])) continue;
            if (list[w].data == list[i].data && operation->may_be_in_place(desc, w, i)) continue;
            return fkdai_fail(FKDA_ERR_ALIAS, "args.%s (%p, %" PRId64 " bytes) overlaps args.%s (%p, %" PRId64 " bytes)", list[w].name,
                              list[w].data, list[w].bytes, list[i].name, list[i].data, list[i].bytes);
        }
    }
    return FKDA_OK;
}

static fkda_status check_workspace(const fkdai_operation *operation, const buffer *list, size_t needed, const void *workspace, size_t bytes)
{
    REQUIRE(bytes >= needed, FKDA_ERR_WORKSPACE, "workspace_bytes = %zu, but this plan needs %zu", bytes, needed);
    if (needed == 0) return FKDA_OK;
    REQUIRE(workspace != NULL, FKDA_ERR_WORKSPACE, "workspace is NULL, but this plan needs %zu bytes", needed);
    REQUIRE((uintptr_t)workspace % FKDA_WORKSPACE_ALIGN == 0, FKDA_ERR_WORKSPACE, "workspace = %p is not aligned to %d bytes", workspace,
            FKDA_WORKSPACE_ALIGN);
    const buffer scratch = {"workspace", workspace, (int64_t)needed, FKDA_WORKSPACE_ALIGN, FKDAI_WRITE};
    for (int i = 0; i < operation->argument_count; ++i)
        REQUIRE(!overlap(&scratch, &list[i]), FKDA_ERR_ALIAS, "workspace (%p, %zu bytes) overlaps args.%s (%p, %" PRId64 " bytes)", workspace,
                needed, list[i].name, list[i].data, list[i].bytes);
    return FKDA_OK;
}

fkda_status fkdai_validate_call(const fkdai_operation *operation, const fkdai_desc *desc, const void *args, size_t needed,
                                void *workspace, size_t workspace_bytes)
{
    buffer list[FKDAI_MAX_ARGUMENTS];
    list_buffers(operation, desc, args, list);
    for (int i = 0; i < operation->argument_count; ++i) TRY(check_presence(&list[i]));
    TRY(check_aliases(operation, desc, list));
    TRY(check_workspace(operation, list, needed, workspace, workspace_bytes));
    return operation->check_values(desc, args, workspace);
}

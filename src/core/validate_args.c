/* Rules on pointers: present where the desc says so, aligned, apart from each other; the values of cu_seqlens; the workspace. */
#include <inttypes.h>

#include "dtype.h"
#include "extent.h"
#include "sequences.h"
#include "status.h"
#include "validate.h"

enum { BUFFER_COUNT = 19 };
enum { INITIAL_STATE = FKDAI_TENSOR_COUNT + 3, FINAL_STATE };    /* their places in the list of buffers */
typedef enum access { READ, WRITE } access;

/* One pointer of the args and what the desc says about it. */
typedef struct buffer {
    const char *name;
    const void *data;
    int64_t bytes;          /* 0: absent or empty */
    int64_t align;          /* bytes; 0: the desc says that it is absent */
    access access;
} buffer;

static int list_buffers(const fkda_fwd_desc *d, const fkda_fwd_args *a, buffer *list)
{
    const void *const tensors[FKDAI_TENSOR_COUNT] = {a->q, a->k, a->v, a->g, a->beta, a->out};
    int n = 0;
    for (int i = 0; i < FKDAI_TENSOR_COUNT; ++i) {
        const fkdai_tensor_view t = fkdai_tensor_at(d, i);
        list[n++] = (buffer){t.name, tensors[i], fkdai_tensor_bytes(d, i), fkdai_dtype_bytes(t.desc->dtype), i + 1 == FKDAI_TENSOR_COUNT ? WRITE : READ};
    }
    const int64_t seqlens_bytes = fkdai_dtype_bytes(d->cu_seqlens);
    const int64_t has_mask = d->flags & FKDA_FLAG_INITIAL_MASK ? 1 : 0;
    list[n++] = (buffer){"A_log", a->A_log, d->HV * fkdai_dtype_bytes(d->A_log), fkdai_dtype_bytes(d->A_log), READ};
    list[n++] = (buffer){"dt_bias", a->dt_bias, d->HV * d->K * fkdai_dtype_bytes(d->dt_bias), fkdai_dtype_bytes(d->dt_bias), READ};
    list[n++] = (buffer){"cu_seqlens", a->cu_seqlens, (d->N + 1) * seqlens_bytes, seqlens_bytes, READ};
    list[n++] = (buffer){"initial_state", a->initial_state, fkdai_state_bytes(d, &d->initial_state, d->N), fkdai_dtype_bytes(d->initial_state.dtype), READ};
    list[n++] = (buffer){"final_state", a->final_state, fkdai_state_bytes(d, &d->final_state, d->N), fkdai_dtype_bytes(d->final_state.dtype), WRITE};
    list[n++] = (buffer){"checkpoint_state", a->checkpoint_state, fkdai_state_bytes(d, &d->checkpoints, d->checkpoint_count),
                         fkdai_dtype_bytes(d->checkpoints.dtype), WRITE};
    const fkda_state_desc *const pools[3] = {&d->initial_state, &d->final_state, &d->checkpoints};
    const void *const slots[3] = {a->initial_slots, a->final_slots, a->checkpoint_slots};
    static const char *const slot_names[3] = {"initial_slots", "final_slots", "checkpoint_slots"};
    for (int i = 0; i < 3; ++i) {
        const int64_t element = pools[i]->dtype != FKDA_NONE && pools[i]->slot_count > 0 ? fkdai_dtype_bytes(pools[i]->slot_dtype) : 0;
        list[n++] = (buffer){slot_names[i], slots[i], (i < 2 ? d->N : d->checkpoint_count) * element, element, READ};
    }
    list[n++] = (buffer){"initial_mask", a->initial_mask, has_mask * d->N, has_mask, READ};
    const int64_t offset_bytes = d->checkpoints.dtype != FKDA_NONE && d->checkpoint_every == 0 ? (int64_t)sizeof(int64_t) : 0;
    list[n++] = (buffer){"checkpoint_offsets", a->checkpoint_offsets, d->N * offset_bytes, offset_bytes, READ};
    list[n++] = (buffer){"device_status", a->device_status, a->device_status != NULL ? (int64_t)sizeof(uint32_t) : 0, sizeof(uint32_t), WRITE};
    list[n++] = (buffer){"cu_seqlens_host", a->cu_seqlens_host, 0, seqlens_bytes, READ};
    return n;
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

/* In place: the same rows read and written, through the same desc. */
static int state_in_place(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    const fkda_state_desc *const i = &d->initial_state, *const f = &d->final_state;
    return a->initial_state == a->final_state && i->dtype == f->dtype && i->layout == f->layout && i->row_stride == f->row_stride &&
           i->slot_count == f->slot_count && i->slot_dtype == f->slot_dtype && i->slot_null == f->slot_null;
}

static fkda_status check_aliases(const fkda_fwd_desc *d, const fkda_fwd_args *a, const buffer *list, int count)
{
    for (int w = 0; w < count; ++w) {
        if (list[w].access != WRITE) continue;
        for (int i = 0; i < count; ++i) {
            if (i == w || (i < w && list[i].access == WRITE) || !overlap(&list[w], &list[i])) continue;
            if (w == FINAL_STATE && i == INITIAL_STATE && state_in_place(d, a)) continue;
            return fkdai_fail(FKDA_ERR_ALIAS, "args.%s (%p, %" PRId64 " bytes) overlaps args.%s (%p, %" PRId64 " bytes)", list[w].name,
                              list[w].data, list[w].bytes, list[i].name, list[i].data, list[i].bytes);
        }
    }
    return FKDA_OK;
}

fkda_status fkdai_validate_args(const fkda_fwd_desc *d, const fkda_fwd_args *args)
{
    REQUIRE(args != NULL, FKDA_ERR_NULL_POINTER, "args is NULL");
    REQUIRE(args->struct_size == sizeof *args, FKDA_ERR_STRUCT_SIZE, "args.struct_size = %zu, but sizeof(fkda_fwd_args) is %zu",
            args->struct_size, sizeof *args);
    buffer list[BUFFER_COUNT];
    const int count = list_buffers(d, args, list);
    for (int i = 0; i < count; ++i) TRY(check_presence(&list[i]));
    TRY(check_aliases(d, args, list, count));
    if (d->cu_seqlens == FKDA_NONE) return FKDA_OK;
    if (d->memory == FKDA_MEMORY_HOST) TRY(fkdai_check_cu_seqlens(d, args->cu_seqlens, ""));
    if (args->cu_seqlens_host != NULL) TRY(fkdai_check_cu_seqlens(d, args->cu_seqlens_host, " (read from args.cu_seqlens_host)"));
    return FKDA_OK;
}

fkda_status fkdai_validate_workspace(const fkda_fwd_desc *d, const fkda_fwd_args *args, size_t needed, const void *workspace,
                                     size_t workspace_bytes)
{
    REQUIRE(workspace_bytes >= needed, FKDA_ERR_WORKSPACE, "workspace_bytes = %zu, but this plan needs %zu", workspace_bytes, needed);
    if (needed == 0) return FKDA_OK;
    REQUIRE(workspace != NULL, FKDA_ERR_WORKSPACE, "workspace is NULL, but this plan needs %zu bytes", needed);
    REQUIRE((uintptr_t)workspace % FKDA_WORKSPACE_ALIGN == 0, FKDA_ERR_WORKSPACE, "workspace = %p is not aligned to %d bytes", workspace,
            FKDA_WORKSPACE_ALIGN);
    const buffer scratch = {"workspace", workspace, (int64_t)needed, FKDA_WORKSPACE_ALIGN, WRITE};
    buffer list[BUFFER_COUNT];
    const int count = list_buffers(d, args, list);
    for (int i = 0; i < count; ++i)
        REQUIRE(!overlap(&scratch, &list[i]), FKDA_ERR_ALIAS, "workspace (%p, %zu bytes) overlaps args.%s (%p, %" PRId64 " bytes)", workspace,
                needed, list[i].name, list[i].data, list[i].bytes);
    return FKDA_OK;
}

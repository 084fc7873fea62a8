/* Packed copies of arguments of the forward pass. */
#include "cuda_copies.h"

#include <stdio.h>
#include <string.h>

#include "cuda_copy.h"
#include "dtype.h"
#include "op_fwd.h"
#include "state_rows.h"
#include "status.h"

#define BIT(argument) (UINT32_C(1) << (argument))

/* The arguments that may be copied, inputs first. */
static const fkda_arg copied[] = {FKDA_ARG_Q, FKDA_ARG_K, FKDA_ARG_V, FKDA_ARG_G, FKDA_ARG_INITIAL_STATE, FKDA_ARG_OUT, FKDA_ARG_FINAL_STATE,
                                  FKDA_ARG_CHECKPOINT_STATE};
enum { COPIED_COUNT = sizeof copied / sizeof *copied, INPUT_COUNT = 5 };
_Static_assert((int)INPUT_COUNT <= (int)FKDAI_COPY_MOST && COPIED_COUNT - INPUT_COUNT <= FKDAI_COPY_MOST, "FKDAI_COPY_MOST is too small");

static int is_in(uint32_t set, fkda_arg argument) { return (set >> argument & 1u) != 0; }

/* ---------------------------------------------------------------- desc */

/* NULL: it is no state. */
static fkda_state_desc *state_of(fkda_fwd_desc *d, fkda_arg argument)
{
    return argument == FKDA_ARG_INITIAL_STATE ? &d->initial_state : argument == FKDA_ARG_FINAL_STATE ? &d->final_state
         : argument == FKDA_ARG_CHECKPOINT_STATE ? &d->checkpoints : NULL;
}

static const fkda_state_desc *const_state_of(const fkda_fwd_desc *d, fkda_arg argument) { return state_of((fkda_fwd_desc *)(uintptr_t)d, argument); }

static fkda_dtype dtype_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    const fkda_state_desc *const state = const_state_of(d, argument);
    return state != NULL ? state->dtype : fkdai_fwd_tensor(d, argument)->dtype;
}

static int64_t element_of(const fkda_fwd_desc *d, fkda_arg argument) { return fkdai_dtype_bytes(dtype_of(d, argument)); }

/* Bytes that lie one behind the other, whatever the strides. */
static int64_t run_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    const int64_t elements = const_state_of(d, argument) != NULL ? d->HV * d->K * d->V : fkdai_fwd_shape(d, argument).width;
    return elements * element_of(d, argument);
}

static int is_copyable(const fkda_fwd_desc *d, fkda_arg argument)
{
    const int64_t run = run_of(d, argument);
    return const_state_of(d, argument) != NULL ? run > 0 && run % FKDAI_COPY_ROW == 0 : run == FKDAI_COPY_ROW;
}

/* ---------------------------------------------------------------- who copies what */

uint32_t fkdai_cuda_copyable(const fkdai_cuda_kernel *kernel, const fkdai_desc *desc)
{
    uint32_t copyable = 0;
    if (kernel->operation != FKDAI_OP_FWD) return 0;
    for (int i = 0; i < COPIED_COUNT; ++i)
        if (is_copyable(&desc->fwd, copied[i])) copyable |= BIT(copied[i]);
    return copyable;
}

uint32_t fkdai_cuda_mended_by_copies(const fkdai_cuda_kernel *kernel, const fkdai_desc *desc, const void *args)
{
    const uint32_t copyable = fkdai_cuda_copyable(kernel, desc);
    uint32_t marked = 0, mended = 0;
    fkdai_desc suited = *desc;
    if (copyable == 0 || kernel->suit(&suited, args, &marked) != FKDA_OK) return 0;
    for (int i = 0; i < COPIED_COUNT; ++i)
        if (is_in(marked & copyable, copied[i]) && dtype_of(&desc->fwd, copied[i]) == dtype_of(&suited.fwd, copied[i])) mended |= BIT(copied[i]);
    return mended;
}

fkda_status fkdai_cuda_leave_to_caller(const fkdai_cuda_kernel *kernel, fkdai_desc *desc, uint32_t *copies)
{
    uint32_t marked = 0;
    fkdai_desc suited = *desc;
    TRY(kernel->suit(&suited, NULL, &marked));
    if (kernel->operation != FKDAI_OP_FWD) {
        *desc = suited;
        *copies |= marked;
        return FKDA_OK;
    }
    const uint32_t mended = fkdai_cuda_mended_by_copies(kernel, desc, NULL);
    for (int i = 0; i < COPIED_COUNT; ++i)
        if (is_in(marked & ~mended, copied[i])) TRY(fkdai_fwd_copy(&desc->fwd, copied[i], dtype_of(&suited.fwd, copied[i]), copies));
    return FKDA_OK;
}

void fkdai_cuda_need_addresses(const fkdai_plan *plan, const fkdai_cuda_own *own, const void *args, uint32_t copies, fkdai_desc *desc)
{
    fkdai_desc packed;
    if (own->kernel->operation != FKDAI_OP_FWD || fkdai_cuda_pack(&plan->desc, own->strided, &packed) != FKDA_OK) return;
    desc->fwd.unaligned |= fkdai_cuda_mended_by_copies(own->kernel, &packed, args) & ~(own->strided | copies);
}

/* ---------------------------------------------------------------- packed */

static int64_t rows_of_copy(const fkda_fwd_desc *d, fkda_arg state)
{
    return state == FKDA_ARG_CHECKPOINT_STATE ? fkdai_most_checkpoints(d) : d->N;
}

static fkda_status pack(fkda_fwd_desc *d, fkda_arg argument)
{
    uint32_t marked = 0;
    fkda_state_desc *const state = state_of(d, argument);
    if (state != NULL) {
        if (argument == FKDA_ARG_CHECKPOINT_STATE) d->checkpoint_count = rows_of_copy(d, argument);
        state->slot_count = 0, state->slot_dtype = FKDA_NONE, state->slot_null = FKDA_SLOT_NULL_NEGATIVE;
    }
    return fkdai_fwd_copy(d, argument, dtype_of(d, argument), &marked);
}

fkda_status fkdai_cuda_pack(const fkdai_desc *desc, uint32_t copies, fkdai_desc *packed)
{
    *packed = *desc;
    for (int i = 0; i < COPIED_COUNT; ++i)
        if (is_in(copies, copied[i])) TRY(pack(&packed->fwd, copied[i]));
    return FKDA_OK;
}

static int64_t bytes_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    if (const_state_of(d, argument) != NULL) return rows_of_copy(d, argument) * run_of(d, argument);
    return d->B * d->T * fkdai_fwd_shape(d, argument).heads * run_of(d, argument);
}

static size_t room_of(const fkda_fwd_desc *d, fkda_arg argument)
{
    return ((size_t)bytes_of(d, argument) + FKDAI_COPY_ROW - 1) / FKDAI_COPY_ROW * FKDAI_COPY_ROW;
}

size_t fkdai_cuda_copies_bytes(const fkdai_desc *desc, uint32_t copies)
{
    size_t bytes = 0;
    for (int i = 0; i < COPIED_COUNT; ++i)
        if (is_in(copies, copied[i])) bytes += room_of(&desc->fwd, copied[i]);
    return bytes;
}

static void set_pointer(fkdai_args *args, fkda_arg argument, void *pointer)
{
    memcpy((char *)args + fkdai_op_fwd.arguments[argument].offset, &pointer, sizeof pointer);
}

static fkda_arg slots_of(fkda_arg state)
{
    return state == FKDA_ARG_INITIAL_STATE ? FKDA_ARG_INITIAL_SLOTS : state == FKDA_ARG_FINAL_STATE ? FKDA_ARG_FINAL_SLOTS
         : FKDA_ARG_CHECKPOINT_SLOTS;
}

/* args, with the packed ones from `at` on. */
static void pack_args(const fkda_fwd_desc *d, uint32_t copies, const fkda_fwd_args *args, char *at, fkdai_args *packed)
{
    packed->fwd = *args;
    for (int i = 0; i < COPIED_COUNT; ++i) {
        if (!is_in(copies, copied[i])) continue;
        set_pointer(packed, copied[i], bytes_of(d, copied[i]) > 0 ? at : NULL);
        if (const_state_of(d, copied[i]) != NULL) set_pointer(packed, slots_of(copied[i]), NULL);
        at += room_of(d, copied[i]);
    }
}

/* ---------------------------------------------------------------- what is copied */

static fkdai_copy_array array_of(const void *data, fkda_dtype dtype) { return (fkdai_copy_array){data, dtype == FKDA_I64}; }

static fkdai_copy copy_of_tensor(const fkda_fwd_desc *d, fkda_arg argument)
{
    const fkda_tensor_desc *const t = fkdai_fwd_tensor(d, argument);
    const fkdai_shape shape = fkdai_fwd_shape(d, argument);
    const int64_t element = element_of(d, argument);
    return (fkdai_copy){.size = {shape.B, shape.T, shape.heads},
                        .stride = {t->batch_stride * element, t->token_stride * element, t->head_stride * element}};
}

static fkdai_copy copy_of_state(const fkda_fwd_desc *d, fkda_arg argument, const void *args)
{
    const fkda_state_desc *const s = const_state_of(d, argument);
    const int64_t run = run_of(d, argument);
    fkdai_copy copy = {.size = {rows_of_copy(d, argument), 1, run / FKDAI_COPY_ROW},
                       .stride = {s->row_stride * element_of(d, argument), run, FKDAI_COPY_ROW}};
    if (s->slot_count == 0) return copy;
    copy.slots = array_of(fkdai_pointer(&fkdai_op_fwd, args, (int)slots_of(argument)), s->slot_dtype);
    copy.slot_count = s->slot_count;
    copy.first_slot = s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE;
    return copy;
}

static fkdai_copy copy_of(const fkda_fwd_desc *d, fkda_arg argument, const fkda_fwd_args *lies, const fkdai_args *packed)
{
    fkdai_copy copy = const_state_of(d, argument) == NULL ? copy_of_tensor(d, argument) : copy_of_state(d, argument, lies);
    copy.strided = (char *)(uintptr_t)fkdai_pointer(&fkdai_op_fwd, lies, (int)argument);
    copy.packed = (char *)(uintptr_t)fkdai_pointer(&fkdai_op_fwd, packed, (int)argument);
    if (argument == FKDA_ARG_INITIAL_STATE) copy.mask = lies->initial_mask;
    if (argument == FKDA_ARG_CHECKPOINT_STATE) copy.is_marked = 1;
    if (argument == FKDA_ARG_OUT && d->cu_seqlens != FKDA_NONE)
        copy.end = array_of((const char *)lies->cu_seqlens + d->N * fkdai_dtype_bytes(d->cu_seqlens), d->cu_seqlens);
    return copy;
}

/* Made before the kernel runs, looked at behind it. */
static void add_marks(const fkdai_copy *copy, fkdai_copies *before)
{
    const int64_t outer = copy->size[1] * copy->size[2] * FKDAI_COPY_ROW, bytes = copy->size[0] * outer;
    if (copy->end.data != NULL) before->marks[before->mark_count++] = (fkdai_copy_marks){copy->packed + bytes - FKDAI_COPY_ROW, 1, 0};
    if (copy->is_marked) before->marks[before->mark_count++] = (fkdai_copy_marks){copy->packed, copy->size[0], outer};
}

static void list_copies(const fkda_fwd_desc *d, uint32_t copies, const fkda_fwd_args *lies, const fkdai_args *packed, fkdai_copies *before,
                        fkdai_copies *behind)
{
    *before = *behind = (fkdai_copies){.status = lies->device_status, .broken_slot = FKDA_DEVICE_SLOT_BROKEN};
    for (int i = 0; i < COPIED_COUNT; ++i) {
        fkdai_copies *const to = i < INPUT_COUNT ? before : behind;
        if (!is_in(copies, copied[i]) || bytes_of(d, copied[i]) == 0) continue;
        to->copy[to->count] = copy_of(d, copied[i], lies, packed);
        add_marks(&to->copy[to->count++], before);
    }
}

void fkdai_cuda_describe_copies(const char *verb, uint32_t copies, const char *why, char *text, size_t size)
{
    size_t used = strlen(text);
    const char *before = verb;
    for (int i = 0; i < COPIED_COUNT && used < size; ++i) {
        if (!is_in(copies, copied[i])) continue;
        used += (size_t)snprintf(text + used, size - used, ", %s%s", before, fkdai_op_fwd.arguments[copied[i]].name);
        before = "";
    }
    if (copies != 0 && used < size) snprintf(text + used, size - used, ": %s", why);
}

/* ---------------------------------------------------------------- one call */

/* The call as the kernel sees it. */
typedef struct inside {
    fkdai_desc desc;
    fkdai_args args;
} inside;

static fkda_status look_from_inside(const fkdai_plan *plan, const fkdai_cuda_own *own, uint32_t copies, const void *args, void *workspace,
                                    inside *seen)
{
    TRY(fkdai_cuda_pack(&plan->desc, copies, &seen->desc));
    pack_args(&plan->desc.fwd, copies, args, (char *)workspace + own->copies_at, &seen->args);
    return FKDA_OK;
}

static fkda_status choose(const fkdai_plan *plan, const fkdai_cuda_own *own, const void *args, void *workspace, uint32_t *copies)
{
    inside seen;
    TRY(look_from_inside(plan, own, own->strided, args, workspace, &seen));
    *copies = own->strided | (own->unaligned & fkdai_cuda_mended_by_copies(own->kernel, &seen.desc, &seen.args));
    if (*copies != own->strided) TRY(look_from_inside(plan, own, *copies, args, workspace, &seen));
    return own->kernel->check_args(&seen.desc, &seen.args);
}

fkda_status fkdai_cuda_choose_copies(const fkdai_plan *plan, const fkdai_cuda_own *own, const void *args, void *workspace, uint32_t *copies)
{
    char before[FKDAI_SENTENCE_BYTES];    /* a refusal on the way to an answer is no failure */
    *copies = 0;
    if (own->strided == 0 && own->unaligned == 0) return own->kernel->check_args(&plan->desc, args);
    memcpy(before, fkda_last_error(), strlen(fkda_last_error()) + 1);
    TRY(choose(plan, own, args, workspace, copies));
    return strcmp(before, fkda_last_error()) == 0 ? FKDA_OK : fkdai_fail(FKDA_OK, "%s", before);
}

static fkda_status run_kernel(const fkdai_cuda_own *own, const fkdai_desc *desc, const void *args, void *workspace, fkda_stream stream)
{
    const int error = own->spans.rule.next > 0 ? fkdai_cuda_run_spans(own->kernel, &own->spans, &own->plan, desc, args, workspace, stream)
                                               : own->kernel->run(desc, &own->plan, args, workspace, stream);
    return error == 0 ? FKDA_OK : fkdai_cuda_fail(own->kernel->name, error);
}

fkda_status fkdai_cuda_run(const fkdai_plan *plan, const fkdai_cuda_own *own, uint32_t copies, const void *args, void *workspace,
                           fkda_stream stream)
{
    inside seen;
    fkdai_copies before, behind;
    if (copies == 0) return run_kernel(own, &plan->desc, args, workspace, stream);
    TRY(look_from_inside(plan, own, copies, args, workspace, &seen));
    list_copies(&plan->desc.fwd, copies, args, &seen.args, &before, &behind);
    int error = before.count + before.mark_count > 0 ? fkdai_copy_in(&before, stream) : 0;
    if (error != 0) return fkdai_cuda_fail("copy in", error);
    TRY(run_kernel(own, &seen.desc, &seen.args, workspace, stream));
    error = behind.count > 0 ? fkdai_copy_out(&behind, stream) : 0;
    return error == 0 ? FKDA_OK : fkdai_cuda_fail("copy out", error);
}

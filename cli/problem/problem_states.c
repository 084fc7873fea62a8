/*
 * Pools, masks and checkpoints of a problem file. Tensors: initial_slots and final_slots [N], slots of the pool initial_state [slots,HV,V,K];
 * initial_mask [N]; checkpoint_offsets [N] or [N,C], and checkpoint_slots, one a row. Metadata: slot_null (negative, not_positive; default negative),
 * checkpoint_every (tokens).
 *
 * The pool is read and written in two places, so that a problem can be run again: final_state begins as initial_state, where both have one dtype.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "problem.h"
#include "text.h"

/* ---------------------------------------------------------------- before anything is loaded */

static fkda_status describe_null_rule(const safetensors_file *file, fkda_fwd_desc *d)
{
    const char *const word = safetensors_metadata(file, "slot_null");
    const int is_not_positive = word != NULL && strcmp(word, "not_positive") == 0;
    CHECK_IN(file->path, word == NULL || is_not_positive || strcmp(word, "negative") == 0, FKDA_ERR_FORMAT,
             "metadata 'slot_null' is '%.64s', but it must be negative or not_positive", word);
    d->initial_state.slot_null = d->final_state.slot_null = d->checkpoints.slot_null =
        is_not_positive ? FKDA_SLOT_NULL_NOT_POSITIVE : FKDA_SLOT_NULL_NEGATIVE;
    return FKDA_OK;
}

static fkda_status describe_pools(const safetensors_file *file, operation_kind op, fkda_fwd_desc *d)
{
    const safetensors_tensor *const pool = safetensors_find(file, problem_role_name(PROBLEM_INITIAL_STATE));
    const int has_initial = safetensors_find(file, problem_role_name(PROBLEM_INITIAL_SLOTS)) != NULL;
    const int has_final = safetensors_find(file, problem_role_name(PROBLEM_FINAL_SLOTS)) != NULL;
    CHECK_IN(file->path, has_initial || !has_final, FKDA_ERR_FORMAT,
             "tensor 'final_slots' is there without 'initial_slots', but both are slots of one pool, 'initial_state'");
    CHECK_IN(file->path, op == OPERATION_PREFILL || !has_final, FKDA_ERR_FORMAT,
             "tensor 'final_slots' is there, but decode updates the slots that it reads, 'initial_slots'");
    if (!has_initial) return FKDA_OK;
    CHECK_IN(file->path, pool != NULL && pool->rank > 0 && pool->shape[0] > 0, FKDA_ERR_FORMAT,
             "tensor 'initial_slots' needs the pool that it has slots of, 'initial_state' [slots,HV,V,K] with at least one slot");
    d->initial_state.slot_count = pool->shape[0];
    if (has_final || op == OPERATION_DECODE) d->final_state.slot_count = pool->shape[0];
    return FKDA_OK;
}

/* Every so many tokens: rows before the lengths of the sequences are known, at least as many as there will be. */
static fkda_status describe_every(const safetensors_file *file, const char *text, fkda_fwd_desc *d)
{
    int64_t whole = 0;
    CHECK_IN(file->path, text_to_integer(text, &whole) && whole >= 1, FKDA_ERR_FORMAT,
             "metadata 'checkpoint_every' is '%.64s', but it must be a whole number of tokens, at least 1", text);
    d->checkpoint_every = whole;
    CHECK_IN(file->path, !__builtin_mul_overflow(d->B, d->T / whole, &d->checkpoint_count), FKDA_ERR_OVERFLOW,
             "the number of checkpoints, one every %" PRId64 " tokens, does not fit 63 bits", whole);
    return FKDA_OK;
}

static fkda_status describe_offsets(const safetensors_file *file, const safetensors_tensor *offsets, fkda_fwd_desc *d)
{
    CHECK_IN(file->path, offsets->rank == 1 || (offsets->rank == 2 && offsets->shape[1] > 0), FKDA_ERR_SHAPE,
             "tensor 'checkpoint_offsets' has %d dimensions, or none in a column, but it must be [N] or [N,C] with C >= 1", offsets->rank);
    d->checkpoints_per_sequence = offsets->rank == 2 ? offsets->shape[1] : 0;
    CHECK_IN(file->path, !__builtin_mul_overflow(d->N, offsets->rank == 2 ? offsets->shape[1] : 1, &d->checkpoint_count), FKDA_ERR_OVERFLOW,
             "tensor 'checkpoint_offsets': the number of checkpoints does not fit 63 bits");
    return FKDA_OK;
}

static fkda_status describe_checkpoints(const safetensors_file *file, fkda_fwd_desc *d)
{
    const char *const every = safetensors_metadata(file, "checkpoint_every");
    const safetensors_tensor *const offsets = safetensors_find(file, problem_role_name(PROBLEM_CHECKPOINT_OFFSETS));
    CHECK_IN(file->path, every == NULL || offsets == NULL, FKDA_ERR_FORMAT,
             "metadata 'checkpoint_every' and tensor 'checkpoint_offsets' are both there, but one says where checkpoints are");
    if (every != NULL) return describe_every(file, every, d);
    if (offsets != NULL) return describe_offsets(file, offsets, d);
    for (problem_role role = PROBLEM_CHECKPOINT_SLOTS; role <= PROBLEM_CHECKPOINT_STATE; role += PROBLEM_CHECKPOINT_STATE - PROBLEM_CHECKPOINT_SLOTS)
        CHECK_IN(file->path, safetensors_find(file, problem_role_name(role)) == NULL, FKDA_ERR_FORMAT,
                 "tensor '%s' is there, but neither tensor 'checkpoint_offsets' nor metadata 'checkpoint_every' says where checkpoints are",
                 problem_role_name(role));
    return FKDA_OK;
}

fkda_status problem_describe_states(const safetensors_file *file, operation_kind op, fkda_fwd_desc *d)
{
    TRY(describe_null_rule(file, d));
    TRY(describe_pools(file, op, d));
    TRY(describe_checkpoints(file, d));
    const int has_checkpoints = d->checkpoint_every > 0 || safetensors_find(file, problem_role_name(PROBLEM_CHECKPOINT_OFFSETS)) != NULL;
    CHECK_IN(file->path, op == OPERATION_PREFILL || !has_checkpoints, FKDA_ERR_FORMAT, "the file asks for checkpoints, but decode writes none");
    return FKDA_OK;
}

int problem_has_checkpoints(const fkda_fwd_desc *d) { return d->checkpoint_every > 0 || d->checkpoints.dtype != FKDA_NONE; }

/* ---------------------------------------------------------------- when cu_seqlens is loaded */

void problem_count_checkpoints(problem *p)
{
    fkda_fwd_desc *const d = &p->desc;
    if (p->bounds != NULL && d->checkpoint_every > 0) {
        const int64_t most = d->checkpoint_count;
        d->checkpoint_count = 0;
        for (int64_t n = 0; n < d->N; ++n) {
            const int64_t begin = p->bounds[n], end = p->bounds[n + 1], left = most - d->checkpoint_count;
            const int64_t count = begin >= 0 && end > begin ? (end - begin) / d->checkpoint_every : 0;    /* a broken cu_seqlens is refused later */
            d->checkpoint_count += count < left ? count : left;
        }
    }
    if (d->checkpoints.slot_dtype != FKDA_NONE) d->checkpoints.slot_count = d->checkpoint_count > 0 ? d->checkpoint_count : 1;
}

/* ---------------------------------------------------------------- when all is loaded */

/* An array of indices as int64, on the host. */
static fkda_status copy_indices(const problem *p, problem_role role, int64_t count, int64_t **copy)
{
    const problem_tensor *const t = &p->tensors[role];
    void *data;
    *copy = calloc((size_t)count + 1, sizeof **copy);
    CHECK(*copy != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %s", problem_role_name(role));
    TRY(memory_map(&t->block, MEMORY_READ, &data));
    for (int64_t i = 0; i < count; ++i) (*copy)[i] = t->dtype == FKDA_I64 ? ((const int64_t *)data)[i] : ((const int32_t *)data)[i];
    return memory_unmap(&t->block, MEMORY_READ, data);
}

/* Slots as rows: null ones are -1. */
static void slots_to_rows(const fkda_state_desc *s, int64_t count, int64_t *slots)
{
    for (int64_t i = 0; i < count; ++i)
        if (slots[i] < (s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE ? 1 : 0)) slots[i] = -1;
}

static fkda_status find_checkpoint_rows(problem *p)
{
    const fkda_fwd_desc *const d = &p->desc;
    const int64_t count = d->checkpoint_count;
    int64_t *offsets = NULL;
    if (d->checkpoints.slot_count > 0) {
        TRY(copy_indices(p, PROBLEM_CHECKPOINT_SLOTS, count, &p->checkpoint_rows));
        slots_to_rows(&d->checkpoints, count, p->checkpoint_rows);
    } else {
        p->checkpoint_rows = calloc((size_t)count + 1, sizeof *p->checkpoint_rows);
        CHECK(p->checkpoint_rows != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %" PRId64 " checkpoints", count);
        for (int64_t i = 0; i < count; ++i) p->checkpoint_rows[i] = i;
    }
    if (d->checkpoint_every > 0) return FKDA_OK;
    const fkda_status status = copy_indices(p, PROBLEM_CHECKPOINT_OFFSETS, count, &offsets);
    for (int64_t i = 0; status == FKDA_OK && i < count; ++i)
        if (offsets[i] <= 0) p->checkpoint_rows[i] = -1;
    free(offsets);
    return status;
}

static fkda_status clear(const memory_block *block)
{
    static const char zeros[4096];
    return block->bytes > 0 ? memory_repeat(block, zeros, sizeof zeros) : FKDA_OK;
}

static fkda_status begin_with_initial_state(problem *p)
{
    const problem_tensor *const from = &p->tensors[PROBLEM_INITIAL_STATE], *const to = &p->tensors[PROBLEM_FINAL_STATE];
    if (from->dtype != to->dtype) return clear(&to->block);
    void *read, *written;
    TRY(memory_map(&from->block, MEMORY_READ, &read));
    fkda_status status = memory_map(&to->block, MEMORY_WRITE, &written);
    if (status == FKDA_OK) {
        memcpy(written, read, to->block.bytes);
        status = memory_unmap(&to->block, MEMORY_WRITE, written);
    }
    const fkda_status unmapped = memory_unmap(&from->block, MEMORY_READ, read);
    return status != FKDA_OK ? status : unmapped;
}

/* bf16 to fp32, which the reference alone asks for. */
static fkda_status widen_initial_state(const problem *p)
{
    const problem_tensor *const from = &p->tensors[PROBLEM_INITIAL_STATE], *const to = &p->tensors[PROBLEM_FINAL_STATE];
    const uint16_t *const narrow = from->block.data;
    uint32_t *const wide = to->block.data;
    CHECK(to->block.where == FKDA_MEMORY_HOST && from->dtype == FKDA_BF16 && to->dtype == FKDA_F32, FKDA_ERR_INTERNAL, "states are widened on the host only");
    for (size_t i = 0; i < from->block.bytes / sizeof *narrow; ++i) wide[i] = (uint32_t)narrow[i] << 16;
    return FKDA_OK;
}

fkda_status problem_restore(const problem *p)
{
    const problem_tensor *const from = &p->tensors[PROBLEM_INITIAL_STATE], *const to = &p->tensors[PROBLEM_FINAL_STATE];
    if (p->op.kind == OPERATION_PREFILL) return FKDA_OK;
    if (from->dtype == FKDA_NONE) return clear(&to->block);
    if (from->dtype != to->dtype) return widen_initial_state(p);
    for (int64_t layer = 0; layer < operation_layers(p->op); ++layer) TRY(memory_copy(&to->block, (size_t)layer * from->block.bytes, &from->block));
    return FKDA_OK;
}

fkda_status problem_begin_states(problem *p)
{
    const fkda_fwd_desc *const d = &p->desc;
    if (d->final_state.slot_count > 0) {
        TRY(copy_indices(p, p->op.kind == OPERATION_DECODE ? PROBLEM_INITIAL_SLOTS : PROBLEM_FINAL_SLOTS, d->N, &p->final_rows));
        slots_to_rows(&d->final_state, d->N, p->final_rows);
    }
    if (p->op.kind == OPERATION_DECODE) return problem_restore(p);
    if (d->final_state.slot_count > 0) TRY(begin_with_initial_state(p));
    if (!problem_has_checkpoints(d)) return FKDA_OK;
    TRY(find_checkpoint_rows(p));
    return clear(&p->tensors[PROBLEM_CHECKPOINT_STATE].block);
}

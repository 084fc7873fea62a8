/* The decode kernel of cuda_in_host_memory.c: the reference. */
#include <stdlib.h>

#include "cuda_kernel.h"
#include "decode/decode_launch.h"

int fkdai_decode_load(void) { return 0; }

static fkda_dtype dtype(const void *data, int is_f32) { return data == NULL ? FKDA_NONE : is_f32 ? FKDA_F32 : FKDA_BF16; }
static fkda_dtype index_dtype(const fkdai_decode_indices *i) { return i->data == NULL ? FKDA_NONE : i->is_i64 ? FKDA_I64 : FKDA_I32; }

static fkda_tensor_desc tensor(const fkdai_decode_tensor *t)
{
    return (fkda_tensor_desc){t->batch, t->token, t->head, t->is_f32 ? FKDA_F32 : FKDA_BF16, 0};
}

static fkda_state_desc state(const fkdai_decode_call *c)
{
    const fkda_slot_null null = c->null_below == 1 ? FKDA_SLOT_NULL_NOT_POSITIVE : c->null_below == 0 ? FKDA_SLOT_NULL_NEGATIVE : FKDA_SLOT_NULL_NONE;
    return (fkda_state_desc){
        .dtype = c->grid.is_bf16_state ? FKDA_BF16 : FKDA_F32, .layout = c->grid.is_k_first ? FKDA_STATE_NHKV : FKDA_STATE_NHVK,
        .row_stride = c->row_stride, .slot_count = c->slots.data == NULL ? 0 : (int64_t)c->slot_span + c->first_slot, .slot_dtype = index_dtype(&c->slots), .slot_null = null,
    };
}

static fkda_state_desc step_states(const fkdai_decode_call *c)
{
    if (c->step_states == NULL) return (fkda_state_desc){.dtype = FKDA_NONE};
    return (fkda_state_desc){.dtype = c->is_bf16_step ? FKDA_BF16 : FKDA_F32, .layout = c->grid.is_k_first ? FKDA_STATE_NHKV : FKDA_STATE_NHVK,
                             .row_stride = c->step_row_stride};
}

static uint32_t flags(const fkdai_decode_call *c)
{
    return (c->initial_mask != NULL ? FKDA_FLAG_INITIAL_MASK : 0) | (c->out.data == NULL ? FKDA_FLAG_NO_OUT : 0) |
           (c->null_is_padding ? FKDA_FLAG_NULL_IS_PADDING : 0);
}

/* x / y, as the kernel divides. */
static int64_t divide(uint32_t x, fkdai_decode_divisor by)
{
    return (int64_t)((x + ((uint64_t)x * by.factor >> 32)) >> by.shift);
}

static fkda_decode_desc desc_of(const fkdai_decode_call *c)
{
    const uint32_t states = c->grid.blocks / (uint32_t)fkdai_decode_blocks_per_state(c->grid.shape, c->grid.is_bf16_state);
    const int64_t H = divide((uint32_t)c->HV - 1, c->by_group) + 1;    /* the last value head has the last query head */
    return (fkda_decode_desc){
        .struct_size = sizeof(fkda_decode_desc), .backend = FKDA_BACKEND_REF, .flags = flags(c),
        .N = divide(states, c->by_heads), .S = c->S, .T = c->T, .H = H, .HV = c->HV, .K = 128, .V = 128,
        .q = tensor(&c->q), .k = tensor(&c->k), .v = tensor(&c->v), .g = tensor(&c->g), .beta = tensor(&c->beta), .out = tensor(&c->out),
        .cu_seqlens = index_dtype(&c->cu_seqlens), .A_log = dtype(c->A_log.data, c->A_log.is_f32),
        .dt_bias = dtype(c->dt_bias.data, c->dt_bias.is_f32), .gate = (fkda_gate)c->gate, .lower_bound = c->lower_bound,
        .beta_kind = c->is_beta_activated ? FKDA_BETA_ACTIVATED : FKDA_BETA_LOGIT, .beta_multiplier = (int32_t)c->beta_multiplier,
        .qk_norm = c->is_normalised ? FKDA_QK_NORM_L2 : FKDA_QK_NORM_NONE, .scale = c->scale, .state = state(c), .commit = (fkda_commit)c->commit,
        .num_accepted = index_dtype(&c->num_accepted), .slots_per_sequence = c->slots_per_sequence, .slots_stride = c->slots_stride,
        .step_states = step_states(c), .step_states_per_sequence = c->steps_per_sequence, .parent = index_dtype(&c->parent),
        .parent_stride = c->parent_stride,
    };
}

int fkdai_decode_launch(const fkdai_decode_call *c, void *stream)
{
    if (c->grid.blocks == 0) return 0;
    const fkda_decode_desc d = desc_of(c);
    const fkda_decode_args a = {
        .struct_size = sizeof a, .q = c->out.data == NULL ? NULL : c->q.data, .k = c->k.data, .v = c->v.data, .g = c->g.data, .beta = c->beta.data, .out = c->out.data,
        .A_log = c->A_log.data, .dt_bias = c->dt_bias.data, .cu_seqlens = c->cu_seqlens.data, .state = c->state, .slots = c->slots.data,
        .initial_mask = c->initial_mask, .num_accepted = c->num_accepted.data, .step_states = c->step_states, .parent = c->parent.data,
    };
    size_t bytes;
    if (fkda_decode_workspace_size(&d, &bytes) != FKDA_OK) return 1;
    void *const workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN + FKDA_WORKSPACE_ALIGN);
    const fkda_status status = workspace == NULL ? FKDA_ERR_NO_MEMORY : fkda_decode(&d, &a, workspace, bytes, stream);
    free(workspace);
    return (int)status;
}

/* The kernel of decode_fused of cuda_in_host_memory.c: the reference. */
#include <stdlib.h>

#include "cuda_kernel.h"
#include "decode_fused/decode_fused_launch.h"

int fkdai_decode_fused_load(void) { return 0; }

static fkda_dtype dtype(const void *data, int is_f32) { return data == NULL ? FKDA_NONE : is_f32 ? FKDA_F32 : FKDA_BF16; }

static fkda_tensor_desc tensor(const fkdai_fused_tensor *t)
{
    return (fkda_tensor_desc){.batch_stride = t->batch, .head_stride = t->head, .dtype = dtype(t->data, t->is_f32)};
}

static fkda_state_desc state(const fkdai_fused_call *c)
{
    const fkda_slot_null null = c->first_slot == 1 ? FKDA_SLOT_NULL_NOT_POSITIVE : c->first_slot == 0 ? FKDA_SLOT_NULL_NEGATIVE : FKDA_SLOT_NULL_NONE;
    return (fkda_state_desc){
        .dtype = c->grid.is_bf16_state ? FKDA_BF16 : FKDA_F32, .layout = c->grid.is_k_first ? FKDA_STATE_NHKV : FKDA_STATE_NHVK,
        .row_stride = c->row_stride, .slot_count = c->slots == NULL ? 0 : c->slot_count,
        .slot_dtype = c->slots == NULL ? FKDA_NONE : c->is_slot_i64 ? FKDA_I64 : FKDA_I32, .slot_null = null,
    };
}

static void describe_conv(const fkdai_fused_conv *c, fkda_decode_fused_desc *d)
{
    if (c->weight[0] == NULL) return;
    d->conv_weight = (fkda_tensor_desc){.token_stride = c->weight_tap, .head_stride = c->weight_head, .dtype = dtype(c->weight[0], c->is_weight_f32)};
    d->conv_state = (fkda_tensor_desc){c->row, c->tap, c->channel, d->q.dtype, 0};
    d->conv_bias = dtype(c->bias[0].data, c->bias[0].is_f32);
}

static fkda_decode_fused_desc desc_of(const fkdai_fused_call *c)
{
    fkda_decode_fused_desc d = {
        .struct_size = sizeof d, .backend = FKDA_BACKEND_REF, .flags = c->initial_mask != NULL ? FKDA_FLAG_INITIAL_MASK : 0,
        .N = c->grid.blocks / (uint32_t)c->H, .H = c->H, .K = 128, .V = 128, .q = tensor(&c->x[0]), .k = tensor(&c->x[1]), .v = tensor(&c->x[2]),
        .g = tensor(&c->g), .beta = tensor(&c->beta), .out = tensor(&c->out), .output_gate = tensor(&c->output_gate), .state = state(c),
        .A_log = dtype(c->A_log.data, c->A_log.is_f32), .dt_bias = dtype(c->dt_bias.data, c->dt_bias.is_f32),
        .norm_weight = dtype(c->norm_weight.data, c->norm_weight.is_f32), .gate = (fkda_gate)c->gate, .lower_bound = c->lower_bound,
        .beta_kind = c->is_beta_activated ? FKDA_BETA_ACTIVATED : FKDA_BETA_LOGIT, .beta_multiplier = (int32_t)c->beta_multiplier,
        .qk_norm = c->is_normalised ? FKDA_QK_NORM_L2 : FKDA_QK_NORM_NONE, .scale = c->scale, .norm_eps = c->norm_eps,
    };
    describe_conv(&c->conv, &d);
    return d;
}

int fkdai_decode_fused_launch(const fkdai_fused_call *c, void *stream)
{
    if (c->grid.blocks == 0) return 0;
    const fkda_decode_fused_desc d = desc_of(c);
    const fkda_decode_fused_args a = {
        .struct_size = sizeof a, .q = c->x[0].data, .k = c->x[1].data, .v = c->x[2].data, .g = c->g.data, .beta = c->beta.data, .out = c->out.data,
        .A_log = c->A_log.data, .dt_bias = c->dt_bias.data, .output_gate = c->output_gate.data, .norm_weight = c->norm_weight.data,
        .conv_weight_q = c->conv.weight[0], .conv_weight_k = c->conv.weight[1], .conv_weight_v = c->conv.weight[2], .conv_bias_q = c->conv.bias[0].data,
        .conv_bias_k = c->conv.bias[1].data, .conv_bias_v = c->conv.bias[2].data, .conv_state = c->conv.taps, .state = c->state, .slots = c->slots,
        .initial_mask = c->initial_mask,
    };
    size_t bytes;
    if (fkda_decode_fused_workspace_size(&d, &bytes) != FKDA_OK) return 1;
    void *const workspace = aligned_alloc(FKDA_WORKSPACE_ALIGN, bytes + FKDA_WORKSPACE_ALIGN);
    const fkda_status status = workspace == NULL ? FKDA_ERR_NO_MEMORY : fkda_decode_fused(&d, &a, workspace, bytes, stream);
    free(workspace);
    return (int)status;
}

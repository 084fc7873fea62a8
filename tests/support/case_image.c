/* Laying a case out in guarded memory. One file: all of it fills in one struct, argument by argument. */
#include "harness.h"

#include "case_run.h"
#include "case_states.h"
#include "dtype.h"

enum { HEAD_GAP = 3, TOKEN_GAP = 5, BATCH_GAP = 7, ROW_GAP = 6, ODD_ROW_GAP = 7 };
static const uint8_t NAN_BYTE = 0xff;    /* 0xffff and 0xffffffff are NaN in bf16 and fp32 */

typedef struct shape {
    int64_t heads, width;
    fkda_dtype dtype;
} shape;

static shape shape_of(const case_spec *s, int tensor)
{
    const shape shapes[IMAGE_TENSORS] = {
        {s->H, s->K, (fkda_dtype)s->q},  {s->H, s->K, (fkda_dtype)s->k},        {s->HV, s->V, (fkda_dtype)s->v},
        {s->HV, s->K, (fkda_dtype)s->g}, {s->HV, 1, (fkda_dtype)s->beta_dtype}, {s->HV, s->V, (fkda_dtype)s->out},
    };
    return shapes[tensor];
}

/* The strides of a view, written out. */
static fkda_tensor_desc strides_of(const case_spec *s, int tensor)
{
    static const case_view mixed[IMAGE_TENSORS] = {VIEW_GAPS, VIEW_HEADS_FIRST, VIEW_TOKENS_FIRST, VIEW_HEADS_FIRST, VIEW_TOKENS_FIRST, VIEW_GAPS};
    const case_view view = s->view == VIEW_MIXED ? mixed[tensor] : (case_view)s->view;
    const int64_t has_gaps = view == VIEW_FOURS ? 4 : view == VIEW_GAPS || s->view == VIEW_MIXED;    /* in these units */
    const shape x = shape_of(s, tensor);
    const int64_t T = s->T > 0 ? s->T : 1, width = x.width + (x.width > 1 ? has_gaps * HEAD_GAP : 0);
    fkda_tensor_desc d = {.dtype = x.dtype};
    if (view == VIEW_HEADS_FIRST) {
        d.token_stride = width;
        d.head_stride = T * width + has_gaps * TOKEN_GAP;
        d.batch_stride = x.heads * d.head_stride + has_gaps * BATCH_GAP;
    } else if (view == VIEW_TOKENS_FIRST) {
        d.head_stride = width;
        d.batch_stride = x.heads * width + has_gaps * TOKEN_GAP;
        d.token_stride = s->B * d.batch_stride + has_gaps * BATCH_GAP;
    } else {
        d.head_stride = width;
        d.token_stride = view == VIEW_FUSED ? 3 * x.heads * width + x.heads : x.heads * width + has_gaps * TOKEN_GAP;
        d.batch_stride = T * d.token_stride + has_gaps * BATCH_GAP;
    }
    return d;
}

static int64_t row_gap_of(const case_spec *s)
{
    static const int64_t gaps[] = {[ROWS_TIGHT] = 0, [ROWS_GAPS] = ROW_GAP, [ROWS_ODD] = ODD_ROW_GAP, [ROWS_EIGHTS] = 8};
    return gaps[s->row_gap];
}

static int64_t row_stride_of(const case_spec *s) { return case_state_elems(s) + row_gap_of(s); }

static void describe_slots(const case_spec *s, fkda_fwd_desc *d)
{
    if (s->is_plain) return;
    if (s->is_masked) d->flags |= FKDA_FLAG_INITIAL_MASK;
    d->initial_state.slot_count = s->initial_pool == FKDA_NONE ? 0 : case_slot_count(s);
    d->initial_state.slot_dtype = (fkda_dtype)s->initial_pool;
    d->final_state.slot_count = s->final_pool == FKDA_NONE ? 0 : case_slot_count(s);
    d->final_state.slot_dtype = (fkda_dtype)s->final_pool;
    d->initial_state.slot_null = d->final_state.slot_null = (fkda_slot_null)s->slot_null;
}

static void describe_checkpoints(const case_spec *s, fkda_fwd_desc *d)
{
    if (s->checkpoints == FKDA_NONE) return;
    d->checkpoints = (fkda_state_desc){.dtype = (fkda_dtype)s->checkpoints, .layout = (fkda_state_layout)s->checkpoint_layout,
                                       .row_stride = s->row_gap ? row_stride_of(s) : 0};
    d->checkpoint_every = s->checkpoint_every;
    d->checkpoint_count = case_checkpoint_count(s);
    d->checkpoints_per_sequence = case_per_sequence(s);
    d->checkpoint_offset_dtype = (fkda_dtype)s->checkpoint_offsets;
    if (s->checkpoint_pool == FKDA_NONE || s->is_plain) return;
    d->checkpoints.slot_count = case_checkpoint_slot_count(s);
    d->checkpoints.slot_dtype = (fkda_dtype)s->checkpoint_pool;
    d->checkpoints.slot_null = (fkda_slot_null)s->slot_null;
}

fkda_fwd_desc case_desc(const case_spec *s)
{
    fkda_fwd_desc d = {
        .struct_size = sizeof d, .B = s->B, .T = s->T, .N = s->cu == FKDA_NONE ? 0 : s->N, .H = s->H, .HV = s->HV == s->H ? 0 : s->HV,
        .K = s->K, .V = s->V, .cu_seqlens = (fkda_dtype)s->cu, .A_log = (fkda_dtype)s->A_log, .dt_bias = (fkda_dtype)s->dt_bias,
        .gate = (fkda_gate)s->gate, .lower_bound = (float)s->lower_bound, .beta_kind = (fkda_beta)s->beta, .beta_multiplier = s->multiplier,
        .qk_norm = (fkda_qk_norm)s->norm, .scale = (float)s->scale,
        .initial_state = {.dtype = (fkda_dtype)s->initial, .layout = (fkda_state_layout)s->initial_layout},
        .final_state = {.dtype = (fkda_dtype)s->final, .layout = (fkda_state_layout)s->final_layout},
    };
    if (s->gate == FKDA_GATE_PRECOMPUTED) d.A_log = d.dt_bias = FKDA_NONE;
    if (s->row_gap) d.initial_state.row_stride = d.final_state.row_stride = row_stride_of(s);
    describe_slots(s, &d);
    describe_checkpoints(s, &d);
    fkda_tensor_desc *const tensors[IMAGE_TENSORS] = {&d.q, &d.k, &d.v, &d.g, &d.beta, &d.out};
    for (int i = 0; i < IMAGE_TENSORS; ++i)
        *tensors[i] = s->view == VIEW_PLAIN ? (fkda_tensor_desc){.dtype = shape_of(s, i).dtype} : strides_of(s, i);
    return d;
}

/* -------------------------------------------------------------- as another operation */

static int is_decode(const case_spec *s) { return s->is_decode && !s->is_plain; }

fkda_decode_desc case_decode_desc(const case_spec *s, const fkda_fwd_desc *f)
{
    int64_t longest = s->cu != FKDA_NONE && s->most_tokens > 1 ? s->most_tokens : 1;
    for (int64_t n = 0; n < s->N; ++n) longest = s->bounds[n + 1] - s->bounds[n] > longest ? s->bounds[n + 1] - s->bounds[n] : longest;
    return (fkda_decode_desc){
        .struct_size = sizeof(fkda_decode_desc), .backend = f->backend, .memory = f->memory, .device = f->device, .threads = f->threads, .flags = f->flags,
        .N = s->N, .S = longest, .T = s->cu == FKDA_NONE ? 0 : f->T, .H = f->H, .HV = f->HV, .K = f->K, .V = f->V,
        .q = f->q, .k = f->k, .v = f->v, .g = f->g, .beta = f->beta, .out = f->out, .cu_seqlens = f->cu_seqlens, .A_log = f->A_log,
        .dt_bias = f->dt_bias, .gate = f->gate, .lower_bound = f->lower_bound, .beta_kind = f->beta_kind, .beta_multiplier = f->beta_multiplier,
        .qk_norm = f->qk_norm, .scale = f->scale, .state = f->final_state,
        .commit = s->is_verify ? FKDA_COMMIT_NONE : FKDA_COMMIT_LAST,
    };
}

fkda_decode_args case_decode_args(const fkda_fwd_args *a)
{
    return (fkda_decode_args){
        .struct_size = sizeof(fkda_decode_args), .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .cu_seqlens = a->cu_seqlens, .state = a->final_state, .slots = a->final_slots, .initial_mask = a->initial_mask,
        .device_status = a->device_status,
    };
}

fkda_status image_workspace_size(const case_image *m, size_t *bytes)
{
    if (!is_decode(m->spec)) return fkda_fwd_workspace_size(&m->desc, bytes);
    const fkda_decode_desc d = case_decode_desc(m->spec, &m->desc);
    return fkda_decode_workspace_size(&d, bytes);
}

fkda_status image_call(const case_image *m, const fkda_fwd_args *args, void *workspace, size_t bytes)
{
    if (!is_decode(m->spec)) return fkda_fwd(&m->desc, args, workspace, bytes, NULL);
    const fkda_decode_desc d = case_decode_desc(m->spec, &m->desc);
    const fkda_decode_args a = case_decode_args(args);
    return fkda_decode(&d, &a, workspace, bytes, NULL);
}

/* -------------------------------------------------------------- where the elements of a logical array lie */

/* Elements that follow each other and lie together: a row of a tensor's head, the matrix of a state. */
typedef struct block {
    int64_t count, at;    /* at: CASE_NO_ROW if they lie nowhere */
    int is_vk;            /* a matrix [K,V] that lies as [V,K] */
} block;

/* Tensor: i counts [rows, heads, width]. */
static block tensor_block(const case_image *m, int tensor, int64_t i)
{
    const shape x = shape_of(m->spec, tensor);
    const fkda_tensor_desc *const d = &m->lie[tensor];
    const int64_t row = i / (x.heads * x.width), head = i / x.width % x.heads, T = m->spec->T;
    return (block){x.width, row / T * d->batch_stride + row % T * d->token_stride + head * d->head_stride, 0};
}

static int is_state(int buffer) { return buffer == IMAGE_INITIAL || buffer == IMAGE_FINAL || buffer == IMAGE_CHECKPOINTS; }

static const fkda_state_desc *state_desc(const case_image *m, int buffer)
{
    return buffer == IMAGE_INITIAL ? &m->desc.initial_state : buffer == IMAGE_FINAL ? &m->desc.final_state : &m->desc.checkpoints;
}

/* State: i counts [N or checkpoint_count, HV, K, V]. */
static block state_block(const case_image *m, int buffer, int64_t i)
{
    const case_spec *const s = m->spec;
    const int64_t n = i / case_state_elems(s), hv = i / (s->K * s->V) % s->HV;
    const int64_t row = buffer == IMAGE_INITIAL ? case_initial_row(s, n) : buffer == IMAGE_FINAL ? case_final_row(s, n) : case_checkpoint_row(s, n);
    return (block){s->K * s->V, row == CASE_NO_ROW ? CASE_NO_ROW : row * row_stride_of(s) + hv * s->K * s->V,
                   state_desc(m, buffer)->layout == FKDA_STATE_NHVK};
}

/* The block that begins with element i of `count`. */
static block block_at(const case_image *m, int buffer, int64_t i, int64_t count)
{
    return buffer < IMAGE_TENSORS ? tensor_block(m, buffer, i) : is_state(buffer) ? state_block(m, buffer, i) : (block){count, 0, 0};
}

/* Element j of a block: where it lies. */
static int64_t place(const case_spec *s, const block *x, int64_t j) { return x->at + (x->is_vk ? j % s->V * s->K + j / s->V : j); }

static fkda_dtype slot_dtype(const fkda_state_desc *state) { return state->slot_count > 0 ? state->slot_dtype : FKDA_NONE; }

static fkda_dtype dtype_of(const case_image *m, int buffer)
{
    const fkda_fwd_desc *const d = &m->desc;
    switch (buffer) {
    case IMAGE_A_LOG: return d->A_log;
    case IMAGE_DT_BIAS: return d->dt_bias;
    case IMAGE_CU_SEQLENS: return d->cu_seqlens;
    case IMAGE_INITIAL_SLOTS: return slot_dtype(&d->initial_state);
    case IMAGE_FINAL_SLOTS: return slot_dtype(&d->final_state);
    case IMAGE_CHECKPOINT_SLOTS: return slot_dtype(&d->checkpoints);
    case IMAGE_OFFSETS: return d->checkpoints.dtype != FKDA_NONE && d->checkpoint_every == 0 ? d->checkpoint_offset_dtype : FKDA_NONE;
    default: return is_state(buffer) ? state_desc(m, buffer)->dtype : shape_of(m->spec, buffer).dtype;
    }
}

static int64_t element_of(const case_image *m, int buffer)
{
    if (buffer == IMAGE_MASK) return m->desc.flags & FKDA_FLAG_INITIAL_MASK ? 1 : 0;
    return fkdai_dtype_bytes(dtype_of(m, buffer));
}

static int64_t count_of(const case_image *m, int buffer)
{
    const case_spec *const s = m->spec;
    switch (buffer) {
    case IMAGE_A_LOG: return s->HV;
    case IMAGE_DT_BIAS: return s->HV * s->K;
    case IMAGE_CU_SEQLENS: return s->N + 1;
    case IMAGE_INITIAL: case IMAGE_FINAL: return s->N * case_state_elems(s);
    case IMAGE_CHECKPOINTS: return m->desc.checkpoint_count * case_state_elems(s);
    case IMAGE_CHECKPOINT_SLOTS: return m->desc.checkpoint_count;
    case IMAGE_OFFSETS: return s->N * case_per_sequence(s);
    case IMAGE_INITIAL_SLOTS: case IMAGE_FINAL_SLOTS: case IMAGE_MASK: return s->N;
    default: return case_rows(s) * shape_of(s, buffer).heads * shape_of(s, buffer).width;
    }
}

/* -------------------------------------------------------------- building */

static int64_t extent_of(const case_image *m, int buffer)
{
    int64_t count = count_of(m, buffer);    /* every axis steps forwards, so the last element lies last in row-major views only */
    if (is_state(buffer)) {
        const int64_t pool = state_desc(m, buffer)->slot_count, rows = pool > 0 ? pool : count / case_state_elems(m->spec);
        return rows > 0 ? (rows - 1) * row_stride_of(m->spec) + case_state_elems(m->spec) : 0;
    }
    if (buffer < IMAGE_TENSORS) count += m->spec->tail * shape_of(m->spec, buffer).heads * shape_of(m->spec, buffer).width;
    int64_t end = 0;
    for (int64_t i = 0; i < count;) {
        const block x = block_at(m, buffer, i, count);
        if (x.at + x.count > end) end = x.at + x.count;
        i += x.count;
    }
    return end;
}

static void alloc_buffer(case_image *m, int buffer, guard_side side, uint8_t fill)
{
    const int64_t element = element_of(m, buffer);
    if (element > 0) m->buffer[buffer] = guarded_alloc((size_t)(extent_of(m, buffer) * element), (size_t)element, side, fill);
}

static int is_in_place(const case_spec *s) { return s->in_place && !s->is_plain; }

/* In place the initial states lie in the buffer of the final ones. */
static void store_buffer(case_image *m, int buffer, const float *values)
{
    const case_spec *const s = m->spec;
    void *const data = m->buffer[buffer == IMAGE_INITIAL && is_in_place(s) ? IMAGE_FINAL : buffer].data;
    const fkda_dtype dtype = dtype_of(m, buffer);
    const int64_t count = dtype == FKDA_NONE ? 0 : count_of(m, buffer);
    for (int64_t i = 0; i < count;) {
        const block x = block_at(m, buffer, i, count);
        const int is_zero = buffer == IMAGE_INITIAL && case_starts_from_0(s, i / case_state_elems(s));
        for (int64_t j = 0; j < x.count && x.at != CASE_NO_ROW; ++j) fkdai_store(data, dtype, place(s, &x, j), is_zero ? 0 : (double)values[i + j]);
        i += x.count;
    }
}

static void store_index(case_image *m, int buffer, int64_t i, int64_t value)
{
    if (dtype_of(m, buffer) == FKDA_I32) ((int32_t *)(void *)m->buffer[buffer].data)[i] = (int32_t)value;
    else ((int64_t *)(void *)m->buffer[buffer].data)[i] = value;
}

static void store_indices(case_image *m)
{
    const case_spec *const s = m->spec;
    for (int64_t n = 0; n <= s->N && s->cu != FKDA_NONE; ++n) store_index(m, IMAGE_CU_SEQLENS, n, s->bounds[n]);
    for (int64_t n = 0; n < s->N; ++n) {
        if (m->buffer[IMAGE_INITIAL_SLOTS].data != NULL) store_index(m, IMAGE_INITIAL_SLOTS, n, case_initial_slot(s, n));
        if (m->buffer[IMAGE_FINAL_SLOTS].data != NULL) store_index(m, IMAGE_FINAL_SLOTS, n, case_final_slot(s, n));
        if (m->buffer[IMAGE_MASK].data != NULL) m->buffer[IMAGE_MASK].data[n] = case_mask(s, n);
        for (int64_t j = 0; j < case_per_sequence(s) && m->buffer[IMAGE_OFFSETS].data != NULL; ++j)
            store_index(m, IMAGE_OFFSETS, n * case_per_sequence(s) + j, case_checkpoint_offset(s, n, j));
    }
    for (int64_t i = 0; i < m->desc.checkpoint_count && m->buffer[IMAGE_CHECKPOINT_SLOTS].data != NULL; ++i)
        store_index(m, IMAGE_CHECKPOINT_SLOTS, i, case_checkpoint_slot(s, i));
}

fkda_fwd_args image_args(const case_spec *s, void *const *data)
{
    return (fkda_fwd_args){
        .struct_size = sizeof(fkda_fwd_args), .q = data[IMAGE_Q], .k = data[IMAGE_K], .v = data[IMAGE_V], .g = data[IMAGE_G],
        .beta = data[IMAGE_BETA], .out = data[IMAGE_OUT], .A_log = data[IMAGE_A_LOG], .dt_bias = data[IMAGE_DT_BIAS],
        .cu_seqlens = data[IMAGE_CU_SEQLENS], .initial_state = data[is_in_place(s) ? IMAGE_FINAL : IMAGE_INITIAL],
        .final_state = data[IMAGE_FINAL], .initial_slots = data[IMAGE_INITIAL_SLOTS], .final_slots = data[IMAGE_FINAL_SLOTS],
        .initial_mask = data[IMAGE_MASK], .checkpoint_state = data[IMAGE_CHECKPOINTS], .checkpoint_offsets = data[IMAGE_OFFSETS],
        .checkpoint_slots = data[IMAGE_CHECKPOINT_SLOTS],
    };
}

int image_is_output(int buffer) { return buffer == IMAGE_OUT || buffer == IMAGE_FINAL || buffer == IMAGE_CHECKPOINTS; }

static int is_written(int buffer) { return image_is_output(buffer) || buffer == IMAGE_WORKSPACE; }

/* Outputs as they are before the call, and everything else read-only. */
static void hold_still(case_image *m)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b) {
        if (m->buffer[b].pages == NULL) continue;
        if (!is_written(b)) guarded_make_readonly(&m->buffer[b]);
        if (!image_is_output(b)) continue;
        m->before[b] = must_alloc(m->buffer[b].bytes, 1);
        if (m->buffer[b].bytes > 0) memcpy(m->before[b], m->buffer[b].data, m->buffer[b].bytes);
    }
}

case_image image_build(const case_spec *s, const input_values *x, const run_setup *setup)
{
    case_image m = {.spec = s, .desc = case_desc(s)};
    void *data[IMAGE_BUFFERS];
    m.desc.backend = setup->backend;
    m.desc.threads = setup->threads;
    for (int i = 0; i < IMAGE_TENSORS; ++i) m.lie[i] = strides_of(s, i);
    for (int b = 0; b < IMAGE_WORKSPACE; ++b) alloc_buffer(&m, b, setup->side, is_written(b) ? setup->poison : NAN_BYTE);
    const float *const inputs[] = {x->q, x->k, x->v, x->g, x->beta, NULL, x->A_log, x->dt_bias};
    for (int b = 0; b <= IMAGE_DT_BIAS; ++b)
        if (inputs[b] != NULL) store_buffer(&m, b, inputs[b]);
    store_indices(&m);
    store_buffer(&m, IMAGE_INITIAL, x->initial);
    for (int b = 0; b < IMAGE_BUFFERS; ++b) data[b] = m.buffer[b].data;
    m.args = image_args(s, data);

    size_t bytes = 0;
    if (image_workspace_size(&m, &bytes) == FKDA_OK && bytes > 0)
        m.buffer[IMAGE_WORKSPACE] = guarded_alloc(bytes, FKDA_WORKSPACE_ALIGN, setup->side, setup->poison);
    hold_still(&m);
    return m;
}

/* -------------------------------------------------------------- afterwards */

static void check_gaps(const case_image *m, int buffer)
{
    static const char *const names[IMAGE_BUFFERS] = {[IMAGE_OUT] = "out", [IMAGE_FINAL] = "final_state", [IMAGE_CHECKPOINTS] = "checkpoint_state"};
    const guarded *const g = &m->buffer[buffer];
    const int64_t element = element_of(m, buffer), count = count_of(m, buffer);
    uint8_t *const wanted = must_alloc(g->bytes, 1);    /* what was there before, with the results on top */
    memcpy(wanted, m->before[buffer], g->bytes);
    for (int64_t i = 0; i < count;) {
        const block x = block_at(m, buffer, i, count);
        if (x.at != CASE_NO_ROW) memcpy(wanted + x.at * element, g->data + x.at * element, (size_t)(x.count * element));
        i += x.count;
    }
    if (memcmp(wanted, g->data, g->bytes) != 0) {
        size_t at = 0;
        while (wanted[at] == g->data[at]) ++at;
        fail_msg("%s: byte %zu of %s was written, and belongs to no result", m->spec->name, at, names[buffer]);
    }
    free(wanted);
}

void image_check_untouched(const case_image *m)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b) {
        if (m->buffer[b].pages == NULL) continue;
        if (!guarded_slack_is_intact(&m->buffer[b])) fail_msg("%s: bytes beside buffer %d were written", m->spec->name, b);
        if (image_is_output(b) && !(m->spec->is_plain && b != IMAGE_OUT)) check_gaps(m, b);    /* on plain memory null states are written too */
    }
}

/* 0 where nothing was to be written. */
static float *gather(const case_image *m, int buffer, int64_t count)
{
    float *const values = must_alloc((size_t)count, sizeof *values);
    const fkda_dtype dtype = dtype_of(m, buffer);
    for (int64_t i = 0; i < count;) {
        const block x = block_at(m, buffer, i, count);
        for (int64_t j = 0; j < x.count && x.at != CASE_NO_ROW; ++j)
            values[i + j] = (float)fkdai_load(m->buffer[buffer].data, dtype, place(m->spec, &x, j));
        i += x.count;
    }
    return values;
}

case_result image_gather(const case_image *m, fkda_status status)
{
    case_result r = {
        .status = status, .out_count = count_of(m, IMAGE_OUT), .state_count = m->spec->final == FKDA_NONE ? 0 : count_of(m, IMAGE_FINAL),
        .checkpoint_elems = m->spec->checkpoints == FKDA_NONE ? 0 : count_of(m, IMAGE_CHECKPOINTS),
    };
    r.out = gather(m, IMAGE_OUT, r.out_count);
    r.state = gather(m, IMAGE_FINAL, r.state_count);
    r.checkpoints = gather(m, IMAGE_CHECKPOINTS, r.checkpoint_elems);
    return r;
}

void image_free(case_image *m)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b) {
        guarded_free(&m->buffer[b]);
        free(m->before[b]);
    }
}

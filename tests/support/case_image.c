/* Laying a case out in guarded memory. */
#include "harness.h"

#include "case_run.h"
#include "dtype.h"

enum { Q, K_, V_, G, BETA, OUT, A_LOG, DT_BIAS, CU_SEQLENS, INITIAL, FINAL, WORKSPACE };
enum { HEAD_GAP = 3, TOKEN_GAP = 5, BATCH_GAP = 7, ROW_GAP = 6 };
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
    const int64_t has_gaps = view == VIEW_GAPS || s->view == VIEW_MIXED;
    const shape x = shape_of(s, tensor);
    const int64_t T = s->T > 0 ? s->T : 1, width = x.width + (has_gaps && x.width > 1 ? HEAD_GAP : 0);
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
        d.token_stride = x.heads * width + has_gaps * TOKEN_GAP;
        d.batch_stride = T * d.token_stride + has_gaps * BATCH_GAP;
    }
    return d;
}

static int64_t row_stride_of(const case_spec *s) { return case_state_elems(s) + (s->row_gap ? ROW_GAP : 0); }

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
    fkda_tensor_desc *const tensors[IMAGE_TENSORS] = {&d.q, &d.k, &d.v, &d.g, &d.beta, &d.out};
    for (int i = 0; i < IMAGE_TENSORS; ++i)
        *tensors[i] = s->view == VIEW_PLAIN ? (fkda_tensor_desc){.dtype = shape_of(s, i).dtype} : strides_of(s, i);
    return d;
}

/* -------------------------------------------------------------- where element i of a logical array lies */

/* Tensor: i counts [rows, heads, width]. */
static int64_t tensor_place(const case_image *m, int tensor, int64_t i)
{
    const shape x = shape_of(m->spec, tensor);
    const fkda_tensor_desc *const d = &m->lie[tensor];
    const int64_t row = i / (x.heads * x.width), head = i / x.width % x.heads, T = m->spec->T;
    return row / T * d->batch_stride + row % T * d->token_stride + head * d->head_stride + i % x.width;
}

/* State: i counts [N, HV, K, V]. */
static int64_t state_place(const case_image *m, int layout, int64_t i)
{
    const case_spec *const s = m->spec;
    const int64_t n = i / case_state_elems(s), hv = i / (s->K * s->V) % s->HV, c = i / s->V % s->K, v = i % s->V;
    return n * row_stride_of(s) + hv * s->K * s->V + (layout == FKDA_STATE_NHVK ? v * s->K + c : c * s->V + v);
}

static int64_t place(const case_image *m, int buffer, int64_t i)
{
    if (buffer < IMAGE_TENSORS) return tensor_place(m, buffer, i);
    if (buffer == INITIAL) return state_place(m, m->spec->initial_layout, i);
    if (buffer == FINAL) return state_place(m, m->spec->final_layout, i);
    return i;
}

static fkda_dtype dtype_of(const case_image *m, int buffer)
{
    const fkda_dtype others[] = {m->desc.A_log, m->desc.dt_bias, m->desc.cu_seqlens, m->desc.initial_state.dtype, m->desc.final_state.dtype};
    return buffer < IMAGE_TENSORS ? shape_of(m->spec, buffer).dtype : others[buffer - A_LOG];
}

static int64_t count_of(const case_image *m, int buffer)
{
    const case_spec *const s = m->spec;
    const int64_t others[] = {s->HV, s->HV * s->K, s->N + 1, s->N * case_state_elems(s), s->N * case_state_elems(s)};
    return buffer < IMAGE_TENSORS ? case_rows(s) * shape_of(s, buffer).heads * shape_of(s, buffer).width : others[buffer - A_LOG];
}

/* -------------------------------------------------------------- building */

static int64_t extent_of(const case_image *m, int buffer)
{
    int64_t count = count_of(m, buffer);    /* every axis steps forwards, so the last element lies last in row-major views only */
    if (buffer < IMAGE_TENSORS) count += m->spec->tail * shape_of(m->spec, buffer).heads * shape_of(m->spec, buffer).width;
    int64_t end = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t at = place(m, buffer, i) + 1;
        if (at > end) end = at;
    }
    return end;
}

static void alloc_buffer(case_image *m, int buffer, guard_side side, uint8_t fill)
{
    const int64_t element = fkdai_dtype_bytes(dtype_of(m, buffer));
    if (element > 0) m->buffer[buffer] = guarded_alloc((size_t)(extent_of(m, buffer) * element), (size_t)element, side, fill);
}

static void store_buffer(case_image *m, int buffer, const float *values)
{
    const int64_t count = dtype_of(m, buffer) == FKDA_NONE ? 0 : count_of(m, buffer);
    for (int64_t i = 0; i < count; ++i) fkdai_store(m->buffer[buffer].data, dtype_of(m, buffer), place(m, buffer, i), (double)values[i]);
}

static void store_bounds(case_image *m)
{
    for (int64_t n = 0; n <= m->spec->N && m->spec->cu != FKDA_NONE; ++n) {
        if (m->spec->cu == FKDA_I32) ((int32_t *)(void *)m->buffer[CU_SEQLENS].data)[n] = (int32_t)m->spec->bounds[n];
        else ((int64_t *)(void *)m->buffer[CU_SEQLENS].data)[n] = m->spec->bounds[n];
    }
}

static void point_args(case_image *m)
{
    m->args = (fkda_fwd_args){
        .struct_size = sizeof m->args, .q = m->buffer[Q].data, .k = m->buffer[K_].data, .v = m->buffer[V_].data, .g = m->buffer[G].data,
        .beta = m->buffer[BETA].data, .out = m->buffer[OUT].data, .A_log = m->buffer[A_LOG].data, .dt_bias = m->buffer[DT_BIAS].data,
        .cu_seqlens = m->buffer[CU_SEQLENS].data,
        .initial_state = m->spec->in_place ? m->buffer[FINAL].data : m->buffer[INITIAL].data, .final_state = m->buffer[FINAL].data,
    };
}

static int is_written(int buffer) { return buffer == OUT || buffer == FINAL || buffer == WORKSPACE; }

case_image image_build(const case_spec *s, const input_values *x, const run_setup *setup)
{
    case_image m = {.spec = s, .desc = case_desc(s)};
    m.desc.backend = setup->backend;
    m.desc.threads = setup->threads;
    for (int i = 0; i < IMAGE_TENSORS; ++i) m.lie[i] = strides_of(s, i);
    for (int b = 0; b < WORKSPACE; ++b) alloc_buffer(&m, b, setup->side, is_written(b) ? setup->poison : NAN_BYTE);
    const float *const inputs[] = {x->q, x->k, x->v, x->g, x->beta, NULL, x->A_log, x->dt_bias};
    for (int b = 0; b <= DT_BIAS; ++b)
        if (inputs[b] != NULL) store_buffer(&m, b, inputs[b]);
    store_bounds(&m);
    store_buffer(&m, s->in_place ? FINAL : INITIAL, x->initial);
    point_args(&m);

    size_t bytes = 0;
    if (fkda_fwd_workspace_size(&m.desc, &bytes) == FKDA_OK && bytes > 0)
        m.buffer[WORKSPACE] = guarded_alloc(bytes, FKDA_WORKSPACE_ALIGN, setup->side, setup->poison);
    for (int b = 0; b < IMAGE_BUFFERS; ++b)
        if (!is_written(b) && m.buffer[b].pages != NULL) guarded_make_readonly(&m.buffer[b]);
    return m;
}

/* -------------------------------------------------------------- afterwards */

static void check_gaps(const case_image *m, int buffer)
{
    const guarded *const g = &m->buffer[buffer];
    const size_t element = (size_t)fkdai_dtype_bytes(dtype_of(m, buffer));
    uint8_t *const is_element = must_alloc(g->bytes, 1);
    for (int64_t i = 0; i < count_of(m, buffer); ++i) memset(is_element + (size_t)place(m, buffer, i) * element, 1, element);
    for (size_t i = 0; i < g->bytes; ++i)
        if (!is_element[i] && g->data[i] != g->fill)
            fail_msg("%s: byte %zu of a gap of %s was written", m->spec->name, i, buffer == OUT ? "out" : "final_state");
    free(is_element);
}

void image_check_untouched(const case_image *m)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b)
        if (m->buffer[b].pages != NULL && !guarded_slack_is_intact(&m->buffer[b]))
            fail_msg("%s: bytes beside buffer %d were written", m->spec->name, b);
    if (m->buffer[OUT].pages != NULL) check_gaps(m, OUT);
    if (m->buffer[FINAL].pages != NULL) check_gaps(m, FINAL);
}

static float *gather(const case_image *m, int buffer, int64_t count)
{
    float *const values = must_alloc((size_t)count, sizeof *values);
    for (int64_t i = 0; i < count; ++i) values[i] = (float)fkdai_load(m->buffer[buffer].data, dtype_of(m, buffer), place(m, buffer, i));
    return values;
}

case_result image_gather(const case_image *m, fkda_status status)
{
    case_result r = {.status = status, .out_count = count_of(m, OUT), .state_count = m->spec->final == FKDA_NONE ? 0 : count_of(m, FINAL)};
    r.out = gather(m, OUT, r.out_count);
    r.state = gather(m, FINAL, r.state_count);
    return r;
}

void image_free(case_image *m)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b) guarded_free(&m->buffer[b]);
}

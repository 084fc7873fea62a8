/* Drawing and laying out. */
#include "harness.h"

#include <math.h>

#include "counter_rng.h"
#include "dtype.h"
#include "fused_case.h"

enum { X_GAP = 8, ROW_GAP = 4, SPARE_ROWS = 3 };

fused_spec fused_draw(uint64_t number)
{
    const uint64_t s = rng_stream("fused spec", number);
    int64_t i = 0;
#define PICK(n) ((int)rng_below(s, (uint64_t)i++, n))
#define FLOAT() (PICK(2) ? FKDA_BF16 : FKDA_F32)
#define OPTIONAL() (PICK(4) ? FLOAT() : FKDA_NONE)
    fused_spec x = {.number = number, .W = 128, .nan_sequence = -1};
    x.N = 1 + PICK(6), x.H = 1 + PICK(3);
    x.x = PICK(3) ? FKDA_BF16 : FKDA_F32, x.g = FLOAT(), x.beta = FLOAT(), x.out = FLOAT(), x.output_gate = FLOAT();
    x.conv_weight = OPTIONAL(), x.norm_weight = OPTIONAL(), x.conv_bias = x.conv_weight == FKDA_NONE ? FKDA_NONE : OPTIONAL();
    x.gate = (fkda_gate)PICK(3), x.beta_kind = (fkda_beta)PICK(2), x.beta_multiplier = 1 + PICK(2), x.qk_norm = PICK(5) ? FKDA_QK_NORM_L2 : FKDA_QK_NORM_NONE;
    if (x.gate != FKDA_GATE_PRECOMPUTED) x.A_log = OPTIONAL(), x.dt_bias = OPTIONAL();
    x.state = PICK(3) ? FKDA_F32 : FKDA_BF16, x.layout = PICK(4) ? FKDA_STATE_NHVK : FKDA_STATE_NHKV;
    x.slots = PICK(5) == 0 ? FKDA_NONE : PICK(2) ? FKDA_I32 : FKDA_I64, x.slot_null = (fkda_slot_null)PICK(3);
    x.is_masked = PICK(2), x.taps = (fused_taps)PICK(FUSED_TAPS_COUNT);
#undef PICK
#undef FLOAT
#undef OPTIONAL
    return x;
}

fkda_dtype fused_stored(const fused_spec *s, fkda_dtype dtype) { return s->is_exact ? FKDA_F32 : dtype; }

int64_t fused_row(const fused_spec *s, int64_t n)
{
    if (s->slots == FKDA_NONE) return n;
    const int is_null = s->slot_null != FKDA_SLOT_NULL_NONE && (s->first + n) % 5 == 3;
    return is_null ? -1 : 2 * (s->N - 1 - n) + 1;
}

int fused_is_masked(const fused_spec *s, int64_t n) { return s->is_masked && (s->first + n) % 3 == 1; }

static int64_t slot_index(const fused_spec *s, int64_t n)
{
    const int64_t row = fused_row(s, n);
    if (row >= 0) return row;
    return s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE && s->number % 2 == 0 ? 0 : -1 - n;
}

static int64_t row_count(const fused_spec *s) { return s->slots == FKDA_NONE ? s->N : 2 * s->N + SPARE_ROWS; }

/* ---------------------------------------------------------------- what is asked */

static fkda_tensor_desc tensor(fkda_dtype dtype, int64_t row) { return (fkda_tensor_desc){.batch_stride = row, .dtype = dtype}; }

static fkda_tensor_desc taps_desc(const fused_spec *s)
{
    const int64_t C = 3 * s->H * s->W;
    const fkda_tensor_desc all[] = {{3 * C + 16, C + 4, 1, s->x, 0}, {3 * C, 1, 3, s->x, 0}, {6 * C + 7, 2 * C + 1, 2, s->x, 0}};
    return all[s->taps];
}

static fkda_decode_fused_desc desc_of(const fused_spec *s)
{
    const int64_t HW = s->H * s->W;
    fkda_decode_fused_desc d = {
        .struct_size = sizeof d, .flags = s->is_masked ? FKDA_FLAG_INITIAL_MASK : 0, .N = s->N, .H = s->H, .K = s->W, .V = s->W,
        .q = tensor(s->x, 3 * HW + X_GAP), .k = tensor(s->x, 3 * HW + X_GAP), .v = tensor(s->x, 3 * HW + X_GAP), .g = tensor(s->g, HW + ROW_GAP),
        .beta = tensor(s->beta, s->H + 1), .out = tensor(fused_stored(s, s->out), HW + ROW_GAP), .output_gate = tensor(s->output_gate, HW + 2 * ROW_GAP),
        .state = {.dtype = fused_stored(s, s->state), .layout = s->layout, .row_stride = HW * s->W + 16, .slot_count = s->slots == FKDA_NONE ? 0 : row_count(s),
                  .slot_dtype = s->slots, .slot_null = s->slot_null},
        .A_log = s->A_log, .dt_bias = s->dt_bias, .conv_bias = s->conv_bias, .norm_weight = s->norm_weight, .gate = s->gate, .lower_bound = -5,
        .beta_kind = s->beta_kind, .beta_multiplier = s->beta_multiplier, .qk_norm = s->qk_norm, .scale = (float)(1 / sqrt((double)s->W)), .norm_eps = 1e-5f,
    };
    if (s->conv_weight != FKDA_NONE) d.conv_weight = (fkda_tensor_desc){0, HW + ROW_GAP, 0, s->conv_weight, 0}, d.conv_state = taps_desc(s);
    return d;
}

/* ---------------------------------------------------------------- what it holds */

static size_t bytes(fkda_dtype dtype, int64_t count) { return (size_t)(fkdai_dtype_bytes(dtype) * count); }

static void make(fused_image *m, int buffer, fkda_dtype dtype, int64_t count, guard_side side, uint8_t fill)
{
    if (dtype == FKDA_NONE) return;
    m->buffer[buffer] = guarded_alloc(bytes(dtype, count), 16, side, fill);
}

static double draw(const fused_image *m, const char *what, int64_t i) { return rng_normal(rng_stream(what, m->spec.number), (uint64_t)i); }

static void put(fused_image *m, int buffer, fkda_dtype dtype, int64_t at, double value) { fkdai_store(m->buffer[buffer].data, dtype, at, value); }

/* [rows][width], rows `stride` apart, from row `first` of what is drawn. */
static void put_rows(fused_image *m, int buffer, fkda_dtype dtype, const char *what, int64_t width, int64_t stride, double mean, double spread)
{
    const fused_spec *const s = &m->spec;
    for (int64_t n = 0; n < s->N; ++n)
        for (int64_t c = 0; c < width; ++c)
            put(m, buffer, dtype, n * stride + c, s->first + n == s->nan_sequence ? NAN : mean + spread * draw(m, what, (s->first + n) * width + c));
}

static void put_vector(fused_image *m, int buffer, fkda_dtype dtype, const char *what, int64_t count, double mean, double spread)
{
    if (dtype == FKDA_NONE) return;
    for (int64_t i = 0; i < count; ++i) put(m, buffer, dtype, i, mean + spread * draw(m, what, i));
}

static void put_inputs(fused_image *m)
{
    static const char *const weights[] = {"weight q", "weight k", "weight v"}, *const biases[] = {"bias q", "bias k", "bias v"};
    const fused_spec *const s = &m->spec;
    const int64_t HW = s->H * s->W;
    const int is_log = s->gate == FKDA_GATE_PRECOMPUTED;
    put_rows(m, FUSED_X, s->x, "x", 3 * HW, 3 * HW + X_GAP, 0, 1);
    put_rows(m, FUSED_G, s->g, "g", HW, HW + ROW_GAP, is_log ? -1 : 0, is_log ? 0.5 : 2);
    put_rows(m, FUSED_BETA, s->beta, "beta", s->H, s->H + 1, 0.5, s->beta_kind == FKDA_BETA_ACTIVATED ? 0.1 : 1);
    if (s->norm_weight != FKDA_NONE) put_rows(m, FUSED_OUTPUT_GATE, s->output_gate, "output gate", HW, HW + 2 * ROW_GAP, 0, 1);
    put_vector(m, FUSED_NORM_WEIGHT, s->norm_weight, "norm weight", s->W, 1, 0.2);
    put_vector(m, FUSED_A_LOG, s->A_log, "A_log", s->H, 0, 0.5);
    put_vector(m, FUSED_DT_BIAS, s->dt_bias, "dt_bias", HW, 0, 1);
    for (int part = 0; part < 3; ++part) {
        for (int64_t i = 0; s->conv_weight != FKDA_NONE && i < 4 * HW; ++i)
            put(m, FUSED_WEIGHT + part, s->conv_weight, i / HW * (HW + ROW_GAP) + i % HW, 0.5 * draw(m, weights[part], i));
        put_vector(m, FUSED_BIAS + part, s->conv_bias, biases[part], HW, 0, 0.5);
    }
    for (int64_t n = 0; n < s->N; ++n) {
        if (s->slots == FKDA_I32) ((int32_t *)(void *)m->buffer[FUSED_SLOTS].data)[n] = (int32_t)slot_index(s, n);
        if (s->slots == FKDA_I64) ((int64_t *)(void *)m->buffer[FUSED_SLOTS].data)[n] = slot_index(s, n);
        if (s->is_masked) m->buffer[FUSED_MASK].data[n] = !fused_is_masked(s, n);
    }
}

/* Of the sequences that read them; what others have stays poison. */
static void put_pools(fused_image *m)
{
    const fused_spec *const s = &m->spec;
    const int64_t matrices = s->H * s->W * s->W, C = 3 * s->H * s->W;
    const fkda_tensor_desc t = m->desc.conv_state;
    for (int64_t n = 0; n < s->N; ++n) {
        const int64_t row = fused_row(s, n), number = s->first + n;
        const int is_nan = number == s->nan_sequence;
        if (row < 0 || fused_is_masked(s, n)) continue;
        for (int64_t i = 0; i < matrices; ++i) {    /* drawn as [V,K] */
            const int64_t v = i / s->W % s->W, c = i % s->W, at = s->layout == FKDA_STATE_NHVK ? i : i - v * s->W - c + c * s->W + v;
            const double x = is_nan ? NAN : 0.3 * draw(m, "state", number * matrices + i);
            put(m, FUSED_STATE, m->desc.state.dtype, row * m->desc.state.row_stride + at, s->state == FKDA_BF16 ? fkdai_bf16_to_f32(fkdai_f64_to_bf16(x)) : x);
        }
        for (int64_t i = 0; s->conv_weight != FKDA_NONE && i < 3 * C; ++i)
            put(m, FUSED_TAPS, s->x, row * t.batch_stride + i / C * t.token_stride + i % C * t.head_stride, is_nan ? NAN : draw(m, "taps", number * 3 * C + i));
    }
}

fused_image fused_build(const fused_spec *s, uint8_t poison, guard_side side)
{
    fused_image m = {.spec = *s, .desc = desc_of(s)};
    const int64_t HW = s->H * s->W, rows = row_count(s), C = 3 * HW;
    const fkda_tensor_desc t = m.desc.conv_state;
    make(&m, FUSED_X, s->x, s->N * (3 * HW + X_GAP), side, 0xff);
    make(&m, FUSED_G, s->g, s->N * (HW + ROW_GAP), side, 0xff);
    make(&m, FUSED_BETA, s->beta, s->N * (s->H + 1), side, 0xff);
    if (s->norm_weight != FKDA_NONE) make(&m, FUSED_OUTPUT_GATE, s->output_gate, s->N * (HW + 2 * ROW_GAP), side, 0xff);
    make(&m, FUSED_NORM_WEIGHT, s->norm_weight, s->W, side, 0xff);
    for (int i = 0; i < 3; ++i) make(&m, FUSED_WEIGHT + i, s->conv_weight, 4 * (HW + ROW_GAP), side, 0xff), make(&m, FUSED_BIAS + i, s->conv_bias, HW, side, 0xff);
    make(&m, FUSED_A_LOG, s->A_log, s->H, side, 0xff);
    make(&m, FUSED_DT_BIAS, s->dt_bias, HW, side, 0xff);
    make(&m, FUSED_SLOTS, s->slots, s->N, side, 0xff);
    if (s->is_masked) m.buffer[FUSED_MASK] = guarded_alloc((size_t)s->N, 1, side, 0xff);
    make(&m, FUSED_OUT, m.desc.out.dtype, s->N * (HW + ROW_GAP), side, poison);
    make(&m, FUSED_STATE, m.desc.state.dtype, rows * m.desc.state.row_stride, side, poison);
    if (s->conv_weight != FKDA_NONE) make(&m, FUSED_TAPS, s->x, (rows - 1) * t.batch_stride + 2 * t.token_stride + (C - 1) * t.head_stride + 1, side, poison);
    put_inputs(&m);
    put_pools(&m);
    void *places[FUSED_BUFFERS];
    for (int b = 0; b < FUSED_BUFFERS; ++b) {
        places[b] = m.buffer[b].data;
        if (b < FUSED_INPUTS && m.buffer[b].data != NULL) guarded_make_readonly(&m.buffer[b]);
        if (b < FUSED_INPUTS || m.buffer[b].data == NULL) continue;
        m.before[b] = must_alloc(m.buffer[b].bytes, 1);
        memcpy(m.before[b], m.buffer[b].data, m.buffer[b].bytes);
    }
    m.args = fused_args_at(&m, places);
    return m;
}

void fused_free(fused_image *m)
{
    for (int b = 0; b < FUSED_BUFFERS; ++b) {
        guarded_free(&m->buffer[b]);
        free(m->before[b]);
    }
}

fkda_decode_fused_args fused_args_at(const fused_image *m, void *const *at)
{
    const size_t part = bytes(m->spec.x, m->spec.H * m->spec.W);
    const char *const x = at[FUSED_X];
    return (fkda_decode_fused_args){
        .struct_size = sizeof(fkda_decode_fused_args), .q = x, .k = x + part, .v = x + 2 * part, .g = at[FUSED_G], .beta = at[FUSED_BETA], .out = at[FUSED_OUT],
        .A_log = at[FUSED_A_LOG], .dt_bias = at[FUSED_DT_BIAS], .output_gate = at[FUSED_OUTPUT_GATE], .norm_weight = at[FUSED_NORM_WEIGHT],
        .conv_weight_q = at[FUSED_WEIGHT], .conv_weight_k = at[FUSED_WEIGHT + 1], .conv_weight_v = at[FUSED_WEIGHT + 2], .conv_bias_q = at[FUSED_BIAS],
        .conv_bias_k = at[FUSED_BIAS + 1], .conv_bias_v = at[FUSED_BIAS + 2], .conv_state = at[FUSED_TAPS], .state = at[FUSED_STATE], .slots = at[FUSED_SLOTS],
        .initial_mask = at[FUSED_MASK],
    };
}

fkda_status fused_run_backend(const void *backend, fused_image *m)
{
    size_t size = 0;
    m->desc.backend = *(const fkda_backend *)backend;
    fkda_status status = fkda_decode_fused_workspace_size(&m->desc, &size);
    if (status != FKDA_OK) return status;
    guarded workspace = guarded_alloc(size, FKDA_WORKSPACE_ALIGN, GUARD_AT_END, 0xff);
    status = fkda_decode_fused(&m->desc, &m->args, size > 0 ? workspace.data : NULL, size, NULL);
    guarded_free(&workspace);
    return status;
}

/* ---------------------------------------------------------------- what nobody may write */

static void own(uint8_t *is_owned, fkda_dtype dtype, int64_t at, int64_t count) { memset(is_owned + bytes(dtype, at), 1, bytes(dtype, count)); }

static void check_rest(const fused_image *m, int buffer, const uint8_t *is_owned, const char *name)
{
    const guarded *const g = &m->buffer[buffer];
    for (size_t i = 0; i < g->bytes; ++i)
        if (!is_owned[i] && g->data[i] != m->before[buffer][i]) fail_msg("case %d: byte %zu of %s was written", (int)m->spec.number, i, name);
    if (!guarded_slack_is_intact(g)) fail_msg("case %d: something beside %s was written", (int)m->spec.number, name);
}

void fused_check_untouched(const fused_image *m)
{
    static const char *const names[] = {"out", "conv_state", "state"};
    const fused_spec *const s = &m->spec;
    const int64_t HW = s->H * s->W, C = 3 * HW;
    const fkda_tensor_desc t = m->desc.conv_state;
    for (int b = FUSED_OUT; b < FUSED_BUFFERS; ++b) {
        if (m->buffer[b].data == NULL) continue;
        uint8_t *const is_owned = must_alloc(m->buffer[b].bytes, 1);
        for (int64_t n = 0; n < s->N; ++n) {
            const int64_t row = fused_row(s, n);
            if (b == FUSED_OUT) own(is_owned, m->desc.out.dtype, n * (HW + ROW_GAP), HW);
            if (b == FUSED_STATE && row >= 0) own(is_owned, m->desc.state.dtype, row * m->desc.state.row_stride, HW * s->W);
            for (int64_t i = 0; b == FUSED_TAPS && row >= 0 && i < 3 * C; ++i)
                own(is_owned, s->x, row * t.batch_stride + i / C * t.token_stride + i % C * t.head_stride, 1);
        }
        check_rest(m, b, is_owned, names[b - FUSED_OUT]);
        free(is_owned);
    }
}

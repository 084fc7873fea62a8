/*
 * States that a decode call keeps, against calls of the plainest form. One file, though long: every check lays out a problem and a guarded call of it
 * with the same private structs.
 */
#include "harness.h"

#include "commit_checks.h"

#include <math.h>

#include "bars.h"
#include "counter_rng.h"
#include "dtype.h"
#include "error_metrics.h"

enum { MOST_N = 8, MOST_S = FKDA_DECODE_MAX_TOKENS, SPARE_COLUMNS = 2, ROW_GAP_BYTES = 64, H = 1, HV = 2 };

typedef struct form {
    const char *name;
    int64_t N, S, lens[MOST_N];    /* lens of 0 throughout: dense */
    int64_t width;
    fkda_dtype state, step, input, index;
    fkda_state_layout layout;
    fkda_gate gate;
    int is_masked, has_nulls;
} form;

static const form forms[] = {
    {"packed", 6, 8, {3, 0, 8, 1, 5, 2}, 128, FKDA_F32, FKDA_F32, FKDA_BF16, FKDA_I32, FKDA_STATE_NHVK, FKDA_GATE_BOUNDED, 1, 1},
    {"dense", 2, 4, {0}, 128, FKDA_F32, FKDA_F32, FKDA_F32, FKDA_I64, FKDA_STATE_NHKV, FKDA_GATE_SOFTPLUS, 0, 0},
    {"bf16", 3, 6, {6, 2, 4}, 128, FKDA_BF16, FKDA_BF16, FKDA_BF16, FKDA_I64, FKDA_STATE_NHVK, FKDA_GATE_BOUNDED, 1, 0},
    {"bf16 [K,V]", 3, 3, {0}, 128, FKDA_BF16, FKDA_BF16, FKDA_F32, FKDA_I32, FKDA_STATE_NHKV, FKDA_GATE_PRECOMPUTED, 0, 1},
    {"one token", 4, 1, {1, 0, 1, 1}, 128, FKDA_F32, FKDA_F32, FKDA_BF16, FKDA_I32, FKDA_STATE_NHVK, FKDA_GATE_BOUNDED, 0, 0},
    {"narrow", 3, 5, {5, 1, 4}, 64, FKDA_F32, FKDA_F32, FKDA_BF16, FKDA_I32, FKDA_STATE_NHVK, FKDA_GATE_BOUNDED, 0, 1},
    {"narrow [K,V]", 2, 3, {0}, 64, FKDA_F32, FKDA_F32, FKDA_F32, FKDA_I32, FKDA_STATE_NHKV, FKDA_GATE_BOUNDED, 1, 0},
};
enum { FORMS = sizeof forms / sizeof *forms };

/* One draw of inputs, and what its sequences must give. */
typedef struct problem {
    const form *f;
    const commit_way *way;
    uint64_t stream;
    fkda_decode_desc desc;                   /* commit LAST, dense states */
    int64_t bounds[MOST_N + 1], rows;
    commit_buffer input[COMMIT_ARGUMENTS];    /* q ... beta, A_log, dt_bias, cu_seqlens, the mask */
    uint8_t mask[MOST_N];
    size_t state_bytes, out_bytes;           /* of a sequence's state; of a token's out */
    uint8_t *initial, *after;                /* [N], [N,S]: the states before, and after t + 1 tokens */
    uint8_t *out;                            /* [rows] */
} problem;

/* -------------------------------------------------------------- drawing */

static size_t bytes_of(fkda_dtype dtype) { return (size_t)fkdai_dtype_bytes(dtype); }

static void draw(problem *p, commit_argument argument, int64_t count, fkda_dtype dtype, double mean, double spread)
{
    commit_buffer *const b = &p->input[argument];
    const uint64_t stream = rng_stream(p->f->name, p->stream * COMMIT_ARGUMENTS + argument);
    *b = (commit_buffer){must_alloc((size_t)count, bytes_of(dtype)), (size_t)count * bytes_of(dtype)};
    for (int64_t i = 0; i < count; ++i) fkdai_store(b->data, dtype, i, mean + spread * rng_normal(stream, (uint64_t)i));
}

static int64_t length_of(const problem *p, int64_t n) { return p->bounds[n + 1] - p->bounds[n]; }
static int is_packed(const form *f) { return f->lens[0] + f->lens[1] > 0; }
static int is_null(const form *f, int64_t n) { return f->has_nulls && n % 3 == 2; }
static int is_masked(const problem *p, int64_t n) { return p->f->is_masked && p->mask[n] == 0; }

static void store_index(void *at, fkda_dtype dtype, int64_t i, int64_t value)
{
    if (dtype == FKDA_I32) ((int32_t *)at)[i] = (int32_t)value;
    else ((int64_t *)at)[i] = value;
}

static void describe(problem *p)
{
    const form *const f = p->f;
    const fkda_tensor_desc x = {.dtype = f->input};
    const int is_raw = f->gate != FKDA_GATE_PRECOMPUTED;
    p->desc = (fkda_decode_desc){
        .struct_size = sizeof p->desc, .N = f->N, .S = f->S, .T = is_packed(f) ? p->rows : 0, .H = H, .HV = HV, .K = f->width, .V = f->width,
        .q = x, .k = x, .v = x, .g = x, .beta = x, .out = x, .cu_seqlens = is_packed(f) ? f->index : FKDA_NONE, .gate = f->gate, .lower_bound = -5,
        .A_log = is_raw ? FKDA_F32 : FKDA_NONE, .dt_bias = is_raw ? FKDA_F32 : FKDA_NONE, .scale = 0.1f, .state = {.dtype = f->state, .layout = f->layout},
    };
}

static void draw_inputs(problem *p)
{
    const form *const f = p->f;
    const double g_mean = f->gate == FKDA_GATE_PRECOMPUTED ? -0.3 : 0, g_spread = f->gate == FKDA_GATE_PRECOMPUTED ? 0.2 : 2;
    draw(p, COMMIT_Q, p->rows * H * f->width, f->input, 0, 1);
    draw(p, COMMIT_K, p->rows * H * f->width, f->input, 0, 1);
    draw(p, COMMIT_V, p->rows * HV * f->width, f->input, 0, 1);
    draw(p, COMMIT_G, p->rows * HV * f->width, f->input, g_mean, g_spread);
    draw(p, COMMIT_BETA, p->rows * HV, f->input, 0, 1);
    if (f->gate != FKDA_GATE_PRECOMPUTED) {
        draw(p, COMMIT_A_LOG, HV, FKDA_F32, 0, 0.3);
        draw(p, COMMIT_DT_BIAS, HV * f->width, FKDA_F32, -1, 0.5);
    }
    if (!is_packed(f)) return;
    p->input[COMMIT_CU_SEQLENS] = (commit_buffer){must_alloc((size_t)f->N + 1, bytes_of(f->index)), ((size_t)f->N + 1) * bytes_of(f->index)};
    for (int64_t n = 0; n <= f->N; ++n) store_index(p->input[COMMIT_CU_SEQLENS].data, f->index, n, p->bounds[n]);
}

/* -------------------------------------------------------------- calls of the plainest form */

static fkda_status run(const problem *p, const fkda_decode_desc *d, const commit_buffer *buffers, uint32_t *status)
{
    *status = 0;
    return p->way->run(p->way->context, d, buffers, status);
}

static void must_run(const problem *p, const char *what, const fkda_decode_desc *d, const commit_buffer *buffers, uint32_t wanted)
{
    uint32_t status;
    if (run(p, d, buffers, &status) != FKDA_OK) fail_msg("%s, %s on %s: %s", p->f->name, what, p->way->name, fkda_last_error());
    if (status != wanted) fail_msg("%s, %s on %s: status %u, not %u", p->f->name, what, p->way->name, (unsigned)status, (unsigned)wanted);
}

/* Tokens [t, t + count) of sequence n alone in a call of at most S tokens, from one state to the other; out, if it is wanted. */
static void call_some(const problem *p, fkda_commit commit, int64_t S, int64_t n, int64_t t, int64_t count, const uint8_t *from, uint8_t *to, uint8_t *out)
{
    commit_buffer b[COMMIT_ARGUMENTS];
    fkda_decode_desc d = p->desc;
    memcpy(b, p->input, sizeof b);
    b[COMMIT_CU_SEQLENS] = b[COMMIT_MASK] = (commit_buffer){NULL, 0};
    int32_t bounds[2] = {0, (int32_t)count}, accepted = (int32_t)count;
    if (count < S) b[COMMIT_CU_SEQLENS] = (commit_buffer){bounds, sizeof bounds};
    if (commit == FKDA_COMMIT_ACCEPTED) b[COMMIT_NUM_ACCEPTED] = (commit_buffer){&accepted, sizeof accepted}, d.num_accepted = FKDA_I32;
    d.N = 1, d.S = S, d.T = count < S ? count : 0, d.cu_seqlens = count < S ? FKDA_I32 : FKDA_NONE, d.commit = commit;
    for (int i = COMMIT_Q; i <= COMMIT_BETA; ++i) {
        const size_t row = p->input[i].bytes / (size_t)p->rows;
        b[i] = (commit_buffer){(uint8_t *)p->input[i].data + (size_t)(p->bounds[n] + t) * row, (size_t)count * row};
    }
    uint8_t *const rows = must_alloc((size_t)count, p->out_bytes), *const state = must_alloc(p->state_bytes, 1);
    memcpy(state, from, p->state_bytes);
    b[COMMIT_OUT] = (commit_buffer){rows, (size_t)count * p->out_bytes};
    b[COMMIT_STATE] = (commit_buffer){state, p->state_bytes};
    must_run(p, p->f->name, &d, b, 0);
    memcpy(to, state, p->state_bytes);
    if (out != NULL) memcpy(out, rows, (size_t)count * p->out_bytes);
    free(rows);
    free(state);
}

/* Does such a call of at most S tokens take them together? */
static int is_together(const problem *p, fkda_commit commit, int64_t S)
{
    const int64_t from = commit == FKDA_COMMIT_NONE ? p->way->none_together_from : commit == FKDA_COMMIT_LAST ? p->way->last_together_from : 0;
    return from > 0 && S >= from;
}

/* Token by token. */
static void call_one(const problem *p, int64_t n, int64_t t, int64_t count, const uint8_t *from, uint8_t *to, uint8_t *out)
{
    call_some(p, is_together(p, FKDA_COMMIT_LAST, count) ? FKDA_COMMIT_ACCEPTED : FKDA_COMMIT_LAST, count, n, t, count, from, to, out);
}

static uint8_t *state_after(const problem *p, int64_t n, int64_t t) { return p->after + (size_t)(n * p->f->S + t) * p->state_bytes; }
static uint8_t *initial_of(const problem *p, int64_t n) { return p->initial + (size_t)n * p->state_bytes; }

/* Every sequence, cut behind each of its tokens. */
static void make_truth(problem *p)
{
    uint8_t *const zero = must_alloc(p->state_bytes, 1);
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t t = 0; t < length_of(p, n); ++t) {
            const uint8_t *const from = is_null(p->f, n) || is_masked(p, n) ? zero : initial_of(p, n);
            call_one(p, n, 0, t + 1, from, state_after(p, n, t), p->out + (size_t)p->bounds[n] * p->out_bytes);
        }
    free(zero);
}

static problem make_problem(const commit_way *way, const form *f, uint64_t number)
{
    problem p = {.f = f, .way = way, .stream = number};
    const int64_t elements = HV * f->width * f->width;
    for (int64_t n = 0; n < f->N; ++n) {
        p.bounds[n + 1] = p.bounds[n] + (is_packed(f) ? f->lens[n] : f->S);
        p.mask[n] = n % 3 != 0;
    }
    p.rows = p.bounds[f->N];
    p.state_bytes = (size_t)elements * bytes_of(f->state), p.out_bytes = (size_t)(HV * f->width) * bytes_of(f->input);
    describe(&p);
    draw_inputs(&p);
    p.initial = must_alloc((size_t)f->N, p.state_bytes), p.after = must_alloc((size_t)(f->N * f->S), p.state_bytes);
    p.out = must_alloc((size_t)p.rows, p.out_bytes);
    const uint64_t stream = rng_stream("commit states", number);
    for (int64_t i = 0; i < f->N * elements; ++i) fkdai_store(p.initial, f->state, i, 0.5 * rng_normal(stream, (uint64_t)i));
    return p;
}

static void free_problem(problem *p)
{
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) free(p->input[i].data);
    free(p->initial);
    free(p->after);
    free(p->out);
}

/* -------------------------------------------------------------- a call that is looked at */

/* Written buffers lie between guards, poisoned; `wanted` is what they must be afterwards, byte by byte. */
typedef struct trial {
    const problem *p;
    fkda_decode_desc desc;
    commit_buffer buffer[COMMIT_ARGUMENTS];
    guarded guard[COMMIT_ARGUMENTS];
    uint8_t *wanted[COMMIT_ARGUMENTS];
    int64_t columns;                            /* of slots */
    int64_t accepted[MOST_N], parent[MOST_N][MOST_S];
    void *slots, *num_accepted, *parents;       /* as arrays of the form's index dtype */
    size_t pitch, step_pitch;                   /* bytes between rows of states, of step states */
} trial;

static size_t round_to_row(const problem *p, fkda_dtype dtype) { return p->state_bytes / bytes_of(p->f->state) * bytes_of(dtype) + ROW_GAP_BYTES; }

static void guard(trial *t, commit_argument argument, size_t bytes, uint8_t poison)
{
    t->guard[argument] = guarded_alloc(bytes, 256, poison & 1 ? GUARD_AT_END : GUARD_AT_START, poison);
    t->buffer[argument] = (commit_buffer){t->guard[argument].data, bytes};
    t->wanted[argument] = must_alloc(bytes, 1);
    memset(t->wanted[argument], poison, bytes);
}

/* The slot of entry j of sequence n. */
static int64_t slot_of(const trial *t, int64_t n, int64_t j)
{
    if (is_null(t->p->f, n)) return -1 - j;
    return (t->p->f->N - 1 - n) * (MOST_S + SPARE_COLUMNS) + (j * 3 + n) % (MOST_S + SPARE_COLUMNS);
}

static uint8_t *row_at(const trial *t, uint8_t *states, int64_t n, int64_t j) { return states + (size_t)slot_of(t, n, j) * t->pitch; }
static int64_t first_column(const trial *t, int64_t n) { return t->desc.commit == FKDA_COMMIT_EACH ? t->accepted[n] - 1 : 0; }

static void *make_indices(const trial *t, commit_argument argument, int64_t count, commit_buffer *to)
{
    (void)argument;
    *to = (commit_buffer){must_alloc((size_t)count, bytes_of(t->p->f->index)), (size_t)count * bytes_of(t->p->f->index)};
    memset(to->data, 0x7f, to->bytes);    /* what nobody may look at */
    return to->data;
}

static void place_states(trial *t, uint8_t poison)
{
    const form *const f = t->p->f;
    const int64_t slots = f->N * (MOST_S + SPARE_COLUMNS);
    t->pitch = round_to_row(t->p, f->state);
    t->desc.state.slot_count = slots, t->desc.state.slot_dtype = f->index, t->desc.state.row_stride = (int64_t)(t->pitch / bytes_of(f->state));
    guard(t, COMMIT_STATE, (size_t)slots * t->pitch - ROW_GAP_BYTES, poison);
    for (int64_t n = 0; n < f->N; ++n)
        if (!is_null(f, n) && !is_masked(t->p, n)) memcpy(row_at(t, t->guard[COMMIT_STATE].data, n, first_column(t, n)), initial_of(t->p, n), t->p->state_bytes);
    memcpy(t->wanted[COMMIT_STATE], t->buffer[COMMIT_STATE].data, t->buffer[COMMIT_STATE].bytes);
}

static void place_indices(trial *t)
{
    const form *const f = t->p->f;
    const int is_each = t->desc.commit == FKDA_COMMIT_EACH;
    const int64_t stride = is_each ? t->columns + 1 : 1;
    t->slots = make_indices(t, COMMIT_SLOTS, f->N * stride, &t->buffer[COMMIT_SLOTS]);
    for (int64_t n = 0; n < f->N; ++n)
        for (int64_t j = 0; j < (is_each ? t->columns : 1); ++j)
            if (!is_each || j < length_of(t->p, n) || (j == first_column(t, n) && length_of(t->p, n) > 0))    /* the others are not looked at */
                store_index(t->slots, f->index, n * stride + j, slot_of(t, n, j));
    if (is_each) t->desc.slots_per_sequence = t->columns, t->desc.slots_stride = stride;
    if (!is_each && t->desc.commit != FKDA_COMMIT_ACCEPTED) return;
    t->num_accepted = make_indices(t, COMMIT_NUM_ACCEPTED, f->N, &t->buffer[COMMIT_NUM_ACCEPTED]);
    t->desc.num_accepted = f->index;
    for (int64_t n = 0; n < f->N; ++n)
        if (length_of(t->p, n) > 0 && !(is_each && is_masked(t->p, n))) store_index(t->num_accepted, f->index, n, t->accepted[n]);
}

/* A call of the problem with this commit, whose accepted[] are given. */
static trial make_trial(const problem *p, fkda_commit commit, const int64_t *accepted, uint8_t poison)
{
    trial t = {.p = p, .desc = p->desc, .columns = p->f->S + SPARE_COLUMNS};
    memcpy(t.buffer, p->input, sizeof t.buffer);
    t.desc.commit = commit;
    if (accepted != NULL) memcpy(t.accepted, accepted, sizeof t.accepted);
    if (p->f->is_masked) {
        t.desc.flags |= FKDA_FLAG_INITIAL_MASK;
        t.buffer[COMMIT_MASK] = (commit_buffer){(void *)(uintptr_t)p->mask, (size_t)p->f->N};
    }
    guard(&t, COMMIT_OUT, (size_t)p->rows * p->out_bytes, poison);
    memcpy(t.wanted[COMMIT_OUT], p->out, (size_t)p->rows * p->out_bytes);
    place_states(&t, poison);
    place_indices(&t);
    return t;
}

/* The state after so many tokens is to be in the slot of entry j. */
static void want_state(trial *t, int64_t n, int64_t tokens, int64_t j)
{
    if (tokens > 0 && !is_null(t->p->f, n)) memcpy(row_at(t, t->wanted[COMMIT_STATE], n, j), state_after(t->p, n, tokens - 1), t->p->state_bytes);
}

static void want_nothing_of_out(trial *t)
{
    guarded_free(&t->guard[COMMIT_OUT]);
    free(t->wanted[COMMIT_OUT]);
    t->wanted[COMMIT_OUT] = NULL;
    t->buffer[COMMIT_OUT] = t->buffer[COMMIT_Q] = (commit_buffer){NULL, 0};
    t->desc.flags |= FKDA_FLAG_NO_OUT;
}

static void check_trial(trial *t, const char *what, uint32_t status)
{
    static const char *const names[COMMIT_ARGUMENTS] = {[COMMIT_OUT] = "out", [COMMIT_STATE] = "state", [COMMIT_STEP_STATES] = "step_states"};
    must_run(t->p, what, &t->desc, t->buffer, status);
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) {
        if (t->wanted[i] == NULL) continue;
        size_t at = 0;
        while (at < t->buffer[i].bytes && t->guard[i].data[at] == t->wanted[i][at]) ++at;
        if (at < t->buffer[i].bytes)
            fail_msg("%s, %s on %s: byte %zu of %s differs (rows of %zu bytes)", t->p->f->name, what, t->p->way->name, at, names[i],
                     i == COMMIT_OUT ? t->p->out_bytes : i == COMMIT_STATE ? t->pitch : t->step_pitch);
        if (!guarded_slack_is_intact(&t->guard[i])) fail_msg("%s, %s on %s: beside %s", t->p->f->name, what, t->p->way->name, names[i]);
    }
}

static void free_trial(trial *t)
{
    for (int i = 0; i < COMMIT_ARGUMENTS; ++i) {
        guarded_free(&t->guard[i]);
        free(t->wanted[i]);
    }
    free(t->slots);
    free(t->num_accepted);
    free(t->parents);
}

static int64_t random_below(const problem *p, const char *name, int64_t i, int64_t below)
{
    return rng_below(rng_stream(name, p->stream), (uint64_t)i, below);
}

/* -------------------------------------------------------------- what is kept of a chain */

/* Is it that state, but for what other sums in fp32 may change? (bf16: two roundings hide it; cases are held against float64.) */
static void check_near(const problem *p, const uint8_t *state, const uint8_t *wanted)
{
    if (p->f->state != FKDA_F32) return;
    const double error = metric_m1((const float *)state, (const float *)wanted, (int64_t)(p->state_bytes / sizeof(float)));
    if (!(error <= BAR(f32, any).state)) fail_msg("%s on %s: a state is %.1e from that of single calls", p->f->name, p->way->name, error);
}

/* Outputs of tokens that are taken together, and the states behind the last of them: those of every sequence alone, and states near to those of single
 * tokens. */
static void want_together(trial *t)
{
    const problem *const p = t->p;
    uint8_t *const zero = must_alloc(p->state_bytes, 1), *const after = must_alloc(p->state_bytes, 1);
    for (int64_t n = 0; n < p->f->N; ++n) {
        const int64_t count = length_of(p, n);
        const uint8_t *const from = is_null(p->f, n) || is_masked(p, n) ? zero : initial_of(p, n);
        if (count == 0) continue;
        call_some(p, t->desc.commit, p->f->S, n, 0, count, from, after, t->wanted[COMMIT_OUT] + (size_t)p->bounds[n] * p->out_bytes);
        if (t->desc.commit != FKDA_COMMIT_LAST || is_null(p->f, n)) continue;
        check_near(p, after, state_after(p, n, count - 1));
        memcpy(row_at(t, t->wanted[COMMIT_STATE], n, 0), after, p->state_bytes);
    }
    free(zero);
    free(after);
}

static void check_none(const problem *p)
{
    trial t = make_trial(p, FKDA_COMMIT_NONE, NULL, 0xa5);
    if (is_together(p, FKDA_COMMIT_NONE, p->f->S)) want_together(&t);
    check_trial(&t, "commit NONE", 0);
    free_trial(&t);
}

static void check_last(const problem *p, int has_out)
{
    trial t = make_trial(p, FKDA_COMMIT_LAST, NULL, has_out ? 0xa5 : 0xfe);
    for (int64_t n = 0; n < p->f->N; ++n) want_state(&t, n, length_of(p, n), 0);
    if (is_together(p, FKDA_COMMIT_LAST, p->f->S)) want_together(&t);
    if (!has_out) want_nothing_of_out(&t);
    check_trial(&t, "commit LAST", 0);
    free_trial(&t);
}

static void check_accepted(const problem *p, const int64_t *accepted, int is_fold)
{
    trial t = make_trial(p, FKDA_COMMIT_ACCEPTED, accepted, is_fold ? 0xff : 0xa4);
    for (int64_t n = 0; n < p->f->N; ++n) want_state(&t, n, accepted[n], 0);
    if (is_fold) want_nothing_of_out(&t);
    check_trial(&t, is_fold ? "folding" : "commit ACCEPTED", 0);
    free_trial(&t);
}

static void check_each(const problem *p, uint8_t poison)
{
    int64_t first[MOST_N] = {0};
    for (int64_t n = 0; n < p->f->N; ++n) first[n] = 1 + random_below(p, "first", n, p->f->S + SPARE_COLUMNS);
    trial t = make_trial(p, FKDA_COMMIT_EACH, first, poison);
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i) want_state(&t, n, i + 1, i);
    check_trial(&t, "commit EACH", 0);
    free_trial(&t);
}

static void check_each_from_first(const problem *p)
{
    int64_t first[MOST_N];
    for (int64_t n = 0; n < MOST_N; ++n) first[n] = 1;
    trial t = make_trial(p, FKDA_COMMIT_EACH, first, 0xa5);
    t.desc.num_accepted = FKDA_NONE, t.buffer[COMMIT_NUM_ACCEPTED] = (commit_buffer){NULL, 0};
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i) want_state(&t, n, i + 1, i);
    check_trial(&t, "commit EACH without num_accepted", 0);
    free_trial(&t);
}

/* Calls check for every form that the way can run, with fresh inputs. */
static void for_each_form(const commit_way *way, void (*check)(problem *p))
{
    for (int i = 0; i < FORMS; ++i) {
        if (way->widest_only && forms[i].width != 128) continue;
        problem p = make_problem(way, &forms[i], (uint64_t)i);
        make_truth(&p);
        check(&p);
        free_problem(&p);
    }
}

static void check_commits_of(problem *p)
{
    int64_t all[MOST_N] = {0}, none[MOST_N] = {0}, some[MOST_N] = {0};
    for (int64_t n = 0; n < p->f->N; ++n) all[n] = length_of(p, n), some[n] = random_below(p, "accepted", n, length_of(p, n) + 1);
    check_none(p);
    check_last(p, 1);
    check_last(p, 0);
    check_accepted(p, all, 0);
    check_accepted(p, none, 0);
    check_accepted(p, some, 0);
    check_accepted(p, all, 1);
    check_accepted(p, none, 1);
    check_accepted(p, some, 1);
    check_each(p, 0xa5);
    check_each(p, 0xfe);
    check_each_from_first(p);
}

void check_commits(const commit_way *way) { for_each_form(way, check_commits_of); }

/* -------------------------------------------------------------- step states */

static void place_steps(trial *t, fkda_dtype dtype, uint8_t poison)
{
    const int64_t rows = t->p->f->S + 1;    /* of a sequence */
    t->step_pitch = round_to_row(t->p, dtype);
    t->desc.step_states = (fkda_state_desc){.dtype = dtype, .layout = t->p->f->layout, .row_stride = (int64_t)(t->step_pitch / bytes_of(dtype))};
    t->desc.step_states_per_sequence = rows;
    guard(t, COMMIT_STEP_STATES, (size_t)(t->p->f->N * rows) * t->step_pitch - ROW_GAP_BYTES, poison);
}

/* A state of the form's dtype, as this one. */
static void convert(const problem *p, const uint8_t *state, fkda_dtype dtype, uint8_t *to)
{
    const int64_t count = (int64_t)(p->state_bytes / bytes_of(p->f->state));
    if (dtype == p->f->state) memcpy(to, state, p->state_bytes);
    else for (int64_t i = 0; i < count; ++i) fkdai_store(to, dtype, i, fkdai_load(state, p->f->state, i));
}

static void want_step(trial *t, int64_t n, int64_t i, const uint8_t *state)
{
    convert(t->p, state, t->desc.step_states.dtype, t->wanted[COMMIT_STEP_STATES] + (size_t)(n * (t->p->f->S + 1) + i) * t->step_pitch);
}

static void check_steps_beside(problem *p, fkda_commit commit, fkda_dtype dtype, int has_out)
{
    int64_t accepted[MOST_N] = {0};
    for (int64_t n = 0; n < p->f->N; ++n) accepted[n] = random_below(p, "beside steps", n, length_of(p, n) + 1);
    trial t = make_trial(p, commit, accepted, 0xa5);
    place_steps(&t, dtype, 0xff);
    for (int64_t n = 0; n < p->f->N; ++n) {
        for (int64_t i = 0; i < length_of(p, n); ++i) want_step(&t, n, i, state_after(p, n, i));
        if (commit == FKDA_COMMIT_LAST) want_state(&t, n, length_of(p, n), 0);
        if (commit == FKDA_COMMIT_ACCEPTED) want_state(&t, n, accepted[n], 0);
    }
    if (!has_out) want_nothing_of_out(&t);
    check_trial(&t, "step states", 0);
    free_trial(&t);
}

/* -------------------------------------------------------------- padding */

/* Sequences that begin with a null slot, with v of NaN: zeros, and nothing else; their other slots are not looked at. The others are what they are
 * without the flag. */
static void check_padding(problem *p, fkda_commit commit, int has_steps)
{
    const form *const f = p->f;
    int64_t kept[MOST_N] = {0};
    for (int64_t n = 0; n < f->N; ++n) kept[n] = commit == FKDA_COMMIT_EACH ? 1 + random_below(p, "padding", n, f->S) : length_of(p, n);
    trial t = make_trial(p, commit, kept, 0xa5);
    t.desc.flags |= FKDA_FLAG_NULL_IS_PADDING;
    for (int64_t n = 0; n < f->N; ++n)
        for (int64_t j = 0; commit == FKDA_COMMIT_EACH && is_null(f, n) && j < t.columns; ++j)
            if (j != (is_masked(p, n) ? 0 : first_column(&t, n))) store_index(t.slots, f->index, n * t.desc.slots_stride + j, t.desc.state.slot_count + j);
    if (has_steps) place_steps(&t, f->step, 0xff);
    const int together = !has_steps && is_together(p, commit, f->S);
    if (together) want_together(&t);
    for (int64_t n = 0; n < f->N; ++n) {
        uint8_t *const out = t.wanted[COMMIT_OUT] + (size_t)p->bounds[n] * p->out_bytes;
        if (is_null(f, n)) memset(out, 0, (size_t)length_of(p, n) * p->out_bytes);
        for (int64_t i = 0; !is_null(f, n) && i < length_of(p, n); ++i) {
            if (commit == FKDA_COMMIT_EACH || (commit == FKDA_COMMIT_LAST && i == length_of(p, n) - 1 && !together))
                want_state(&t, n, i + 1, commit == FKDA_COMMIT_EACH ? i : 0);
            if (has_steps) want_step(&t, n, i, state_after(p, n, i));
        }
    }
    check_trial(&t, "padding", 0);
    free_trial(&t);
}

/* At the end of a problem: its inputs are not what they were. */
static void check_paddings(problem *p)
{
    const form *const f = p->f;
    for (int64_t n = 0; n < f->N; ++n)
        for (int64_t i = p->bounds[n] * HV * f->width; is_null(f, n) && i < p->bounds[n + 1] * HV * f->width; ++i)
            fkdai_store(p->input[COMMIT_V].data, f->input, i, (double)NAN);
    check_padding(p, FKDA_COMMIT_LAST, 0);
    check_padding(p, FKDA_COMMIT_NONE, 0);
    check_padding(p, FKDA_COMMIT_NONE, 1);
    check_padding(p, FKDA_COMMIT_EACH, 0);
}

static void check_step_states_of(problem *p)
{
    check_steps_beside(p, FKDA_COMMIT_NONE, p->f->step, 1);
    check_steps_beside(p, FKDA_COMMIT_LAST, p->f->step, 1);
    check_steps_beside(p, FKDA_COMMIT_ACCEPTED, p->f->step, 1);
    check_steps_beside(p, FKDA_COMMIT_NONE, p->f->step, 0);
    check_steps_beside(p, FKDA_COMMIT_ACCEPTED, p->f->step, 0);
    check_paddings(p);
}

/* Narrower than the state is inside: one rounding, and the state itself is not rounded. */
static void check_narrow_steps_of(problem *p)
{
    if (p->f->state == FKDA_F32 && strcmp(p->way->name, "ref") != 0) check_steps_beside(p, FKDA_COMMIT_LAST, FKDA_BF16, 1);
}

void check_step_states(const commit_way *way)
{
    for_each_form(way, check_step_states_of);
    for_each_form(way, check_narrow_steps_of);
}

/* -------------------------------------------------------------- trees */

/* Node i goes on from its parent's state in a call of its own. */
static void want_tree(trial *t, uint8_t *states)
{
    const problem *const p = t->p;
    uint8_t *const zero = must_alloc(p->state_bytes, 1);
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i) {
            const int64_t parent = t->parent[n][i];
            const uint8_t *const root = is_null(p->f, n) || is_masked(p, n) ? zero : initial_of(p, n);
            uint8_t *const to = states + (size_t)(n * p->f->S + i) * p->state_bytes;
            call_one(p, n, i, 1, parent < 0 ? root : states + (size_t)(n * p->f->S + parent) * p->state_bytes, to,
                     t->wanted[COMMIT_OUT] + (size_t)(p->bounds[n] + i) * p->out_bytes);
            want_step(t, n, i, to);
        }
    free(zero);
}

typedef enum tree_kind { TREE_RANDOM, TREE_CHAIN, TREE_STAR, TREE_KINDS } tree_kind;

static trial make_tree(const problem *p, tree_kind kind, uint8_t poison)
{
    trial t = make_trial(p, FKDA_COMMIT_NONE, NULL, poison);
    const int64_t stride = p->f->S + 3;
    place_steps(&t, p->f->step, poison);
    t.parents = make_indices(&t, COMMIT_PARENT, p->f->N * stride, &t.buffer[COMMIT_PARENT]);
    t.desc.parent = p->f->index, t.desc.parent_stride = stride;
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i) {
            const int64_t parents[TREE_KINDS] = {random_below(p, "parent", n * MOST_S + i, i + 1) - 1, i - 1, i == 0 ? -1 : 0};
            t.parent[n][i] = parents[kind];
            store_index(t.parents, p->f->index, n * stride + i, parents[kind]);
        }
    return t;
}

static void check_trees_of(problem *p)
{
    uint8_t *const states = must_alloc((size_t)(p->f->N * p->f->S), p->state_bytes);
    for (int kind = 0; kind < TREE_KINDS; ++kind) {
        trial t = make_tree(p, (tree_kind)kind, kind == TREE_RANDOM ? 0xff : 0xa5);
        want_tree(&t, states);
        check_trial(&t, "a tree", 0);
        free_trial(&t);
    }
    free(states);
}

void check_trees(const commit_way *way) { for_each_form(way, check_trees_of); }

/* -------------------------------------------------------------- NaN */

static int is_nan_at(const void *data, fkda_dtype dtype, int64_t i) { return isnan(fkdai_load(data, dtype, i)); }

/* v of one token is NaN. Tokens before it, the states that they lead to, and branches that it is not on are what they were. */
static void check_nan_of(problem *p)
{
    enum { BAD = 1 };    /* the second token of each sequence that has one */
    const form *const f = p->f;
    int64_t accepted[MOST_N] = {0};
    for (int64_t n = 0; n < f->N; ++n) {
        accepted[n] = length_of(p, n) > 0;    /* the tokens before it */
        for (int64_t c = 0; length_of(p, n) > BAD && c < HV * f->width; ++c)
            fkdai_store(p->input[COMMIT_V].data, f->input, (p->bounds[n] + BAD) * HV * f->width + c, (double)NAN);
    }
    trial t = make_trial(p, FKDA_COMMIT_ACCEPTED, accepted, 0xa5), star = make_tree(p, TREE_STAR, 0xa5);
    for (int64_t n = 0; n < f->N; ++n) want_state(&t, n, accepted[n], 0);
    must_run(p, "NaN", &t.desc, t.buffer, 0);
    must_run(p, "NaN in a tree", &star.desc, star.buffer, 0);
    if (memcmp(t.buffer[COMMIT_STATE].data, t.wanted[COMMIT_STATE], t.buffer[COMMIT_STATE].bytes) != 0)
        fail_msg("%s on %s: NaN behind the accepted tokens is in a state", f->name, p->way->name);
    for (int64_t n = 0; n < f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i)
            for (int64_t c = 0; c < HV * f->width; ++c) {
                const int64_t at = (p->bounds[n] + i) * HV * f->width + c;
                if (is_nan_at(t.buffer[COMMIT_OUT].data, f->input, at) != (i >= BAD)) fail_msg("%s on %s: token %d", f->name, p->way->name, (int)i);
                if (is_nan_at(star.buffer[COMMIT_OUT].data, f->input, at) != (i == BAD)) fail_msg("%s on %s: node %d", f->name, p->way->name, (int)i);
            }
    free_trial(&t);
    free_trial(&star);
}

void check_commit_nan(const commit_way *way) { for_each_form(way, check_nan_of); }

/* -------------------------------------------------------------- broken arrays, on a device */

/* num_accepted outside its range: the nearest inside. */
static void check_broken_accepted(problem *p, int64_t given, int is_fold)
{
    int64_t accepted[MOST_N] = {0};
    for (int64_t n = 0; n < p->f->N; ++n) accepted[n] = length_of(p, n) == 0 ? 0 : given < 0 ? 0 : length_of(p, n);
    trial t = make_trial(p, FKDA_COMMIT_ACCEPTED, accepted, 0xa5);
    for (int64_t n = 0; n < p->f->N; ++n) {
        want_state(&t, n, accepted[n], 0);
        if (length_of(p, n) > 0) store_index(t.num_accepted, p->f->index, n, given);
    }
    if (is_fold) want_nothing_of_out(&t);
    check_trial(&t, "a broken num_accepted", FKDA_DEVICE_ACCEPTED_BROKEN);
    free_trial(&t);
}

static void check_broken_first(problem *p, int64_t given)
{
    int64_t first[MOST_N] = {0};
    if (p->f->is_masked) return;
    for (int64_t n = 0; n < p->f->N; ++n) first[n] = given < 1 ? 1 : p->f->S + SPARE_COLUMNS;
    trial t = make_trial(p, FKDA_COMMIT_EACH, first, 0xa5);
    for (int64_t n = 0; n < p->f->N; ++n) {
        if (length_of(p, n) > 0) store_index(t.num_accepted, p->f->index, n, given);
        for (int64_t i = 0; i < length_of(p, n); ++i) want_state(&t, n, i + 1, i);
    }
    check_trial(&t, "a broken num_accepted of EACH", FKDA_DEVICE_ACCEPTED_BROKEN);
    free_trial(&t);
}

/* A slot that the pool does not have, in one entry that is written: nothing else is missing. */
static void check_broken_slot(problem *p)
{
    int64_t first[MOST_N];
    for (int64_t n = 0; n < MOST_N; ++n) first[n] = 1;
    trial t = make_trial(p, FKDA_COMMIT_EACH, first, 0xa5);
    for (int64_t n = 0; n < p->f->N; ++n)
        for (int64_t i = 0; i < length_of(p, n); ++i) {
            if (i == 1) store_index(t.slots, p->f->index, n * t.desc.slots_stride + i, t.desc.state.slot_count + n);
            else want_state(&t, n, i + 1, i);
        }
    check_trial(&t, "a broken slot of EACH", p->f->S > 1 ? FKDA_DEVICE_SLOT_BROKEN : 0);
    free_trial(&t);
}

/* A parent that is no earlier token counts as -1. */
static void check_broken_parent(problem *p, int64_t given)
{
    uint8_t *const states = must_alloc((size_t)(p->f->N * p->f->S), p->state_bytes);
    trial t = make_tree(p, TREE_RANDOM, 0xa5);
    for (int64_t n = 0; n < p->f->N; ++n) {
        const int64_t last = length_of(p, n) - 1;
        if (last < 0) continue;
        t.parent[n][last] = -1;
        store_index(t.parents, p->f->index, n * t.desc.parent_stride + last, given < 0 ? given : last + given);
    }
    want_tree(&t, states);
    check_trial(&t, "a broken parent", FKDA_DEVICE_PARENT_BROKEN);
    free_trial(&t);
    free(states);
}

static void check_broken_of(problem *p)
{
    const int64_t far = p->f->index == FKDA_I64 ? INT64_MAX : INT32_MAX;
    check_broken_accepted(p, -1, 0);
    check_broken_accepted(p, MOST_S + 1, 0);
    check_broken_accepted(p, far, 1);
    check_broken_first(p, 0);
    check_broken_first(p, -far);
    check_broken_first(p, p->f->S + SPARE_COLUMNS + 1);
    check_broken_slot(p);
    check_broken_parent(p, -2);
    check_broken_parent(p, 0);
    check_broken_parent(p, far / 2);
}

void check_broken_commits(const commit_way *way)
{
    assert_true(way->finds_on_device);
    for_each_form(way, check_broken_of);
}

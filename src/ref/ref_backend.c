/* The reference as a backend: any K and V up to 256, host memory, one thread, slow. */
#include <stdio.h>

#include "backend.h"
#include "decode_states.h"
#include "dtype.h"
#include "fp_environment.h"
#include "op_decode.h"
#include "op_decode_fused.h"
#include "ref.h"
#include "state_rows.h"
#include "status.h"

static fkda_status present(char *text, size_t size)
{
    if (size > 0) snprintf(text, size, "float64, token by token, one thread");
    return FKDA_OK;
}

static fkda_status plan_tokens(const fkda_fwd_desc *d, fkdai_plan *plan)
{
    REQUIRE(d->memory == FKDA_MEMORY_HOST, FKDA_ERR_UNSUPPORTED, "the tensors are in CUDA memory, this backend reads host memory");
    REQUIRE(d->K <= FKDAI_REF_MAX_WIDTH, FKDA_ERR_UNSUPPORTED, "K = %lld, at most %d is taken", (long long)d->K, FKDAI_REF_MAX_WIDTH);
    REQUIRE(d->V <= FKDAI_REF_MAX_WIDTH, FKDA_ERR_UNSUPPORTED, "V = %lld, at most %d is taken", (long long)d->V, FKDAI_REF_MAX_WIDTH);
    plan->workspace_bytes = (size_t)(d->K * d->V) * sizeof(double);    /* S [K,V] of one item */
    snprintf(plan->choice, sizeof plan->choice, "float64, token by token, %lld sequences of %lld heads", (long long)d->N, (long long)d->HV);
    return FKDA_OK;
}

static fkda_status plan_fwd(fkdai_plan *plan) { return plan_tokens(&plan->desc.fwd, plan); }

static fkda_status plan_decode(fkdai_plan *plan)
{
    fkda_fwd_desc d;
    fkdai_decode_as_fwd(&plan->desc.decode, &d);
    return plan_tokens(&d, plan);
}

static fkda_status plan_fused(fkdai_plan *plan)
{
    fkda_fwd_desc d;
    fkdai_fused_as_fwd(&plan->desc.decode_fused, &d);
    return plan_tokens(&d, plan);
}

/* Index of S[c][v] inside the caller's state in this row, of this value head. */
static int64_t state_index(const fkda_fwd_desc *d, const fkda_state_desc *s, int64_t row, int64_t hv, int64_t c, int64_t v)
{
    const int64_t inside = s->layout == FKDA_STATE_NHVK ? v * d->K + c : c * d->V + v;
    return row * s->row_stride + hv * d->K * d->V + inside;
}

static void read_state(const fkda_fwd_desc *d, const fkda_state_desc *s, const void *base, int64_t row, int64_t hv, double *S)
{
    for (int64_t c = 0; c < d->K; ++c)
        for (int64_t v = 0; v < d->V; ++v) S[c * d->V + v] = row == FKDAI_NO_ROW ? 0 : fkdai_load(base, s->dtype, state_index(d, s, row, hv, c, v));
}

static void write_state(const fkda_fwd_desc *d, const fkda_state_desc *s, void *base, int64_t row, int64_t hv, const double *S)
{
    if (row == FKDAI_NO_ROW) return;
    for (int64_t c = 0; c < d->K; ++c)
        for (int64_t v = 0; v < d->V; ++v) fkdai_store(base, s->dtype, state_index(d, s, row, hv, c, v), S[c * d->V + v]);
}

static void write_checkpoints(const fkdai_ref_item *item, const fkdai_checkpoints *c, int64_t position, const double *S)
{
    for (int64_t j = fkdai_find_checkpoint(c, position, 0); j < c->count; j = fkdai_find_checkpoint(c, position, j + 1))
        write_state(item->desc, &item->desc->checkpoints, item->args->checkpoint_state,
                    fkdai_checkpoint_row(item->desc, item->args, c->first + j), item->hv, S);
}

/* The sequence, in pieces that end where a checkpoint is. */
static void run_tokens(const fkdai_ref_item *item, const fkdai_checkpoints *c, double *S)
{
    fkdai_ref_item piece = *item;
    for (int64_t done = 0; item->seq.begin + done < item->seq.end;) {
        const int64_t length = item->seq.end - item->seq.begin, next = fkdai_next_checkpoint(c, done);
        piece.seq.begin = item->seq.begin + done;
        done = next < length ? next : length;
        piece.seq.end = item->seq.begin + done;
        fkdai_ref_tokens(&piece, S);
        write_checkpoints(item, c, done, S);
    }
}

/* S [K,V] is workspace. */
FKDAI_NOINLINE static void run_all(const fkda_fwd_desc *d, const fkda_fwd_args *args, double *S)
{
    fkdai_checkpoints checkpoints = fkdai_first_checkpoints(d, args);
    for (int64_t n = 0; n < d->N; ++n) {
        fkdai_seek_checkpoints(&checkpoints, args->cu_seqlens, n);
        for (int64_t hv = 0; hv < d->HV; ++hv) {
            const fkdai_ref_item item = {d, args, fkdai_sequence_at(d, args->cu_seqlens, n), hv};
            read_state(d, &d->initial_state, args->initial_state, fkdai_initial_row(d, args, n), hv, S);
            run_tokens(&item, &checkpoints, S);
            write_state(d, &d->final_state, args->final_state, fkdai_final_row(d, args, n), hv, S);
        }
    }
}

static fkda_status run_fwd(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    const fkdai_fp_environment callers = fkdai_fp_enter();
    run_all(&plan->desc.fwd, args, workspace);
    fkdai_fp_leave(&callers);
    return FKDA_OK;
}

/* ---------------------------------------------------------------- decode */

typedef struct decode_call {
    const fkda_decode_desc *desc;
    const fkda_decode_args *args;
    fkda_fwd_desc as_fwd;    /* what the functions of tokens are told */
    fkda_fwd_args args_as_fwd;
} decode_call;

/* What token t of a sequence goes on from, unless that is S as it is. */
static void begin_token(const decode_call *c, int64_t n, int64_t t, int64_t hv, double *S)
{
    const fkda_decode_desc *const d = c->desc;
    const int64_t parent = d->parent == FKDA_NONE ? t - 1 : fkdai_decode_parent(d, c->args, n, t);
    if (parent < 0) read_state(&c->as_fwd, &d->state, c->args->state, fkdai_decode_initial_row(d, c->args, n), hv, S);
    else if (d->parent != FKDA_NONE) read_state(&c->as_fwd, &d->step_states, c->args->step_states, fkdai_decode_step_row(d, n, parent), hv, S);
}

static void clear_out(const decode_call *c, fkdai_sequence seq, int64_t hv)
{
    static const double zeros[FKDAI_REF_MAX_WIDTH];
    const fkdai_ref_item item = {&c->as_fwd, &c->args_as_fwd, seq, hv};
    for (int64_t t = seq.begin; t < seq.end; ++t) fkdai_ref_write_out(&item, t, zeros);
}

/* One head, token by token. */
static void decode_head(const decode_call *c, int64_t n, int64_t hv, double *S)
{
    const fkda_decode_desc *const d = c->desc;
    const fkdai_sequence seq = fkdai_sequence_at(&c->as_fwd, c->args->cu_seqlens, n);
    const int64_t length = seq.end - seq.begin, needed = fkdai_decode_needed(d, c->args, n, length);
    if (length > 0 && fkdai_decode_is_padding(d, c->args, n)) {
        clear_out(c, seq, hv);
        return;
    }
    for (int64_t t = 0; t < needed; ++t) {
        const fkdai_ref_item token = {&c->as_fwd, &c->args_as_fwd, {seq.batch, seq.begin + t, seq.begin + t + 1}, hv};
        begin_token(c, n, t, hv, S);
        fkdai_ref_tokens(&token, S);
        write_state(&c->as_fwd, &d->state, c->args->state, fkdai_decode_final_row(d, c->args, n, t, length), hv, S);
        write_state(&c->as_fwd, &d->step_states, c->args->step_states, fkdai_decode_step_row(d, n, t), hv, S);
    }
}

FKDAI_NOINLINE static void decode_all(const decode_call *c, double *S)
{
    for (int64_t n = 0; n < c->desc->N; ++n)
        for (int64_t hv = 0; hv < c->desc->HV; ++hv) decode_head(c, n, hv, S);
}

static fkda_status run_decode(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    decode_call c = {.desc = &plan->desc.decode, .args = args};
    fkdai_decode_as_fwd(c.desc, &c.as_fwd);
    fkdai_decode_args_as_fwd(args, &c.args_as_fwd);
    const fkdai_fp_environment callers = fkdai_fp_enter();
    decode_all(&c, workspace);
    fkdai_fp_leave(&callers);
    return FKDA_OK;
}

/* ---------------------------------------------------------------- decode with convolution and gated norm */

FKDAI_NOINLINE static void fused_all(const fkda_fwd_desc *d, const fkda_fwd_args *args, fkdai_ref_fused *fused, double *S)
{
    for (int64_t n = 0; n < d->N; ++n)
        for (int64_t hv = 0; hv < d->HV; ++hv) {
            const fkdai_ref_item item = {d, args, fkdai_sequence_at(d, NULL, n), hv};
            fused->row = fkdai_final_row(d, args, n), fused->starts_from_0 = fkdai_is_masked(d, args, n);
            read_state(d, &d->initial_state, args->initial_state, fkdai_initial_row(d, args, n), hv, S);
            fkdai_ref_fused_token(fused, &item, S);
            write_state(d, &d->final_state, args->final_state, fused->row, hv, S);
        }
}

static fkda_status run_fused(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    (void)stream;
    fkda_fwd_desc d;
    fkda_fwd_args a;
    fkdai_ref_fused fused = {.desc = &plan->desc.decode_fused, .args = args};
    fkdai_fused_as_fwd(&plan->desc.decode_fused, &d);
    fkdai_fused_args_as_fwd(args, &a);
    const fkdai_fp_environment callers = fkdai_fp_enter();
    fused_all(&d, &a, &fused, workspace);
    fkdai_fp_leave(&callers);
    return FKDA_OK;
}

const fkdai_backend fkdai_ref = {
    .present = present, .offers = {[FKDAI_OP_FWD] = {plan_fwd, run_fwd, NULL}, [FKDAI_OP_DECODE] = {plan_decode, run_decode, NULL},
                                   [FKDAI_OP_DECODE_FUSED] = {plan_fused, run_fused, NULL}}};

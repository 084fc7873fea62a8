/* What the launches of a call in spans see, and where the workspace has it. */
#include "cuda_spans.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_forward.h"
#include "op_fwd.h"
#include "span_call.h"
#include "status.h"

enum { WIDTH = 128, ROW = 256 };

typedef enum which_launch { EARLY, LATE, LAUNCHES } which_launch;

/* Of a call whose sequences are cut. */
typedef struct sizes {
    fkdai_span_counts count;
    int64_t per_entry;           /* checkpoints that a span may have */
    int64_t state_bytes;         /* of all heads, fp32 */
    int may_be_whole;            /* it may be that no sequence is long: only the device knows */
} sizes;

static int64_t checkpoints_of_a_span(const fkda_fwd_desc *d, fkdai_span_rule rule)
{
    const int64_t every = d->checkpoint_every, longest = rule.first > rule.next ? rule.first : rule.next;
    if (d->checkpoints.dtype == FKDA_NONE) return 0;
    return every == 0 ? d->checkpoints_per_sequence : (longest + every - 1) / every;
}

static sizes sizes_of(const fkda_fwd_desc *d, fkdai_span_rule rule)
{
    return (sizes){.count = fkdai_span_count(d->N, d->T, d->cu_seqlens != FKDA_NONE, rule), .per_entry = checkpoints_of_a_span(d, rule),
                   .state_bytes = d->HV * WIDTH * WIDTH * (int64_t)sizeof(float),
                   .may_be_whole = d->cu_seqlens != FKDA_NONE && d->N > 1};
}

/* FKDA_CUDA_SPANS="1024,512", for tests and for measuring: tokens of the first span and of the others; "0,0": never. Multiples of 32. */
static fkdai_span_rule asked_for(fkdai_span_rule rule)
{
    const char *const asked = getenv("FKDA_CUDA_SPANS");
    int64_t first, next;
    if (asked == NULL || sscanf(asked, "%" SCNd64 ",%" SCNd64, &first, &next) != 2) return rule;
    return first >= next && next >= 0 && first % 32 == 0 && next % 32 == 0 ? (fkdai_span_rule){first, next} : rule;
}

int fkdai_cuda_cuts(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *device, const fkdai_desc *desc, fkdai_cuda_spans *spans)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    spans->rule = (fkdai_span_rule){0, 0};
    if (kernel->spans == NULL || d->K != WIDTH || d->V != WIDTH || d->N == 0) return 0;
    /* Transitions of keys without norm, or with any beta, may be larger than fp32 where no state is. */
    if (d->qk_norm == FKDA_QK_NORM_NONE || d->beta_kind == FKDA_BETA_ACTIVATED) return 0;
    const fkdai_span_rule rule = asked_for(kernel->spans->rule(device, desc));
    if (rule.next == 0 || d->T <= rule.first) return 0;
    spans->rule = rule;
    return 1;
}

/* ---------------------------------------------------------------- what a launch sees */

static fkda_state_desc slots_of(const fkda_state_desc *rows, int64_t count)
{
    fkda_state_desc pool = *rows;
    pool.slot_count = rows->slot_count > 0 ? rows->slot_count : count;
    pool.slot_dtype = FKDA_I64, pool.slot_null = FKDA_SLOT_NULL_NEGATIVE;
    return pool;
}

static fkda_state_desc workspace_states(const fkda_fwd_desc *d, int64_t count)
{
    return (fkda_state_desc){.dtype = FKDA_F32, .layout = FKDA_STATE_NHVK, .row_stride = d->HV * WIDTH * WIDTH, .slot_count = count > 0 ? count : 1,
                             .slot_dtype = FKDA_I64, .slot_null = FKDA_SLOT_NULL_NEGATIVE};
}

static fkdai_desc seen_by(const fkdai_desc *desc, const sizes *of, which_launch launch)
{
    fkdai_desc seen = *desc;
    fkda_fwd_desc *const d = &seen.fwd;
    d->N = launch == LATE ? of->count.late : of->count.own + of->count.transitions;
    d->flags &= ~(uint32_t)FKDA_FLAG_INITIAL_MASK;
    d->initial_state = slots_of(&desc->fwd.initial_state, desc->fwd.N);
    d->final_state = launch == LATE ? slots_of(&desc->fwd.final_state, desc->fwd.N) : workspace_states(d, d->N);
    if (of->per_entry == 0) return seen;
    d->checkpoints = slots_of(&d->checkpoints, desc->fwd.checkpoint_count);
    d->checkpoint_every = 0, d->checkpoints_per_sequence = of->per_entry, d->checkpoint_count = d->N * of->per_entry;
    d->checkpoint_offset_dtype = FKDA_I32;
    return seen;
}

/* ---------------------------------------------------------------- workspace */

typedef struct places {
    fkdai_span_setup setup;
    float *starts;               /* and behind them the transitions */
    uint16_t *transitions;
    char *of_kernel;             /* the kernel's own, launch after launch */
} places;

static char *take(char **at, int64_t bytes)
{
    char *const taken = *at;
    *at += (bytes + ROW - 1) / ROW * ROW;
    return taken;
}

static fkdai_span_entries take_entries(char **at, int64_t count, int64_t per_entry)
{
    fkdai_span_entries entries = {.count = count};
    entries.table = (fkdai_span *)(void *)take(at, count * (int64_t)sizeof(fkdai_span));
    entries.initial = (int64_t *)(void *)take(at, count * (int64_t)sizeof(int64_t));
    entries.final = (int64_t *)(void *)take(at, count * (int64_t)sizeof(int64_t));
    entries.offsets = (int32_t *)(void *)take(at, count * per_entry * (int64_t)sizeof(int32_t));
    entries.slots = (int64_t *)(void *)take(at, count * per_entry * (int64_t)sizeof(int64_t));
    return entries;
}

/* From `workspace` on. */
static places place(const fkda_fwd_desc *d, const sizes *of, char *workspace)
{
    places p = {0};
    fkdai_span_setup *const s = &p.setup;
    const int64_t per_sequence = (d->N + 1) * (int64_t)sizeof(int32_t);
    char *at = workspace;
    s->identity = (float *)(void *)take(&at, of->state_bytes);
    p.starts = (float *)(void *)take(&at, (of->count.own + of->count.transitions) * of->state_bytes);
    p.transitions = (uint16_t *)(void *)((char *)p.starts + of->count.own * of->state_bytes);
    s->first_transition = of->count.own;
    s->early = take_entries(&at, of->count.own + of->count.transitions, of->per_entry), s->late = take_entries(&at, of->count.late, of->per_entry);
    s->before = (int32_t *)(void *)take(&at, per_sequence), s->cut_before = (int32_t *)(void *)take(&at, per_sequence);
    s->marks_before = (int32_t *)(void *)take(&at, per_sequence);
    s->cut = (int32_t *)(void *)take(&at, of->count.cut * (int64_t)sizeof(int32_t));
    p.of_kernel = at;
    return p;
}

static size_t bytes_before_the_kernel(const fkda_fwd_desc *d, const sizes *of)
{
    char *const anywhere = (char *)(uintptr_t)ROW;
    return (size_t)(place(d, of, anywhere).of_kernel - anywhere);
}

fkda_status fkdai_cuda_plan_spans(const fkdai_cuda_kernel *kernel, const fkdai_cuda_device *device, fkdai_plan *plan, fkdai_cuda_spans *spans)
{
    fkdai_cuda_span_plan *const plans[LAUNCHES] = {&spans->early, &spans->late};
    const fkdai_desc desc = plan->desc;
    const sizes of = sizes_of(&desc.fwd, spans->rule);
    size_t most = plan->workspace_bytes;
    fkda_status status = FKDA_OK;
    for (int launch = 0; launch < LAUNCHES && status == FKDA_OK; ++launch) {
        fkdai_cuda_kernel_plan own;
        plan->desc = seen_by(&desc, &of, (which_launch)launch);
        status = kernel->spans->plan(device, plan, &own);
        if (status != FKDA_OK) break;
        memcpy(plans[launch], &own, sizeof *plans[launch]);
        if (plan->workspace_bytes > most) most = plan->workspace_bytes;
    }
    plan->desc = desc;
    if (status != FKDA_OK) return status;
    plan->workspace_bytes = bytes_before_the_kernel(&desc.fwd, &of) + most;
    const size_t used = strlen(plan->choice);
    snprintf(plan->choice + used, sizeof plan->choice - used, "; long sequences in spans of %" PRId64 " and then %" PRId64 " tokens", spans->rule.first,
             spans->rule.next);
    return FKDA_OK;
}

/* ---------------------------------------------------------------- one call */

static fkdai_vector indices_of(const void *data, fkda_dtype dtype, int are_there)
{
    return (fkdai_vector){data, are_there ? fkdai_forward_element(dtype) : FKDAI_ABSENT};
}

static int first_slot(const fkda_state_desc *s) { return s->slot_null == FKDA_SLOT_NULL_NOT_POSITIVE; }

static void fill_setup(const fkda_fwd_desc *d, const fkda_fwd_args *a, const sizes *of, fkdai_span_rule rule, fkdai_span_setup *s)
{
    s->cu_seqlens = (fkdai_vector){a->cu_seqlens, fkdai_forward_element(d->cu_seqlens)};
    s->N = d->N, s->T = d->T, s->HV = d->HV, s->rule = rule;
    s->initial_slots = indices_of(a->initial_slots, d->initial_state.slot_dtype, d->initial_state.slot_count > 0);
    s->final_slots = indices_of(a->final_slots, d->final_state.slot_dtype, d->final_state.slot_count > 0);
    s->initial_first_slot = first_slot(&d->initial_state), s->final_first_slot = first_slot(&d->final_state);
    s->initial_mask = a->initial_mask, s->device_status = a->device_status;
    if (d->checkpoints.dtype == FKDA_NONE) return;
    s->checkpoints.offsets = indices_of(a->checkpoint_offsets, d->checkpoint_offset_dtype, d->checkpoint_every == 0);
    s->checkpoints.slots = indices_of(a->checkpoint_slots, d->checkpoints.slot_dtype, d->checkpoints.slot_count > 0);
    s->checkpoints.first_slot = first_slot(&d->checkpoints), s->checkpoints.per_sequence = d->checkpoints_per_sequence;
    s->checkpoints.every = d->checkpoint_every, s->checkpoints.count = d->checkpoint_count, s->checkpoints.per_entry = of->per_entry;
}

static fkda_fwd_args args_of(const fkda_fwd_args *given, const places *p, which_launch launch)
{
    const fkdai_span_entries *const entries = launch == EARLY ? &p->setup.early : &p->setup.late;
    fkda_fwd_args a = *given;
    a.initial_slots = entries->initial, a.final_slots = entries->final, a.initial_mask = NULL;
    if (launch == EARLY) a.final_state = p->starts;
    a.checkpoint_offsets = entries->offsets, a.checkpoint_slots = entries->slots;
    return a;
}

static int run_launch(const fkdai_cuda_span_kernel *kernel, const fkdai_cuda_span_plan *plan, const fkdai_desc *desc, const fkda_fwd_args *args,
                      const sizes *of, const places *p, which_launch launch, fkda_stream stream)
{
    const fkdai_desc seen = seen_by(desc, of, launch);
    const fkda_fwd_args seen_args = args_of(args, p, launch);
    const fkdai_spans spans = {.table = launch == EARLY ? p->setup.early.table : p->setup.late.table,
                               .states = launch == EARLY ? p->setup.identity : p->starts,
                               .is_cut = of->may_be_whole ? p->setup.cut_before + desc->fwd.N : NULL, .wants_cut = 1};
    fkdai_cuda_kernel_plan own = {{0}};
    memcpy(&own, plan, sizeof *plan);
    return kernel->run(&seen, &own, &seen_args, &spans, p->of_kernel, stream);
}

/* The kernel as it is, if nothing is cut. */
static int run_whole(const fkdai_cuda_span_kernel *kernel, const fkdai_cuda_kernel_plan *plan, const fkdai_desc *desc, const fkda_fwd_args *args,
                     const places *p, fkda_stream stream)
{
    const fkdai_spans whole = {.is_cut = p->setup.cut_before + desc->fwd.N, .wants_cut = 0};
    return kernel->run(desc, plan, args, &whole, p->of_kernel, stream);
}

int fkdai_cuda_run_spans(const fkdai_cuda_kernel *kernel, const fkdai_cuda_spans *spans, const fkdai_cuda_kernel_plan *whole, const fkdai_desc *desc,
                         const fkda_fwd_args *args, void *workspace, fkda_stream stream)
{
    const fkda_fwd_desc *const d = &desc->fwd;
    const sizes of = sizes_of(d, spans->rule);
    places p = place(d, &of, workspace);
    fill_setup(d, args, &of, spans->rule, &p.setup);
    int error = fkdai_span_set_up(&p.setup, stream);
    if (error == 0) error = run_launch(kernel->spans, &spans->early, desc, args, &of, &p, EARLY, stream);
    const fkdai_span_carry carry = {.N = d->N, .HV = d->HV, .most_cut = of.count.cut, .before = p.setup.before, .cut_before = p.setup.cut_before,
                                    .cut = p.setup.cut, .starts = p.starts, .transitions = p.transitions};
    if (error == 0 && of.count.transitions > 0) error = fkdai_span_carry_states(&carry, stream);
    if (error == 0) error = run_launch(kernel->spans, &spans->late, desc, args, &of, &p, LATE, stream);
    return error == 0 && of.may_be_whole ? run_whole(kernel->spans, whole, desc, args, &p, stream) : error;
}

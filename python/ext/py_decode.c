/* flash_kda._core.decode. Its tensors are read and described as those of a forward pass whose initial and final state are one; step_states,
 * num_accepted and parent are described here. */
#include <string.h>

#include "py_core.h"

enum {    /* positions in flash_kda._core.decode; those before are where they are in fwd */
    DECODE_STATE = ARG_INITIAL_STATE, DECODE_CU_SEQLENS, DECODE_SLOTS, DECODE_INITIAL_MASK, DECODE_SLOT_NULL, DECODE_NULL_OUT, DECODE_MAX_TOKENS,
    DECODE_COMMIT, DECODE_NUM_ACCEPTED, DECODE_STEP_STATES, DECODE_PARENT, DECODE_MEANING,
    PY_DECODE_ARGUMENT_COUNT = DECODE_MEANING + PY_MEANING_COUNT
};

/* In the views of a call. */
enum { ARG_STEP_STATES = ARG_CHECKPOINT_STATE, ARG_NUM_ACCEPTED = ARG_CHECKPOINT_OFFSETS, ARG_PARENT = ARG_CHECKPOINT_SLOTS };

/* At the positions of fwd. */
static const char *const names[PY_WORDS] = {
    "q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "state", "state", "cu_seqlens", "cu_seqlens_cpu", "slots",
    "slots", "initial_mask", "step_states", "num_accepted", "parent",
};

/* ---------------------------------------------------------------- numbers and words */

static int read_max_tokens(PyObject *object, int64_t *tokens)
{
    *tokens = PyLong_Check(object) ? PyLong_AsLongLong(object) : -1;
    PyErr_Clear();    /* of an int that is too large: -1 too */
    if (*tokens >= 1 && *tokens <= FKDA_DECODE_MAX_TOKENS) return 0;
    PyErr_Format(PyLong_Check(object) ? PyExc_ValueError : PyExc_TypeError, "max_tokens is %R, but it must be an int from 1 to %d", object,
                 FKDA_DECODE_MAX_TOKENS);
    return -1;
}

static int read_commit(PyObject *object, fkda_commit *commit)
{
    static const char *const words[] = {"last", "none", "accepted", "each"};    /* in the order of fkda_commit */
    int index;
    if (fkdai_py_read_word("commit", object, NULL, words, FKDA_COMMIT_EACH + 1, &index) < 0) return -1;
    *commit = (fkda_commit)index;
    return 0;
}

static int read_null_out(PyObject *object, uint32_t *flag)
{
    static const char *const words[] = {"computed", "zero"};
    int index;
    if (fkdai_py_read_word("null_out", object, NULL, words, 2, &index) < 0) return -1;
    *flag = index == 1 ? FKDA_FLAG_NULL_IS_PADDING : 0;
    return 0;
}

/* ---------------------------------------------------------------- tensors that fwd does not have */

static int refuse_as_it_lies(const py_view *view)
{
    PyErr_Format(PyExc_ValueError, "%s is not taken as it lies: decode needs bf16 or fp32 (indices int32 or int64) with contiguous rows, and "
                 "copies nothing", view->name);
    return -1;
}

static int take(py_call *call, int argument, const char *rule, int ndim, const int64_t *wanted, int inner, py_form *taken)
{
    return fkdai_py_require_shape(&call->view[argument], rule, ndim, wanted) < 0 ? -1 : fkdai_py_take(call, (py_argument)argument, inner, taken);
}

/* [N,P,HV,V,K]: matrices of a row contiguous, rows any distance apart, but all of them the same. */
static int describe_steps(py_call *call, fkda_decode_desc *desc, fkda_decode_args *args)
{
    py_form taken;
    const py_view *const view = &call->view[ARG_STEP_STATES];
    const int is_v_first = call->state_layout == FKDA_STATE_NHVK;
    const int64_t P = view->ndim == 5 ? view->shape[1] : desc->S;
    const int64_t wanted[5] = {desc->N, P, desc->HV, is_v_first ? desc->V : desc->K, is_v_first ? desc->K : desc->V};
    if (take(call, ARG_STEP_STATES, fkdai_py_state_rule(call, "[N,P,HV,V,K]", "[N,P,HV,K,V]"), 5, wanted, 3, &taken) < 0) return -1;
    const int64_t of_row = fkdai_py_stride(view, 1), of_sequence = fkdai_py_stride(view, 0);
    if (of_row != 0 && of_sequence != 0 && of_sequence != P * of_row) return refuse_as_it_lies(view);
    desc->step_states = (fkda_state_desc){.dtype = taken.dtype, .layout = call->state_layout, .row_stride = P > 1 ? of_row : of_sequence};
    desc->step_states_per_sequence = P;
    args->step_states = taken.data == NULL ? NULL : view->data;
    return 0;
}

static int describe_commit(py_call *call, fkda_decode_desc *desc, fkda_decode_args *args)
{
    py_form taken;
    const int64_t parents[2] = {desc->N, desc->S};
    const py_view *const slots = &call->view[ARG_FINAL_SLOTS], *const parent = &call->view[ARG_PARENT];
    if (call->has_slot_rows && slots->tensor != NULL) {
        desc->slots_per_sequence = slots->shape[1];
        desc->slots_stride = fkdai_py_stride(slots, 0);
    }
    if (call->view[ARG_NUM_ACCEPTED].tensor != NULL) {
        if (take(call, ARG_NUM_ACCEPTED, "[N]", 1, &desc->N, 1, &taken) < 0) return -1;
        desc->num_accepted = taken.dtype, args->num_accepted = taken.data;
    }
    if (parent->tensor != NULL) {
        if (take(call, ARG_PARENT, "[N,S]", 2, parents, 1, &taken) < 0) return -1;
        desc->parent = taken.dtype, desc->parent_stride = fkdai_py_stride(parent, 0), args->parent = taken.data;
    }
    return call->view[ARG_STEP_STATES].tensor == NULL ? 0 : describe_steps(call, desc, args);
}

/* There is no call on a copy: states would have to be copied as a whole. */
static int refuse_copies(const py_call *call)
{
    for (int i = 0; i < PY_WORDS; ++i)
        if (call->copies >> i & 1u) return refuse_as_it_lies(&call->view[i]);
    return 0;
}

/* ---------------------------------------------------------------- the call */

static fkda_decode_desc desc_of(const fkda_fwd_desc *d, int64_t max_tokens)
{
    const int is_packed = d->cu_seqlens != FKDA_NONE;
    return (fkda_decode_desc){
        .struct_size = sizeof(fkda_decode_desc), .memory = d->memory, .device = d->device, .threads = d->threads, .flags = d->flags, .N = d->N,
        .S = is_packed ? max_tokens : d->T, .T = is_packed ? d->T : 0, .H = d->H, .HV = d->HV, .K = d->K, .V = d->V,
        .q = d->q, .k = d->k, .v = d->v, .g = d->g, .beta = d->beta, .out = d->out, .cu_seqlens = d->cu_seqlens, .A_log = d->A_log,
        .dt_bias = d->dt_bias, .gate = d->gate, .lower_bound = d->lower_bound, .beta_kind = d->beta_kind, .beta_multiplier = d->beta_multiplier,
        .qk_norm = d->qk_norm, .scale = d->scale, .state = d->final_state,
    };
}

static fkda_decode_args args_of(const fkda_fwd_args *a)
{
    return (fkda_decode_args){
        .struct_size = sizeof(fkda_decode_args), .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .cu_seqlens = a->cu_seqlens, .state = a->final_state, .slots = a->final_slots, .initial_mask = a->initial_mask,
    };
}

static int run(py_core *core, const py_call *call, const fkda_decode_desc *desc, const fkda_decode_args *args)
{
    fkda_plan plan;
    fkda_stream stream;
    py_scratch scratch;
    fkda_status status = fkda_decode_plan(desc, &plan);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    if (fkdai_py_warn(core, &plan) < 0 || fkdai_py_stream_of(core, call, &stream) < 0 ||
        fkdai_py_take_scratch(core, fkdai_py_queries(call), fkda_plan_workspace_size(&plan), &scratch) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    status = fkda_decode_run(&plan, args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    fkdai_py_keep_plan(&plan, 0);
    return 0;
}

/* Versions of what was written: not the state where no state is. */
static int count_writes(const py_core *core, py_call *call, fkda_commit commit)
{
    if (commit == FKDA_COMMIT_NONE) call->view[ARG_FINAL_STATE].tensor = NULL;
    return fkdai_py_count_writes(core, call);
}

/* At the positions of fwd. */
static void arrange(PyObject *const *arguments, PyObject **as_fwd)
{
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) as_fwd[i] = i < DECODE_STATE ? arguments[i] : Py_None;
    as_fwd[ARG_INITIAL_STATE] = as_fwd[ARG_FINAL_STATE] = arguments[DECODE_STATE];
    as_fwd[ARG_INITIAL_SLOTS] = as_fwd[ARG_FINAL_SLOTS] = arguments[DECODE_SLOTS];
    as_fwd[ARG_CU_SEQLENS] = arguments[DECODE_CU_SEQLENS];
    as_fwd[ARG_INITIAL_MASK] = arguments[DECODE_INITIAL_MASK];
    as_fwd[ARG_SLOT_NULL] = arguments[DECODE_SLOT_NULL];
    as_fwd[ARG_STEP_STATES] = arguments[DECODE_STEP_STATES];
    as_fwd[ARG_NUM_ACCEPTED] = arguments[DECODE_NUM_ACCEPTED];
    as_fwd[ARG_PARENT] = arguments[DECODE_PARENT];
    for (int i = 0; i < PY_MEANING_COUNT; ++i) as_fwd[PY_MEANING + i] = arguments[DECODE_MEANING + i];
}

/* Everything up to the plan. */
static int read_decode(py_core *core, py_call *call, fkda_decode_desc *desc, fkda_decode_args *args, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *as_fwd[PY_ARGUMENT_COUNT];
    int64_t max_tokens;
    fkda_commit commit;
    uint32_t null_out;
    if (count != PY_DECODE_ARGUMENT_COUNT) {
        PyErr_Format(PyExc_TypeError, "_core.decode takes %d arguments, %zd given", (int)PY_DECODE_ARGUMENT_COUNT, count);
        return -1;
    }
    arrange(arguments, as_fwd);
    if (read_commit(arguments[DECODE_COMMIT], &commit) < 0 || read_null_out(arguments[DECODE_NULL_OUT], &null_out) < 0) return -1;
    memset(call, 0, sizeof *call);
    call->is_decode = 1, call->has_slot_rows = commit == FKDA_COMMIT_EACH;
    if (fkdai_py_read_call(core, call, names, as_fwd, PY_ARGUMENT_COUNT) < 0 || read_max_tokens(arguments[DECODE_MAX_TOKENS], &max_tokens) < 0)
        return -1;
    *desc = desc_of(&call->desc, max_tokens);
    *args = args_of(&call->args);
    desc->commit = commit, desc->flags |= null_out;
    return describe_commit(call, desc, args) < 0 ? -1 : refuse_copies(call);
}

static fkda_status plan_again(const void *desc, fkda_plan *plan) { return fkda_decode_plan(desc, plan); }

static fkda_status run_again(const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkda_decode_run(plan, args, workspace, workspace_bytes, stream);
}

#define AT(field) offsetof(fkda_decode_args, field)
const py_operation fkdai_py_op_decode = {
    .id = PY_DECODE, .name = "decode",
    .places = {[ARG_Q] = AT(q), [ARG_K] = AT(k), [ARG_V] = AT(v), [ARG_G] = AT(g), [ARG_BETA] = AT(beta), [ARG_OUT] = AT(out), [ARG_A_LOG] = AT(A_log),
               [ARG_DT_BIAS] = AT(dt_bias), [DECODE_STATE] = AT(state), [DECODE_CU_SEQLENS] = AT(cu_seqlens), [DECODE_SLOTS] = AT(slots),
               [DECODE_INITIAL_MASK] = AT(initial_mask), [DECODE_NUM_ACCEPTED] = AT(num_accepted), [DECODE_STEP_STATES] = AT(step_states),
               [DECODE_PARENT] = AT(parent)},
    .desc_bytes = sizeof(fkda_decode_desc), .args_bytes = sizeof(fkda_decode_args), .plan = plan_again, .run = run_again,
};

PyObject *fkdai_py_decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    py_call call;
    fkda_decode_desc desc;
    fkda_decode_args args;
    const int ran = fkdai_py_run_again(core, &fkdai_py_op_decode, arguments, count);
    if (ran < 0) return NULL;
    if (ran > 0) Py_RETURN_NONE;
    if (read_decode(core, &call, &desc, &args, arguments, count) < 0 || run(core, &call, &desc, &args) < 0 ||
        count_writes(core, &call, desc.commit) < 0)
        return NULL;
    const py_learnt learnt = {&desc, &args, {ARG_OUT, desc.commit == FKDA_COMMIT_NONE ? -1 : DECODE_STATE, DECODE_STEP_STATES}};
    fkdai_py_learn(core, &fkdai_py_op_decode, arguments, count, &learnt);
    Py_RETURN_NONE;
}

PyObject *fkdai_py_query_decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_call call;
    fkda_decode_desc desc;
    fkda_decode_args args;
    if (read_decode(PyModule_GetState(module), &call, &desc, &args, arguments, count) < 0) return NULL;
    const fkda_status status = fkda_decode_query(&desc, NULL);
    if (status == FKDA_OK) Py_RETURN_NONE;
    fkdai_py_raise(status);
    return NULL;
}

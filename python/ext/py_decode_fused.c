/* flash_kda._core.decode_fused. The tensors of the step are read and described as those of a forward pass of one token whose initial and final state are
 * one; what stands around the step is read here. */
#include <string.h>

#include "py_core.h"

typedef enum py_extra { EXTRA_WEIGHT, EXTRA_BIAS = EXTRA_WEIGHT + 3, EXTRA_CONV_STATE = EXTRA_BIAS + 3, EXTRA_OUTPUT_GATE, EXTRA_NORM_WEIGHT, EXTRA_COUNT } py_extra;

enum {    /* positions in flash_kda._core.decode_fused; those before are where they are in fwd */
    FUSED_STATE = ARG_INITIAL_STATE, FUSED_SLOTS, FUSED_INITIAL_MASK, FUSED_SLOT_NULL, FUSED_NORM_EPS, FUSED_EXTRAS,
    FUSED_MEANING = FUSED_EXTRAS + EXTRA_COUNT, FUSED_COUNT = FUSED_MEANING + PY_MEANING_COUNT
};

/* At the positions of fwd. */
static const char *const names[PY_WORDS] = {
    "q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "state", "state", "", "", "slots", "slots",
    "initial_mask", "", "", "",
};
static const char *const extra_names[EXTRA_COUNT] = {"conv_weight of q", "conv_weight of k", "conv_weight of v", "conv_bias of q", "conv_bias of k",
                                                     "conv_bias of v", "conv_state", "output_gate", "norm_weight"};

typedef struct fused_call {
    py_call step;
    py_call extras;    /* its views alone: those of py_extra */
    fkda_decode_fused_desc desc;
    fkda_decode_fused_args args;
} fused_call;

/* ---------------------------------------------------------------- tensors around the step */

static int refuse_copy(const py_view *view)
{
    PyErr_Format(PyExc_ValueError, "%s is not taken as it lies: decode_fused needs bf16 or fp32 (indices int32 or int64) with contiguous rows, and "
                 "copies nothing", view->name);
    return -1;
}

/* One tensor in the place of three, which are views of it along its first axis. */
static int spread(fused_call *call, py_extra first, const char *name, const char *rule, int ndim)
{
    py_view *const view = &call->extras.view[first];
    if (view[0].tensor == NULL || view[1].tensor != NULL || view[2].tensor != NULL || view[0].ndim != ndim) return 0;
    if (view->shape[0] != 3) {
        PyErr_Format(PyExc_ValueError, "%s has %lld rows, but it must be %s", name, (long long)view->shape[0], rule);
        return -1;
    }
    const int64_t step = view->stride[0] * view->item_bytes;
    view->ndim -= 1;
    for (int i = 0; i < view->ndim; ++i) view->shape[i] = view->shape[i + 1], view->stride[i] = view->stride[i + 1];
    for (int i = 1; i < 3; ++i) {
        const char *const of = view[i].name;
        view[i] = view[0], view[i].name = of;
        view[i].data = view->data + i * step;
    }
    return 0;
}

static int read_extras(py_core *core, fused_call *call, PyObject *const *arguments)
{
    for (int i = 0; i < EXTRA_COUNT; ++i) {
        py_view *const view = &call->extras.view[i];
        view->name = extra_names[i];
        if (arguments[i] == Py_None) continue;
        if (fkdai_py_view(core, extra_names[i], arguments[i], view) < 0) return -1;
        const int is_negated = fkdai_py_is_negated(core, view->tensor);
        if (is_negated != 0) return is_negated < 0 ? -1 : refuse_copy(view);
        const py_view *const q = &call->step.view[ARG_Q];
        if (view->memory != q->memory || view->device != q->device) {
            PyErr_Format(PyExc_ValueError, "%s is not on the device of q: all tensors must be on one device", view->name);
            return -1;
        }
    }
    if (spread(call, EXTRA_WEIGHT, "conv_weight", "[3,4,H*K]", 3) < 0 || spread(call, EXTRA_BIAS, "conv_bias", "[3,H*K]", 2) < 0) return -1;
    return fkdai_py_check_derivatives(core, &call->extras, Py_None, Py_None);
}

/* The last `inner` axes row by row, the others at any step but 0. */
static int check_lie(const py_view *view, int inner)
{
    int64_t step = 1;
    if (view->dtype != FKDA_BF16 && view->dtype != FKDA_F32) return refuse_copy(view);
    for (int i = view->ndim - 1; i >= 0 && !view->is_empty; --i) {
        const int is_inner = i >= view->ndim - inner;
        if (view->shape[i] != 1 && (is_inner ? view->stride[i] != step : view->stride[i] < 1)) return refuse_copy(view);
        step *= view->shape[i];
    }
    return 0;
}

static int take(const py_view *view, const char *rule, int ndim, const int64_t *wanted, int inner)
{
    return fkdai_py_require_shape(view, rule, ndim, wanted) < 0 ? -1 : check_lie(view, inner);
}

/* Those of q, k and v lie alike. */
static int take_three(const fused_call *call, py_extra first, const char *rule, int ndim, const int64_t *wanted)
{
    const py_view *const q = &call->extras.view[first];
    for (int i = 0; i < 3; ++i) {
        const py_view *const view = q + i;
        if (view->tensor == NULL) {
            PyErr_Format(PyExc_TypeError, "%s is None, but %s is given", view->name, q->name);
            return -1;
        }
        if (take(view, rule, ndim, wanted, 1) < 0) return -1;
        if (view->dtype != q->dtype || fkdai_py_stride(view, 0) != fkdai_py_stride(q, 0)) {
            PyErr_Format(PyExc_ValueError, "%s differs from %s in dtype or stride", view->name, q->name);
            return -1;
        }
    }
    return 0;
}

static int is_given(const fused_call *call, py_extra extra) { return call->extras.view[extra].tensor != NULL; }

static int require_together(const fused_call *call, py_extra a, py_extra b)
{
    if (is_given(call, a) == is_given(call, b)) return 0;
    PyErr_Format(PyExc_ValueError, "%s is given, but %s is not", extra_names[is_given(call, a) ? a : b], extra_names[is_given(call, a) ? b : a]);
    return -1;
}

static int describe_conv(fused_call *call)
{
    const fkda_fwd_desc *const f = &call->step.desc;
    const py_view *const weight = &call->extras.view[EXTRA_WEIGHT], *const bias = &call->extras.view[EXTRA_BIAS];
    const py_view *const taps = &call->extras.view[EXTRA_CONV_STATE];
    const int64_t HK = f->H * f->K, rows = call->step.view[ARG_FINAL_STATE].shape[0];
    const int64_t weight_shape[2] = {FKDA_CONV_WIDTH, HK}, taps_shape[3] = {rows, FKDA_CONV_WIDTH - 1, 3 * HK};
    if (require_together(call, EXTRA_WEIGHT, EXTRA_CONV_STATE) < 0) return -1;
    if (!is_given(call, EXTRA_WEIGHT)) return is_given(call, EXTRA_BIAS) ? require_together(call, EXTRA_BIAS, EXTRA_WEIGHT) : 0;
    if (take_three(call, EXTRA_WEIGHT, "[4,H*K]", 2, weight_shape) < 0) return -1;
    if (is_given(call, EXTRA_BIAS) && take_three(call, EXTRA_BIAS, "[H*K]", 1, &HK) < 0) return -1;
    if (take(taps, "[rows of state,3,3*H*K]", 3, taps_shape, 0) < 0) return -1;
    call->desc.conv_weight = (fkda_tensor_desc){.token_stride = fkdai_py_stride(weight, 0), .dtype = weight->dtype};
    call->desc.conv_bias = is_given(call, EXTRA_BIAS) ? bias->dtype : FKDA_NONE;
    call->desc.conv_state = (fkda_tensor_desc){fkdai_py_stride(taps, 0), fkdai_py_stride(taps, 1), fkdai_py_stride(taps, 2), taps->dtype, 0};
    call->args.conv_weight_q = weight[0].data, call->args.conv_weight_k = weight[1].data, call->args.conv_weight_v = weight[2].data;
    call->args.conv_bias_q = bias[0].data, call->args.conv_bias_k = bias[1].data, call->args.conv_bias_v = bias[2].data;
    call->args.conv_state = taps->data;
    return 0;
}

static int describe_norm(fused_call *call, PyObject *norm_eps)
{
    const fkda_fwd_desc *const f = &call->step.desc;
    const py_view *const gate = &call->extras.view[EXTRA_OUTPUT_GATE], *const weight = &call->extras.view[EXTRA_NORM_WEIGHT];
    const int64_t gate_shape[4] = {f->B, f->T, f->H, f->V};
    if (require_together(call, EXTRA_OUTPUT_GATE, EXTRA_NORM_WEIGHT) < 0) return -1;
    if (!is_given(call, EXTRA_NORM_WEIGHT)) return 0;
    const double eps = PyFloat_AsDouble(norm_eps);
    if (eps == -1 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "norm_eps is %R, but it must be a positive number", norm_eps);
        return -1;
    }
    if (take(gate, "[N,1,H,V]", 4, gate_shape, 1) < 0 || take(weight, "[V]", 1, &f->V, 1) < 0) return -1;
    call->desc.output_gate = (fkda_tensor_desc){fkdai_py_stride(gate, 0), 0, fkdai_py_stride(gate, 2), gate->dtype, 0};
    call->desc.norm_weight = weight->dtype, call->desc.norm_eps = (float)eps;
    call->args.output_gate = gate->data, call->args.norm_weight = weight->data;
    return 0;
}

/* ---------------------------------------------------------------- the call */

static int describe_step(fused_call *call)
{
    const fkda_fwd_desc *const f = &call->step.desc;
    const fkda_fwd_args *const a = &call->step.args;
    for (int i = 0; i < PY_WORDS; ++i)
        if (call->step.copies >> i & 1u) return refuse_copy(&call->step.view[i]);
    if (f->T != 1 || f->HV != f->H) {
        PyErr_Format(PyExc_ValueError, "q has T = %lld tokens and %lld heads, v has %lld heads, but decode_fused takes one token and as many heads of q as of v",
                     (long long)f->T, (long long)f->H, (long long)f->HV);
        return -1;
    }
    call->desc = (fkda_decode_fused_desc){
        .struct_size = sizeof call->desc, .memory = f->memory, .device = f->device, .threads = f->threads, .flags = f->flags, .N = f->N, .H = f->H,
        .K = f->K, .V = f->V, .q = f->q, .k = f->k, .v = f->v, .g = f->g, .beta = f->beta, .out = f->out, .state = f->final_state, .A_log = f->A_log,
        .dt_bias = f->dt_bias, .gate = f->gate, .lower_bound = f->lower_bound, .beta_kind = f->beta_kind, .beta_multiplier = f->beta_multiplier,
        .qk_norm = f->qk_norm, .scale = f->scale,
    };
    call->args = (fkda_decode_fused_args){
        .struct_size = sizeof call->args, .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .state = a->final_state, .slots = a->final_slots, .initial_mask = a->initial_mask,
    };
    return 0;
}

static int run(py_core *core, fused_call *call)
{
    fkda_plan plan;
    fkda_stream stream;
    py_scratch scratch;
    fkda_status status = fkda_decode_fused_plan(&call->desc, &plan);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    if (fkdai_py_warn(core, &plan) < 0 || fkdai_py_stream_of(core, &call->step, &stream) < 0 ||
        fkdai_py_take_scratch(core, &call->step.view[ARG_Q], fkda_plan_workspace_size(&plan), &scratch) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    status = fkda_decode_fused_run(&plan, &call->args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    fkdai_py_keep_plan(&plan, 0);
    call->step.view[ARG_CHECKPOINT_STATE] = call->extras.view[EXTRA_CONV_STATE];    /* the third thing that was written */
    return fkdai_py_count_writes(core, &call->step);
}

static fkda_status plan_again(const void *desc, fkda_plan *plan) { return fkda_decode_fused_plan(desc, plan); }

static fkda_status run_again(const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkda_decode_fused_run(plan, args, workspace, workspace_bytes, stream);
}

#define AT(field) offsetof(fkda_decode_fused_args, field)
const py_operation fkdai_py_op_decode_fused = {
    .id = PY_DECODE_FUSED, .name = "decode_fused",
    .places = {[ARG_Q] = AT(q), [ARG_K] = AT(k), [ARG_V] = AT(v), [ARG_G] = AT(g), [ARG_BETA] = AT(beta), [ARG_OUT] = AT(out), [ARG_A_LOG] = AT(A_log),
               [ARG_DT_BIAS] = AT(dt_bias), [FUSED_STATE] = AT(state), [FUSED_SLOTS] = AT(slots), [FUSED_INITIAL_MASK] = AT(initial_mask),
               [FUSED_EXTRAS + EXTRA_WEIGHT] = AT(conv_weight_q), [FUSED_EXTRAS + EXTRA_WEIGHT + 1] = AT(conv_weight_k),
               [FUSED_EXTRAS + EXTRA_WEIGHT + 2] = AT(conv_weight_v), [FUSED_EXTRAS + EXTRA_BIAS] = AT(conv_bias_q),
               [FUSED_EXTRAS + EXTRA_BIAS + 1] = AT(conv_bias_k), [FUSED_EXTRAS + EXTRA_BIAS + 2] = AT(conv_bias_v),
               [FUSED_EXTRAS + EXTRA_CONV_STATE] = AT(conv_state), [FUSED_EXTRAS + EXTRA_OUTPUT_GATE] = AT(output_gate),
               [FUSED_EXTRAS + EXTRA_NORM_WEIGHT] = AT(norm_weight)},
    .followers = {[FUSED_EXTRAS + EXTRA_WEIGHT] = 2, [FUSED_EXTRAS + EXTRA_BIAS] = 2},
    .desc_bytes = sizeof(fkda_decode_fused_desc), .args_bytes = sizeof(fkda_decode_fused_args), .plan = plan_again, .run = run_again,
};
_Static_assert((int)FUSED_COUNT <= (int)PY_MOST_ARGUMENTS, "py_operation.places is too small");

PyObject *fkdai_py_decode_fused(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    PyObject *as_fwd[PY_ARGUMENT_COUNT];
    fused_call call;
    if (count != FUSED_COUNT) {
        PyErr_Format(PyExc_TypeError, "_core.decode_fused takes %d arguments, %zd given", (int)FUSED_COUNT, count);
        return NULL;
    }
    const int ran = fkdai_py_run_again(core, &fkdai_py_op_decode_fused, arguments, count);
    if (ran < 0) return NULL;
    if (ran > 0) Py_RETURN_NONE;
    memset(&call, 0, sizeof call);
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) as_fwd[i] = i < FUSED_STATE ? arguments[i] : Py_None;
    as_fwd[ARG_INITIAL_STATE] = as_fwd[ARG_FINAL_STATE] = arguments[FUSED_STATE];
    as_fwd[ARG_INITIAL_SLOTS] = as_fwd[ARG_FINAL_SLOTS] = arguments[FUSED_SLOTS];
    as_fwd[ARG_INITIAL_MASK] = arguments[FUSED_INITIAL_MASK];
    as_fwd[ARG_SLOT_NULL] = arguments[FUSED_SLOT_NULL];
    for (int i = 0; i < PY_MEANING_COUNT; ++i) as_fwd[PY_MEANING + i] = arguments[FUSED_MEANING + i];
    if (fkdai_py_read_call(core, &call.step, names, as_fwd, PY_ARGUMENT_COUNT) < 0 || describe_step(&call) < 0 ||
        read_extras(core, &call, arguments + FUSED_EXTRAS) < 0 || describe_conv(&call) < 0 || describe_norm(&call, arguments[FUSED_NORM_EPS]) < 0 ||
        run(core, &call) < 0)
        return NULL;
    const py_learnt learnt = {&call.desc, &call.args, {ARG_OUT, FUSED_STATE, FUSED_EXTRAS + EXTRA_CONV_STATE}};
    fkdai_py_learn(core, &fkdai_py_op_decode_fused, arguments, count, &learnt);
    Py_RETURN_NONE;
}

/*
 * Tensors -> fkda_fwd_desc and fkda_fwd_args. Shapes, dtypes and devices are checked against each other here, where all of them are
 * known; a tensor whose dtype or layout flashkda.h has no words for is put on the list of copies, and described as the copy.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "py_core.h"

/* ---------------------------------------------------------------- shapes */

enum { SHAPE_TEXT_BYTES = 24 * PY_MAX_DIMS };

static const char *shape_text(int ndim, const int64_t *shape, char *text)
{
    size_t used = 0;
    text[0] = 0;
    for (int i = 0; i < ndim; ++i)
        used += (size_t)snprintf(text + used, SHAPE_TEXT_BYTES - used, "%s%" PRId64, i == 0 ? "" : ", ", shape[i]);
    return text;
}

static int refuse_shape(const py_view *view, const char *rule, int ndim, const int64_t *wanted)
{
    char have[SHAPE_TEXT_BYTES], want[SHAPE_TEXT_BYTES];
    PyErr_Format(PyExc_ValueError, "%s has shape (%s), but it must be %s = (%s)", view->name, shape_text(view->ndim, view->shape, have),
                 rule, shape_text(ndim, wanted, want));
    return -1;
}

int fkdai_py_require_shape(const py_view *view, const char *rule, int ndim, const int64_t *wanted)
{
    int same = view->ndim == ndim;
    for (int i = 0; i < ndim && same; ++i) same = view->shape[i] == wanted[i];
    return same ? 0 : refuse_shape(view, rule, ndim, wanted);
}

int fkdai_py_require_ndim(const py_view *view, const char *rule, int ndim)
{
    if (view->ndim == ndim) return 0;
    char have[SHAPE_TEXT_BYTES];
    PyErr_Format(PyExc_ValueError, "%s has shape (%s), but it must be %s", view->name, shape_text(view->ndim, view->shape, have), rule);
    return -1;
}

/* A_log and dt_bias: axes of size 1 do not count, and [HV,K] may come as [HV*K]. */
static int require_parameter_shape(const py_view *view, const char *rule, int ndim, const int64_t *wanted)
{
    int64_t axes[PY_MAX_DIMS] = {1}, wanted_elements = 1;
    int count = 0;
    for (int i = 0; i < view->ndim; ++i)
        if (view->shape[i] != 1) axes[count++] = view->shape[i];
    for (int i = 0; i < ndim; ++i) wanted_elements *= wanted[i];
    int same = count <= 1 ? axes[0] == wanted_elements : count == ndim;
    for (int i = 0; i < count && count > 1 && same; ++i) same = axes[i] == wanted[i];
    return same ? 0 : refuse_shape(view, rule, ndim, wanted);
}

/* ---------------------------------------------------------------- layouts */

typedef enum layout { LAYOUT_PLAIN, LAYOUT_COPY, LAYOUT_OVERLAPS } layout;

/* Does an axis step over all that lies inside it, for every axis? A stride of 0 does not. */
static int overlaps_itself(const py_view *view)
{
    int order[PY_MAX_DIMS], count = 0;
    for (int i = 0; i < view->ndim; ++i) {
        if (view->shape[i] == 1) continue;
        int at = count++;
        for (; at > 0 && view->stride[order[at - 1]] > view->stride[i]; --at) order[at] = order[at - 1];
        order[at] = i;
    }
    int64_t span = 1;
    for (int i = 0; i < count; ++i) {
        if (view->stride[order[i]] < span) return 1;
        span += (view->shape[order[i]] - 1) * view->stride[order[i]];
    }
    return 0;
}

/* The last `inner` axes must lie row by row, the others anywhere. */
static layout layout_of(const py_view *view, int inner)
{
    if (view->is_empty) return LAYOUT_PLAIN;
    if (overlaps_itself(view)) return LAYOUT_OVERLAPS;
    int64_t step = 1;
    for (int i = view->ndim - 1; i >= view->ndim - inner; --i) {
        if (view->shape[i] != 1 && view->stride[i] != step) return LAYOUT_COPY;
        step *= view->shape[i];
    }
    return LAYOUT_PLAIN;
}

int fkdai_py_refuse_dtype(const py_view *view, const char *rule)
{
    PyObject *const dtype = PyObject_GetAttrString(view->tensor, "dtype");
    if (dtype == NULL) return -1;
    PyErr_Format(PyExc_TypeError, "%s has dtype %S, but it must be %s", view->name, dtype, rule);
    Py_DECREF(dtype);
    return -1;
}

static int is_index(py_argument argument)
{
    return argument == ARG_CU_SEQLENS || argument == ARG_CU_SEQLENS_CPU || argument == ARG_INITIAL_SLOTS || argument == ARG_FINAL_SLOTS ||
           argument == ARG_CHECKPOINT_OFFSETS || argument == ARG_CHECKPOINT_SLOTS;
}

static int check_kind(py_argument argument, const py_view *view)
{
    if (is_index(argument)) return view->dtype == FKDA_I32 || view->dtype == FKDA_I64 ? 0 : fkdai_py_refuse_dtype(view, "int32 or int64");
    if (argument == ARG_INITIAL_MASK) return !view->is_floating && view->item_bytes == 1 ? 0 : fkdai_py_refuse_dtype(view, "bool or uint8");
    return view->is_floating ? 0 : fkdai_py_refuse_dtype(view, "a floating point dtype");
}

int fkdai_py_take(py_call *call, py_argument argument, int inner, py_form *taken)
{
    const py_view *const view = &call->view[argument];
    if (check_kind(argument, view) < 0) return -1;
    if (view->is_negated && view->item_bytes == 1)    /* torch cannot negate these */
        return fkdai_py_refuse_dtype(view, "a floating point dtype of 16 bits or more, as the tensor has the negative bit");
    const layout lies = layout_of(view, inner);
    if (lies == LAYOUT_OVERLAPS && fkdai_py_is_output(argument)) {
        PyErr_Format(PyExc_ValueError, "%s has elements that share memory (an expanded tensor), so it cannot be written", view->name);
        return -1;
    }
    const int has_word = view->dtype != FKDA_NONE || argument == ARG_INITIAL_MASK;
    *taken = (py_form){view->dtype, view->data, lies != LAYOUT_PLAIN || !has_word || view->is_negated};
    if (!taken->is_copy) return 0;
    call->copies |= 1u << argument;
    taken->data = NULL;
    if (!has_word) taken->dtype = FKDA_F32;    /* which holds what the others hold, but for float64 */
    return 0;
}

/* ---------------------------------------------------------------- one rule per tensor */

int64_t fkdai_py_stride(const py_view *view, int axis) { return view->shape[axis] > 1 && !view->is_empty ? view->stride[axis] : 0; }

static int describe_tensor(py_call *call, py_argument argument, fkda_tensor_desc *desc, const void **data)
{
    py_form taken;
    const py_view *const view = &call->view[argument];
    const int inner = view->ndim == 4 ? 1 : 0;    /* beta [B,T,HV] has width 1 and no axis for it */
    if (fkdai_py_take(call, argument, inner, &taken) < 0) return -1;
    desc->dtype = taken.dtype;
    *data = taken.data;
    if (taken.is_copy) return 0;
    desc->batch_stride = fkdai_py_stride(view, 0);
    desc->token_stride = fkdai_py_stride(view, 1);
    desc->head_stride = fkdai_py_stride(view, 2);
    return 0;
}

static int describe_parameter(py_call *call, py_argument argument, const char *rule, int ndim, const int64_t *wanted, fkda_dtype *dtype,
                              const void **data)
{
    py_form taken;
    const py_view *const view = &call->view[argument];
    if (view->tensor == NULL) return 0;
    if (require_parameter_shape(view, rule, ndim, wanted) < 0 || fkdai_py_take(call, argument, view->ndim, &taken) < 0) return -1;
    *dtype = taken.dtype;
    *data = taken.data;
    return 0;
}

const py_view *fkdai_py_queries(const py_call *call) { return &call->view[call->view[ARG_Q].tensor != NULL ? ARG_Q : ARG_K]; }

static int describe_sizes(py_call *call)
{
    fkda_fwd_desc *const d = &call->desc;
    const py_view *const q = fkdai_py_queries(call), *const v = &call->view[ARG_V];
    if (fkdai_py_require_ndim(q, "[B,T,H,K]", 4) < 0 || fkdai_py_require_ndim(v, "[B,T,HV,V]", 4) < 0) return -1;
    d->B = q->shape[0];
    d->T = q->shape[1];
    d->H = q->shape[2];
    d->K = q->shape[3];
    d->HV = v->shape[2];
    d->V = v->shape[3];
    d->N = d->B;
    if (d->H < 1 || d->HV < 1 || d->HV % d->H != 0) {
        PyErr_Format(PyExc_ValueError, "v has %lld heads, but their number must be a positive multiple of the %lld heads of %s",
                     (long long)d->HV, (long long)d->H, q->name);
        return -1;
    }
    return fkdai_py_describe_lengths(call);
}

static int describe_tensors(py_call *call)
{
    fkda_fwd_desc *const d = &call->desc;
    fkda_fwd_args *const a = &call->args;
    const int64_t key[4] = {d->B, d->T, d->H, d->K}, value[4] = {d->B, d->T, d->HV, d->V}, gate[4] = {d->B, d->T, d->HV, d->K};
    const void *out = NULL;
    const int has_q = call->view[ARG_Q].tensor != NULL, has_out = call->view[ARG_OUT].tensor != NULL;
    if (has_q != has_out) {
        PyErr_Format(PyExc_ValueError, "%s is None, but %s is given: queries are for outputs", has_q ? "out" : "q", has_q ? "q" : "out");
        return -1;
    }
    if (fkdai_py_require_shape(&call->view[ARG_K], "[B,T,H,K]", 4, key) < 0 || fkdai_py_require_shape(&call->view[ARG_V], "[B,T,HV,V]", 4, value) < 0 ||
        fkdai_py_require_shape(&call->view[ARG_G], "[B,T,HV,K]", 4, gate) < 0 || fkdai_py_require_shape(&call->view[ARG_BETA], "[B,T,HV]", 3, gate) < 0 ||
        (has_out && fkdai_py_require_shape(&call->view[ARG_OUT], "[B,T,HV,V]", 4, value) < 0))
        return -1;
    if ((has_q && describe_tensor(call, ARG_Q, &d->q, &a->q) < 0) || describe_tensor(call, ARG_K, &d->k, &a->k) < 0 ||
        describe_tensor(call, ARG_V, &d->v, &a->v) < 0 || describe_tensor(call, ARG_G, &d->g, &a->g) < 0 ||
        describe_tensor(call, ARG_BETA, &d->beta, &a->beta) < 0 || (has_out && describe_tensor(call, ARG_OUT, &d->out, &out) < 0))
        return -1;
    if (!has_q) d->q = d->k, d->out = d->v, d->flags |= FKDA_FLAG_NO_OUT;
    a->out = out == NULL ? NULL : call->view[ARG_OUT].data;
    return 0;
}

/* ---------------------------------------------------------------- all of them together */

/* The library copies what it must, where its desc has room for that. */
static void describe_addresses(py_call *call)
{
    const fkda_fwd_args *const a = &call->args;
    const struct { const void *data; fkda_arg bit; } all[] = {
        {a->q, FKDA_ARG_Q}, {a->k, FKDA_ARG_K}, {a->v, FKDA_ARG_V}, {a->g, FKDA_ARG_G}, {a->out, FKDA_ARG_OUT},
        {a->initial_state, FKDA_ARG_INITIAL_STATE}, {a->final_state, FKDA_ARG_FINAL_STATE}, {a->checkpoint_state, FKDA_ARG_CHECKPOINT_STATE}};
    if (call->desc.memory != FKDA_MEMORY_CUDA) return;
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        if ((uintptr_t)all[i].data % FKDA_COPY_ALIGN != 0) call->desc.unaligned |= 1u << all[i].bit;
}

static int check_devices(const py_call *call)
{
    const py_view *const q = fkdai_py_queries(call);
    for (int i = 0; i < PY_WORDS; ++i) {
        const py_view *const view = &call->view[i];
        if (view->tensor == NULL || i == ARG_CU_SEQLENS_CPU || (view->memory == q->memory && view->device == q->device)) continue;
        PyObject *const have = PyObject_GetAttrString(view->tensor, "device"), *const want = PyObject_GetAttrString(q->tensor, "device");
        if (have != NULL && want != NULL)
            PyErr_Format(PyExc_ValueError, "%s is on device %S, but %s is on %S: all tensors must be on one device", view->name, have, q->name, want);
        Py_XDECREF(have);
        Py_XDECREF(want);
        return -1;
    }
    return 0;
}

int fkdai_py_describe(py_call *call)
{
    fkda_fwd_desc *const d = &call->desc;
    const py_view *const q = fkdai_py_queries(call);
    d->struct_size = sizeof *d;
    call->args.struct_size = sizeof call->args;
    if (check_devices(call) < 0 || describe_sizes(call) < 0 || describe_tensors(call) < 0) return -1;
    d->memory = q->memory;
    d->device = q->device;

    const int64_t bias[2] = {d->HV, d->K};
    if (fkdai_py_describe_states(call) < 0 || describe_parameter(call, ARG_A_LOG, "[HV]", 1, bias, &d->A_log, &call->args.A_log) < 0)
        return -1;
    describe_addresses(call);
    return describe_parameter(call, ARG_DT_BIAS, "[HV,K] or [HV*K]", 2, bias, &d->dt_bias, &call->args.dt_bias);
}

/*
 * States -> their part of fkda_fwd_desc and fkda_fwd_args. A state that comes with slots is a pool: its first axis counts slots, any distance apart.
 */
#include "py_core.h"

/* ---------------------------------------------------------------- states and their slots */

static int is_given(const py_call *call, py_argument argument) { return call->view[argument].tensor != NULL; }

int fkdai_py_refuse_alone(const py_call *call, py_argument argument, const char *missing)
{
    PyErr_Format(PyExc_ValueError, "%s is given, but %s is not", call->view[argument].name, missing);
    return -1;
}

const char *fkdai_py_state_rule(const py_call *call, const char *v_first, const char *k_first)
{
    return call->state_layout == FKDA_STATE_NHVK ? v_first : k_first;
}

/* rows: of a dense state, or -1: any number. */
static int describe_state(py_call *call, py_argument argument, int64_t rows, const char *rule, fkda_state_desc *desc, const void **data)
{
    py_form taken;
    const py_view *const view = &call->view[argument];
    const int64_t K = call->desc.K, V = call->desc.V;
    const int is_v_first = call->state_layout == FKDA_STATE_NHVK;
    const int64_t wanted[4] = {rows < 0 && view->ndim > 0 ? view->shape[0] : rows, call->desc.HV, is_v_first ? V : K, is_v_first ? K : V};
    if (fkdai_py_require_shape(view, rule, 4, wanted) < 0 || fkdai_py_take(call, argument, 3, &taken) < 0) return -1;
    desc->dtype = taken.dtype;
    desc->layout = call->state_layout;
    desc->row_stride = taken.is_copy ? 0 : fkdai_py_stride(view, 0);
    *data = taken.data;
    return 0;
}

/* An array of `count` indices, or a mask. */
static int describe_array(py_call *call, py_argument argument, const char *rule, int64_t count, fkda_dtype *dtype, const void **data)
{
    py_form taken;
    if (fkdai_py_require_shape(&call->view[argument], rule, 1, &count) < 0 || fkdai_py_take(call, argument, 1, &taken) < 0) return -1;
    *dtype = taken.dtype;
    *data = taken.data;
    return 0;
}

static int describe_pool(py_call *call, py_argument state, py_argument slots, const char *rule, int64_t count, fkda_state_desc *desc,
                         const void **slot_data)
{
    desc->slot_count = call->view[state].shape[0];
    if (desc->slot_count == 0) {
        PyErr_Format(PyExc_ValueError, "%s has no slots, but %s is given", call->view[state].name, call->view[slots].name);
        return -1;
    }
    return describe_array(call, slots, rule, count, &desc->slot_dtype, slot_data);
}

/* [N,C], its rows any distance apart, which the caller asks the view for. */
static int describe_slot_rows(py_call *call, py_argument slots, fkda_state_desc *desc, const void **data)
{
    py_form taken;
    const py_view *const view = &call->view[slots];
    const int64_t wanted[2] = {call->desc.N, view->ndim == 2 ? view->shape[1] : call->desc.T};
    if (fkdai_py_require_shape(view, "[N,C]", 2, wanted) < 0 || fkdai_py_take(call, slots, 1, &taken) < 0) return -1;
    desc->slot_dtype = taken.dtype;
    *data = taken.data;
    return 0;
}

/* The state of every sequence: [N,HV,V,K], or a pool. */
static int describe_sequences(py_call *call, py_argument state, py_argument slots, fkda_state_desc *desc, const void **data,
                              const void **slot_data)
{
    const int64_t N = call->desc.N;
    if (!is_given(call, state)) return is_given(call, slots) ? fkdai_py_refuse_alone(call, slots, call->view[state].name) : 0;
    if (!is_given(call, slots)) return describe_state(call, state, N, fkdai_py_state_rule(call, "[N,HV,V,K]", "[N,HV,K,V]"), desc, data);
    if (describe_state(call, state, -1, fkdai_py_state_rule(call, "[slots,HV,V,K]", "[slots,HV,K,V]"), desc, data) < 0) return -1;
    if (!call->has_slot_rows) return describe_pool(call, state, slots, "[N]", N, desc, slot_data);
    desc->slot_count = call->view[state].shape[0];
    return describe_slot_rows(call, slots, desc, slot_data);
}

/* ---------------------------------------------------------------- checkpoints */

/* [N] or [N,C]. */
static int describe_offsets(py_call *call)
{
    py_form taken;
    fkda_fwd_desc *const d = &call->desc;
    const py_view *const view = &call->view[ARG_CHECKPOINT_OFFSETS];
    const int64_t wanted[2] = {d->N, view->ndim == 2 ? view->shape[1] : 1};
    if (fkdai_py_require_shape(view, view->ndim == 2 ? "[N,C]" : "[N]", view->ndim == 2 ? 2 : 1, wanted) < 0) return -1;
    if (wanted[1] == 0) {
        PyErr_Format(PyExc_ValueError, "%s has no columns: leave checkpoint_state out where there are no checkpoints", view->name);
        return -1;
    }
    if (fkdai_py_take(call, ARG_CHECKPOINT_OFFSETS, view->ndim, &taken) < 0) return -1;
    d->checkpoints_per_sequence = wanted[1];
    d->checkpoint_offset_dtype = taken.dtype;
    call->args.checkpoint_offsets = taken.data;
    return 0;
}

static int describe_checkpoints(py_call *call)
{
    fkda_fwd_desc *const d = &call->desc;
    const int has_offsets = is_given(call, ARG_CHECKPOINT_OFFSETS), has_slots = is_given(call, ARG_CHECKPOINT_SLOTS);
    const void *data = NULL;
    if (!is_given(call, ARG_CHECKPOINT_STATE)) {
        if (has_offsets) return fkdai_py_refuse_alone(call, ARG_CHECKPOINT_OFFSETS, "checkpoint_state");
        if (has_slots) return fkdai_py_refuse_alone(call, ARG_CHECKPOINT_SLOTS, "checkpoint_state");
        if (d->checkpoint_every == 0) return 0;
        PyErr_SetString(PyExc_ValueError, "checkpoint_every is given, but checkpoint_state is not");
        return -1;
    }
    if (has_offsets == (d->checkpoint_every > 0)) {
        PyErr_SetString(PyExc_ValueError, has_offsets ? "checkpoint_offsets and checkpoint_every are both given, but one says where checkpoints are"
                        : "checkpoint_state is given, but neither checkpoint_offsets nor checkpoint_every says where checkpoints are");
        return -1;
    }
    if (has_offsets && describe_offsets(call) < 0) return -1;
    const char *const rule = has_slots ? fkdai_py_state_rule(call, "[slots,HV,V,K]", "[slots,HV,K,V]")
                                       : fkdai_py_state_rule(call, "[rows,HV,V,K]", "[rows,HV,K,V]");
    if (describe_state(call, ARG_CHECKPOINT_STATE, -1, rule, &d->checkpoints, &data) < 0) return -1;
    d->checkpoint_count = call->view[ARG_CHECKPOINT_STATE].shape[0];
    call->args.checkpoint_state = data == NULL ? NULL : call->view[ARG_CHECKPOINT_STATE].data;
    if (!has_slots) return 0;
    const py_view *const slots = &call->view[ARG_CHECKPOINT_SLOTS];
    d->checkpoint_count = slots->ndim > 0 ? slots->shape[0] : 0;
    return describe_pool(call, ARG_CHECKPOINT_STATE, ARG_CHECKPOINT_SLOTS, "[rows]", d->checkpoint_count, &d->checkpoints,
                         &call->args.checkpoint_slots);
}

/* ---------------------------------------------------------------- all of them */

int fkdai_py_describe_states(py_call *call)
{
    fkda_fwd_desc *const d = &call->desc;
    fkda_fwd_args *const a = &call->args;
    const void *final_state = NULL, *mask = NULL;
    fkda_dtype mask_dtype;
    if (describe_sequences(call, ARG_INITIAL_STATE, ARG_INITIAL_SLOTS, &d->initial_state, &a->initial_state, &a->initial_slots) < 0 ||
        describe_sequences(call, ARG_FINAL_STATE, ARG_FINAL_SLOTS, &d->final_state, &final_state, &a->final_slots) < 0)
        return -1;
    a->final_state = final_state == NULL ? NULL : call->view[ARG_FINAL_STATE].data;
    if (is_given(call, ARG_INITIAL_MASK)) {
        if (describe_array(call, ARG_INITIAL_MASK, "[N]", d->N, &mask_dtype, &mask) < 0) return -1;
        d->flags |= FKDA_FLAG_INITIAL_MASK;
        a->initial_mask = mask;
    }
    return call->is_decode ? 0 : describe_checkpoints(call);
}

/*
 * What torch's autograd must know of a call.
 *
 * There is no backward and no forward-mode rule: where torch would have wanted a derivative, fwd refuses rather than return a result
 * that autograd does not know about. Under torch.no_grad() torch still carries forward-mode tangents; under torch.inference_mode() not.
 *
 * A write in place counts in the version of a tensor, so that a backward pass that saved the tensor before says that it has changed.
 */
#include "py_core.h"

int fkdai_py_is_true(PyObject *object)
{
    const int truth = object == NULL ? -1 : PyObject_IsTrue(object);
    Py_XDECREF(object);
    return truth;
}

/* ---------------------------------------------------------------- derivatives */

typedef struct modes {
    int backward, forward;
} modes;

static int forward_mode_is_on(const py_core *core)
{
    PyObject *const level = PyDict_GetItemWithError(core->objects[OBJECT_FORWARD_AD_NAMES], core->names[NAME_CURRENT_LEVEL]);    /* borrowed */
    if (level == NULL && PyErr_Occurred()) return -1;
    const long value = level == NULL ? 0 : PyLong_AsLong(level);
    if (value == -1 && PyErr_Occurred()) return -1;
    if (value < 0) return 0;
    PyObject *const is_enabled = core->objects[OBJECT_IS_FWD_GRAD_ENABLED];
    return is_enabled == NULL ? 1 : fkdai_py_is_true(PyObject_CallNoArgs(is_enabled));
}

static int has_tangent(const py_core *core, PyObject *tensor)
{
    PyObject *const pair = PyObject_CallFunctionObjArgs(core->objects[OBJECT_UNPACK_DUAL], tensor, NULL);
    PyObject *const tangent = pair == NULL ? NULL : PySequence_GetItem(pair, 1);
    Py_XDECREF(pair);
    Py_XDECREF(tangent);
    return tangent == NULL ? -1 : tangent != Py_None;
}

static int check_tensor(const py_core *core, modes on, const char *name, PyObject *tensor)
{
    const int requires_grad = on.backward ? fkdai_py_is_true(PyObject_GetAttr(tensor, core->names[NAME_REQUIRES_GRAD])) : 0;
    if (requires_grad > 0)
        PyErr_Format(PyExc_RuntimeError, "%s requires grad, but flash_kda has no backward: call fwd under torch.no_grad() or "
                     "torch.inference_mode()", name);
    if (requires_grad != 0) return -1;
    const int is_dual = on.forward ? has_tangent(core, tensor) : 0;
    if (is_dual > 0)
        PyErr_Format(PyExc_RuntimeError, "%s has a forward-mode tangent, but flash_kda has no derivative: call fwd under "
                     "torch.inference_mode(), or with the primal of the tensor", name);
    return is_dual != 0 ? -1 : 0;
}

int fkdai_py_derivative_modes(const py_core *core, int asked)
{
    const modes on = {asked & PY_BACKWARD ? fkdai_py_is_true(PyObject_CallNoArgs(core->objects[OBJECT_IS_GRAD_ENABLED])) : 0,
                      asked & PY_FORWARD ? forward_mode_is_on(core) : 0};
    return on.backward < 0 || on.forward < 0 ? -1 : (on.backward ? PY_BACKWARD : 0) | (on.forward ? PY_FORWARD : 0);
}

int fkdai_py_check_derivatives(py_core *core, const py_call *call, PyObject *scale, PyObject *lower_bound)
{
    const int all = fkdai_py_derivative_modes(core, PY_BACKWARD | PY_FORWARD);
    if (all <= 0) return all;
    const modes on = {all & PY_BACKWARD, all & PY_FORWARD};
    const modes of_tensors = {on.backward && !call->asks_no_grad, on.forward};
    for (int i = 0; i < PY_WORDS && (of_tensors.backward || of_tensors.forward); ++i)
        if (call->view[i].tensor != NULL && check_tensor(core, of_tensors, call->view[i].name, call->view[i].tensor) < 0) return -1;
    const int is_tensor[2] = {fkdai_py_is_tensor(core, scale), fkdai_py_is_tensor(core, lower_bound)};
    if (is_tensor[0] && check_tensor(core, on, "scale", scale) < 0) return -1;
    return is_tensor[1] ? check_tensor(core, on, "lower_bound", lower_bound) : 0;
}

/* ---------------------------------------------------------------- versions */

/* An older torch: one tensor a call, and inference tensors, which have no version, are refused. */
static int count_one(const py_core *core, PyObject *tensor)
{
    const int is_inference = fkdai_py_is_true(PyObject_CallMethodObjArgs(tensor, core->names[NAME_IS_INFERENCE], NULL));
    if (is_inference != 0) return is_inference < 0 ? -1 : 0;
    PyObject *const done = PyObject_CallFunctionObjArgs(core->objects[OBJECT_INCREMENT_VERSION], tensor, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Consumes `done`, which may be NULL after a failed call. */
static int is_done(PyObject *done)
{
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int fkdai_py_count_writes(const py_core *core, const py_call *call)
{
    PyObject *const outputs[] = {call->view[ARG_OUT].tensor, call->view[ARG_FINAL_STATE].tensor, call->view[ARG_CHECKPOINT_STATE].tensor};
    PyObject *written[3] = {NULL};
    int count = 0;
    for (int i = 0; i < 3; ++i)
        if (outputs[i] != NULL) written[count++] = outputs[i];
    return fkdai_py_count_these(core, written, count);
}

int fkdai_py_count_these(const py_core *core, PyObject *const *written, int count)
{
    int done = 0;
    if (count == 0) return 0;
    if (core->counts_lists) {
        PyObject *const list = count == 1 ? PyTuple_Pack(1, written[0]) : count == 2 ? PyTuple_Pack(2, written[0], written[1])
                                                                                  : PyTuple_Pack(3, written[0], written[1], written[2]);
        done = list == NULL ? -1 : is_done(PyObject_CallFunctionObjArgs(core->objects[OBJECT_INCREMENT_VERSION], list, NULL));
        Py_XDECREF(list);
        return done;
    }
    for (int i = 0; i < count && done == 0; ++i) done = count_one(core, written[i]);
    return done;
}

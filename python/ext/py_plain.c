/*
 * Do tensors have the negative bit? Does one of them require grad?
 *
 * Asked one by one, eleven tensors cost more than all else of a call. torch can say in one question whether tensors are of the kind that others
 * were (torch._C._dynamo.guards.TensorGuards: class, dispatch keys, which the negative bit is one of, dtype, device, number of axes, requires_grad),
 * whatever their sizes and addresses are. So once the tensors of a call have been found plain one by one, the next ones are compared with these.
 * The comparison holds no tensor. It is private to torch: it is used where it is seen to tell (py_torch.c), else tensors are asked one by one.
 */
#include "py_core.h"

enum { PATIENCE = 16 };    /* calls of other kinds in a row, before one is learnt: that costs more than a whole call */

/* Tensors, each once, as a new tuple. A state that is written in place is one tensor. NULL stands for none. */
static PyObject *all_tensors(PyObject *const *given, int given_count)
{
    PyObject *list[PY_MOST_ARGUMENTS];
    int count = 0;
    for (int i = 0; i < given_count; ++i) {
        PyObject *const tensor = given[i];
        int is_new = tensor != NULL;
        for (int j = 0; j < count && is_new; ++j) is_new = list[j] != tensor;
        if (is_new) list[count++] = tensor;
    }
    PyObject *const tensors = PyTuple_New(count);
    for (int i = 0; i < count && tensors != NULL; ++i) {
        Py_INCREF(list[i]);
        PyTuple_SetItem(tensors, i, list[i]);
    }
    return tensors;
}

/* 1: all are of the kind that `check` knows. Other numbers of tensors are an error to it. */
static int is_known(PyObject *check, PyObject *tensors)
{
    PyObject *const answer = PyObject_Call(check, tensors, NULL);
    const int is_true = answer == Py_True;
    Py_XDECREF(answer);
    if (answer == NULL) PyErr_Clear();
    return is_true;
}

/* A list of one list [None] * ndim for each tensor: of any size. */
static PyObject *any_sizes(PyObject *tensors, const py_core *core)
{
    const Py_ssize_t count = PyTuple_Size(tensors);
    PyObject *const all = PyList_New(0);
    for (Py_ssize_t i = 0; i < count && all != NULL; ++i) {
        PyObject *const shape = PyObject_GetAttr(PyTuple_GetItem(tensors, i), core->names[NAME_SHAPE]);
        const Py_ssize_t ndim = shape == NULL ? -1 : PySequence_Size(shape);
        PyObject *const sizes = ndim < 0 ? NULL : PyList_New(0);
        int status = sizes == NULL ? -1 : 0;
        for (Py_ssize_t axis = 0; axis < ndim && status == 0; ++axis) status = PyList_Append(sizes, Py_None);
        if (status == 0) status = PyList_Append(all, sizes);
        Py_XDECREF(shape);
        Py_XDECREF(sizes);
        if (status == 0) continue;
        Py_DECREF(all);
        return NULL;
    }
    return all;
}

PyObject *fkdai_py_kind_of(const py_core *core, PyObject *tensors)
{
    PyObject *const sizes = any_sizes(tensors, core);
    PyObject *const options = sizes == NULL ? NULL : Py_BuildValue("{sOsO}", "dynamic_dims_sizes", sizes, "dynamic_dims_strides", sizes);
    PyObject *const guards = options == NULL ? NULL : PyObject_Call(core->objects[OBJECT_TENSOR_GUARDS], tensors, options);
    PyObject *const check = guards == NULL ? NULL : PyObject_GetAttrString(guards, "check");
    Py_XDECREF(sizes);
    Py_XDECREF(options);
    Py_XDECREF(guards);
    if (check == NULL) PyErr_Clear();
    return check;
}

int fkdai_py_guards_tell(const py_core *core, PyObject *plain, PyObject *other)
{
    PyObject *const two[2] = {PyTuple_Pack(1, plain), PyTuple_Pack(1, other)};
    PyObject *const check = two[0] == NULL || two[1] == NULL ? NULL : fkdai_py_kind_of(core, two[0]);
    const int tell = check != NULL && is_known(check, two[0]) && !is_known(check, two[1]);
    for (int i = 0; i < 2; ++i) Py_XDECREF(two[i]);
    Py_XDECREF(check);
    return tell;
}

/* The tensors are plain: the next ones of their kind will be, too. */
static void learn(const py_core *core, py_kind *kind, PyObject *tensors)
{
    PyObject *const check = fkdai_py_kind_of(core, tensors);
    int requires_grad = 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(tensors) && requires_grad >= 0; ++i) {
        const int one = fkdai_py_is_true(PyObject_GetAttr(PyTuple_GetItem(tensors, i), core->names[NAME_REQUIRES_GRAD]));
        requires_grad = one < 0 ? -1 : requires_grad | one;
    }
    PyErr_Clear();
    PyObject *const useless = requires_grad < 0 ? check : kind->check;
    if (requires_grad >= 0) kind->check = check, kind->requires_grad = requires_grad;
    Py_XDECREF(useless);
}

/* 1: no tensor has the bit. */
static int ask_one_by_one(const py_core *core, py_call *call)
{
    int any = 0;
    for (int i = 0; i < PY_WORDS; ++i) {
        py_view *const view = &call->view[i];
        if (view->tensor == NULL) continue;
        view->is_negated = fkdai_py_is_negated(core, view->tensor);
        if (view->is_negated < 0) return fkdai_py_refuse_tensor(core, view);
        any |= view->is_negated;
    }
    return !any;
}

int fkdai_py_look_at_bits(py_core *core, py_call *call)
{
    py_kind *const kind = &core->plain;
    if (core->objects[OBJECT_TENSOR_GUARDS] == NULL) return ask_one_by_one(core, call) < 0 ? -1 : 0;
    PyObject *given[PY_WORDS];
    for (int i = 0; i < PY_WORDS; ++i) given[i] = call->view[i].tensor;
    PyObject *const tensors = all_tensors(given, PY_WORDS);
    if (tensors == NULL) return -1;
    const int is_plain = kind->check != NULL && is_known(kind->check, tensors);
    if (is_plain) call->asks_no_grad = !kind->requires_grad;
    const int answer = is_plain ? 1 : ask_one_by_one(core, call);
    const int is_time = is_plain || kind->patience == 0;
    kind->patience = is_time ? PATIENCE : kind->patience - 1;
    if (is_time && !is_plain && answer == 1) learn(core, kind, tensors);
    Py_DECREF(tensors);
    return answer < 0 ? -1 : 0;
}

int fkdai_py_are_of_kind(const py_core *core, py_kind *kind, PyObject *const *given, int count)
{
    int are = kind->check != NULL;
    PyObject *const tensors = all_tensors(given, count);
    if (tensors == NULL) PyErr_Clear();
    if (tensors != NULL && !are) {
        for (int i = 0; i < count; ++i)
            if (fkdai_py_is_negated(core, given[i]) != 0) break;
            else are = i == count - 1;
        PyErr_Clear();
        if (are) learn(core, kind, tensors);
        are = are && kind->check != NULL;
    }
    are = tensors != NULL && are && is_known(kind->check, tensors);
    Py_XDECREF(tensors);
    return are;
}

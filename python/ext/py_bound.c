/*
 * flash_kda._core.Bound: a call that is made again and again on the same weights and states (flash_kda.bind).
 *
 * It holds the arguments that do not change and a recipe of its own (py_recipe.c), which it takes from the first of its calls. A later one compares
 * where its tensors lie and asks torch about those alone that the call brings. Where that is not enough, it is made anew by `otherwise`.
 */
#include "py_core.h"

typedef struct bound {
    PyObject ob_base;
    const py_operation *operation;
    PyObject *otherwise;
    Py_ssize_t count;
    PyObject *held[PY_MOST_ARGUMENTS];    /* None where a call brings a tensor */
    int given_count;
    int given[PY_MOST_ARGUMENTS];         /* positions */
    py_recipe recipe;
} bound;

/* ---------------------------------------------------------------- making one */

static const py_operation *find_operation(PyObject *name)
{
    static const py_operation *const all[] = {&fkdai_py_op_fwd, &fkdai_py_op_decode, &fkdai_py_op_decode_fused};
    for (int i = 0; i < PY_OPERATIONS; ++i)
        if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, all[i]->name) == 0) return all[i];
    PyErr_Format(PyExc_ValueError, "no operation %R", name);
    return NULL;
}

/* Positions, each of an argument. */
static int read_given(bound *b, PyObject *given)
{
    b->given_count = (int)PyTuple_Size(given);
    for (int i = 0; i < b->given_count; ++i) {
        const long position = PyLong_AsLong(PyTuple_GetItem(given, i));
        if (position == -1 && PyErr_Occurred()) return -1;
        if (position < 0 || position >= b->count) {
            PyErr_Format(PyExc_ValueError, "no argument %ld", position);
            return -1;
        }
        b->given[i] = (int)position;
    }
    return 0;
}

PyObject *fkdai_py_bind(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    const py_core *const core = PyModule_GetState(module);
    if (count != 4 || !PyTuple_Check(arguments[1]) || !PyTuple_Check(arguments[2]) || PyTuple_Size(arguments[1]) > PY_MOST_ARGUMENTS ||
        PyTuple_Size(arguments[2]) > PyTuple_Size(arguments[1])) {
        PyErr_SetString(PyExc_TypeError, "_core.bind takes a name, two tuples and a function");
        return NULL;
    }
    const py_operation *const operation = find_operation(arguments[0]);
    bound *const b = operation == NULL ? NULL : (bound *)PyType_GenericAlloc((PyTypeObject *)core->bound_type, 0);    /* all zero */
    if (b == NULL) return NULL;
    b->operation = operation, b->count = PyTuple_Size(arguments[1]);
    Py_INCREF(arguments[3]);
    b->otherwise = arguments[3];
    for (Py_ssize_t i = 0; i < b->count; ++i) {
        b->held[i] = PyTuple_GetItem(arguments[1], i);
        Py_INCREF(b->held[i]);
    }
    if (read_given(b, arguments[2]) == 0) return (PyObject *)b;
    Py_DECREF((PyObject *)b);
    return NULL;
}

/* ---------------------------------------------------------------- calling it */

static PyObject *call(PyObject *self, PyObject *tensors, PyObject *keywords)
{
    bound *const b = (bound *)self;
    py_core *const core = PyType_GetModuleState(Py_TYPE(self));
    PyObject *all[PY_MOST_ARGUMENTS], *given[PY_MOST_ARGUMENTS];
    if ((keywords != NULL && PyDict_Size(keywords) > 0) || PyTuple_Size(tensors) != b->given_count) {
        PyErr_Format(PyExc_TypeError, "this bound %s takes %d tensors by position, those that were named to bind", b->operation->name, b->given_count);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < b->count; ++i) all[i] = b->held[i];
    for (int i = 0; i < b->given_count; ++i) all[b->given[i]] = given[i] = PyTuple_GetItem(tensors, i);
    const py_bound_call it = {.operation = b->operation, .arguments = all, .count = b->count, .given = given, .given_count = b->given_count};
    const int ran = fkdai_py_run_bound(core, &b->recipe, &it);
    if (ran < 0) return NULL;
    if (ran > 0) Py_RETURN_NONE;
    if (b->otherwise == NULL) return PyErr_Format(PyExc_RuntimeError, "this bound %s has been torn down", b->operation->name);    /* by the collector */
    PyObject *const answer = PyObject_Call(b->otherwise, tensors, NULL);
    if (answer != NULL) fkdai_py_adopt(core, &it, &b->recipe);
    return answer;
}

/* ---------------------------------------------------------------- the type */

static int traverse(PyObject *self, visitproc visit, void *arg)
{
    const bound *const b = (const bound *)self;
    Py_VISIT((PyObject *)Py_TYPE(self));
    Py_VISIT(b->otherwise);
    Py_VISIT(b->recipe.plain.check);
    for (Py_ssize_t i = 0; i < b->count; ++i) Py_VISIT(b->held[i]);
    return 0;
}

static int clear(PyObject *self)
{
    bound *const b = (bound *)self;
    Py_CLEAR(b->otherwise);
    for (Py_ssize_t i = 0; i < b->count; ++i) Py_CLEAR(b->held[i]);
    fkdai_py_forget_recipe(&b->recipe);
    b->count = 0;
    return 0;
}

static void destroy(PyObject *self)
{
    PyTypeObject *const type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    clear(self);
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)type);
}

static PyType_Slot slots[] = {
    {Py_tp_call, (void *)(uintptr_t)call},
    {Py_tp_traverse, (void *)(uintptr_t)traverse},
    {Py_tp_clear, (void *)(uintptr_t)clear},
    {Py_tp_dealloc, (void *)(uintptr_t)destroy},
    {Py_tp_doc, (void *)(uintptr_t)"A call that holds what does not change: flash_kda.bind makes it."},
    {0, NULL},
};

PyType_Spec fkdai_py_bound_spec = {
    .name = "flash_kda._core.Bound", .basicsize = sizeof(bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION, .slots = slots,
};

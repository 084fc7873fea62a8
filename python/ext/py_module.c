/* The module flash_kda._core: its functions and its state. */
#include "py_core.h"

static PyObject *use_exchange_table(PyObject *module, PyObject *wanted)
{
    py_core *const core = PyModule_GetState(module);
    const int truth = PyObject_IsTrue(wanted);
    if (truth < 0 || fkdai_py_find_torch(core) < 0) return NULL;
    core->exchange_hidden = !truth;
    return PyBool_FromLong(core->exchange != NULL && truth);
}

static PyObject *known_calls(PyObject *module, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((const py_core *)PyModule_GetState(module))->known_calls);
}

static PyObject *bound_calls(PyObject *module, PyObject *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((const py_core *)PyModule_GetState(module))->bound_calls);
}

static void forget_recipes(py_core *core)
{
    for (int i = 0; i < PY_OPERATIONS * PY_RECIPES; ++i) fkdai_py_forget_recipe(&core->recipes[i / PY_RECIPES][i % PY_RECIPES]);
}

static PyObject *forget_calls(PyObject *module, PyObject *unused)
{
    (void)unused;
    forget_recipes(PyModule_GetState(module));
    Py_RETURN_NONE;
}

#define FASTCALL(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"fwd", FASTCALL(fkdai_py_fwd), METH_FASTCALL, "The arguments of flash_kda.fwd by position; those behind cu_seqlens may be left out. None: "
     "it ran. Otherwise nothing was written, and {i: dtype} says that argument i must be replaced by a contiguous copy in that dtype, or in its "
     "own where dtype is None; see _copies.py."},
    {"query", FASTCALL(fkdai_py_query), METH_FASTCALL, "Would fwd take these arguments? Nothing runs. Its dict of copies, which may be empty, or "
     "its exception. out may be any tensor of its shape, dtype and device."},
    {"decode", FASTCALL(fkdai_py_decode), METH_FASTCALL, "The arguments of flash_kda.decode by position, all of them."},
    {"query_decode", FASTCALL(fkdai_py_query_decode), METH_FASTCALL, "Would decode take these arguments? Nothing runs. None, or its exception."},
    {"decode_fused", FASTCALL(fkdai_py_decode_fused), METH_FASTCALL, "q, k, v, g, beta, scale, out, A_log, dt_bias, lower_bound, state, slots, "
     "initial_mask, slot_null, norm_eps, conv_weight and conv_bias of q, k, v, conv_state, output_gate, norm_weight; gate ... state_layout as in fwd."},
    {"bind", FASTCALL(fkdai_py_bind), METH_FASTCALL, "bind(name, arguments, given, otherwise): a Bound. arguments: of the function of this name, as a "
     "tuple; None at the positions `given`, a tuple of ints, whose tensors every call of the Bound brings. otherwise(*tensors) makes the call anew."},
    {"last_plan", fkdai_py_last_plan, METH_NOARGS, "The plan of this thread's last fwd, decode or decode_fused, or an empty string."},
    {"backends", fkdai_py_backends, METH_NOARGS, "[(name, is it available, what it runs on or why it is off)], best first."},
    {"workspace_size", FASTCALL(fkdai_py_workspace_size), METH_FASTCALL, "workspace_size(T_total, H, N): bytes."},
    {"_use_exchange_table", use_exchange_table, METH_O, "False: read tensors attribute by attribute, as with a torch that has no "
     "exchange table. Returns whether the table is used from now on. For tests."},
    {"_known_calls", known_calls, METH_NOARGS, "So many calls have run as one before them (py_recipe.c). For tests."},
    {"_bound_calls", bound_calls, METH_NOARGS, "So many of them were calls of a Bound by a recipe of its own. For tests."},
    {"_forget_calls", forget_calls, METH_NOARGS, "No call is known any more: the next one is planned anew, by the environment as it is then. For measuring."},
    {NULL, NULL, 0, NULL},
};

static int execute(PyObject *module)
{
    if (fkdai_py_intern_names(PyModule_GetState(module)) < 0) return -1;
    py_core *const core = PyModule_GetState(module);
    core->bound_type = PyType_FromModuleAndSpec(module, &fkdai_py_bound_spec, NULL);
    if (core->bound_type == NULL || PyModule_AddObjectRef(module, "Bound", core->bound_type) < 0) return -1;
    if (PyModule_AddStringConstant(module, "version", fkda_version_string()) < 0) return -1;
    return PyModule_AddStringConstant(module, "build_info", fkda_build_info());
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    const py_core *const core = PyModule_GetState(module);
    if (core == NULL) return 0;
    for (int i = 0; i < PY_OBJECT_COUNT; ++i) Py_VISIT(core->objects[i]);
    for (int i = 0; i < PY_DTYPE_COUNT; ++i) Py_VISIT(core->dtypes[i]);
    Py_VISIT(core->plain.check);
    Py_VISIT(core->bound_type);
    for (int i = 0; i < PY_OPERATIONS * PY_RECIPES; ++i) Py_VISIT(core->recipes[i / PY_RECIPES][i % PY_RECIPES].plain.check);
    return 0;
}

static int clear(PyObject *module)
{
    py_core *const core = PyModule_GetState(module);
    if (core == NULL) return 0;
    core->has_torch = 0;
    for (int i = 0; i < PY_OBJECT_COUNT; ++i) Py_CLEAR(core->objects[i]);
    for (int i = 0; i < PY_DTYPE_COUNT; ++i) Py_CLEAR(core->dtypes[i]);
    for (int i = 0; i < PY_NAME_COUNT; ++i) Py_CLEAR(core->names[i]);
    Py_CLEAR(core->plain.check);
    Py_CLEAR(core->bound_type);
    forget_recipes(core);
    fkdai_py_free_scratch(core);
    return 0;
}

static void destroy(void *module) { clear(module); }

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)(uintptr_t)execute},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "flash_kda._core", "flash_kda over the C API of flashkda.h.", sizeof(py_core), methods, slots, traverse, clear,
    destroy,
};

PyMODINIT_FUNC PyInit__core(void);
PyMODINIT_FUNC PyInit__core(void) { return PyModuleDef_Init(&definition); }

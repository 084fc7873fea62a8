/* Why a tensor cannot be read in memory: one sentence that names the argument. Only errors come here, so nothing is looked up before. */
#include <string.h>

#include "py_core.h"

int fkdai_py_refuse_device(const py_view *view)
{
    PyObject *const device = PyObject_GetAttrString(view->tensor, "device");
    if (device == NULL) return -1;
    PyErr_Format(PyExc_ValueError, "%s is on device %S, but flash_kda takes tensors in cpu or cuda memory", view->name, device);
    Py_DECREF(device);
    return -1;
}

static int is_strided(PyObject *layout)
{
    PyObject *const text = PyObject_Str(layout);
    const int same = text != NULL && PyUnicode_CompareWithASCIIString(text, "torch.strided") == 0;
    Py_XDECREF(text);
    return same;
}

/* 1: an exception about the layout is set. */
static int refuse_layout(const py_view *view)
{
    PyObject *const layout = PyObject_GetAttrString(view->tensor, "layout");
    PyObject *const is_nested = layout == NULL ? NULL : PyObject_GetAttrString(view->tensor, "is_nested");
    const int refused = is_nested != NULL && (is_nested == Py_True || !is_strided(layout));
    PyErr_Clear();    /* of a class without these attributes */
    if (refused)
        PyErr_Format(PyExc_ValueError, "%s is a %stensor of layout %S, but it must be a dense one of layout torch.strided", view->name,
                     is_nested == Py_True ? "nested " : "", layout);
    Py_XDECREF(layout);
    Py_XDECREF(is_nested);
    return refused;
}

/* 1: an exception about torch.func is set. */
static int refuse_transform(const py_view *view)
{
    PyObject *const module = PyImport_ImportModule("torch._C._functorch");
    PyObject *const wrapped = module == NULL ? NULL : PyObject_CallMethod(module, "is_functorch_wrapped_tensor", "O", view->tensor);
    const int refused = wrapped == Py_True;
    Py_XDECREF(module);
    Py_XDECREF(wrapped);
    PyErr_Clear();
    if (refused)
        PyErr_Format(PyExc_TypeError, "%s is inside a transform of torch.func (grad, jvp, vmap ...), for which flash_kda has no rule", view->name);
    return refused;
}

/* 1: an exception about the class is set. */
static int refuse_class(const py_core *core, const py_view *view)
{
    PyObject *const type = (PyObject *)Py_TYPE(view->tensor);
    PyObject *const dispatch = PyObject_GetAttr(type, core->names[NAME_TORCH_DISPATCH]);
    const int refused = dispatch != core->objects[OBJECT_PLAIN_DISPATCH];
    Py_XDECREF(dispatch);
    PyErr_Clear();
    if (refused)
        PyErr_Format(PyExc_TypeError, "%s is %R, a class with a __torch_dispatch__ of its own, so that its memory need not hold its values: "
                     "it must be a plain torch.Tensor", view->name, type);
    return refused;
}

int fkdai_py_refuse_tensor(const py_core *core, const py_view *view)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!refuse_layout(view) && !refuse_transform(view) && !refuse_class(core, view)) {
        if (value != NULL) PyErr_Format(PyExc_ValueError, "%s has no memory that flash_kda can read: %S", view->name, value);
        else PyErr_Format(PyExc_ValueError, "%s has no memory that flash_kda can read: its storage is empty", view->name);
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return -1;
}

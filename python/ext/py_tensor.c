/* A torch tensor as a plain struct: through torch's exchange table, or attribute by attribute where torch has none. */
#include <string.h>

#include "py_core.h"

/* ---------------------------------------------------------------- through the exchange table */

static void set_dtype(py_view *view, dl_dtype dtype)
{
    const unsigned code = dtype.code, bits = dtype.bits;
    view->item_bytes = (bits * dtype.lanes + 7) / 8;
    view->is_floating = code == DL_FLOAT || code == DL_BFLOAT || (code >= DL_FLOAT8_FIRST && code <= DL_FLOAT8_LAST);
    view->dtype = FKDA_NONE;
    if (dtype.lanes != 1) return;
    if (code == DL_BFLOAT && bits == 16) view->dtype = FKDA_BF16;
    if (code == DL_FLOAT && bits == 32) view->dtype = FKDA_F32;
    if (code == DL_FLOAT && bits == 16) view->dtype = FKDA_F16;
    if (code == DL_INT && bits == 32) view->dtype = FKDA_I32;
    if (code == DL_INT && bits == 64) view->dtype = FKDA_I64;
}

/* -1, perhaps with an exception: the table cannot describe this tensor. */
static int borrow(const dl_exchange *exchange, py_view *view)
{
    dl_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    if (exchange->borrow(view->tensor, &tensor) != 0) return -1;
    const int32_t type = tensor.device.type;
    if ((type != DL_CPU && type != DL_CUDA && type != DL_CUDA_HOST) || tensor.ndim > PY_MAX_DIMS) return -1;
    view->data = tensor.data == NULL ? NULL : (char *)tensor.data + tensor.byte_offset;
    view->memory = type == DL_CUDA ? FKDA_MEMORY_CUDA : FKDA_MEMORY_HOST;
    view->device = type == DL_CUDA ? tensor.device.id : 0;
    view->ndim = tensor.ndim;
    for (int i = 0; i < tensor.ndim; ++i) {
        view->shape[i] = tensor.shape[i];
        view->stride[i] = tensor.strides[i];
    }
    set_dtype(view, tensor.dtype);
    return 0;
}

/* ---------------------------------------------------------------- attribute by attribute */

static int refuse_dims(const py_view *view, Py_ssize_t ndim)
{
    PyErr_Format(PyExc_ValueError, "%s has %zd dimensions, but at most %d are taken", view->name, ndim, PY_MAX_DIMS);
    return -1;
}

/* Consumes `object`, which may be NULL after a failed call. */
static int to_int64(PyObject *object, int64_t *value)
{
    if (object == NULL) return -1;
    *value = PyLong_AsLongLong(object);
    Py_DECREF(object);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

/* Consumes `sequence`: torch.Size or the tuple of stride(). */
static int to_dims(PyObject *sequence, int ndim, int64_t *dims)
{
    int status = sequence == NULL ? -1 : 0;
    for (int i = 0; i < ndim && status == 0; ++i) status = to_int64(PySequence_GetItem(sequence, i), &dims[i]);
    Py_XDECREF(sequence);
    return status;
}

static int read_layout(const py_core *core, py_view *view)
{
    int64_t address;
    PyObject *const shape = PyObject_GetAttr(view->tensor, core->names[NAME_SHAPE]);
    const Py_ssize_t ndim = shape == NULL ? -1 : PySequence_Size(shape);
    if (ndim < 0 || ndim > PY_MAX_DIMS) {
        Py_XDECREF(shape);
        return ndim < 0 ? fkdai_py_refuse_tensor(core, view) : refuse_dims(view, ndim);
    }
    view->ndim = (int)ndim;
    if (to_dims(shape, view->ndim, view->shape) < 0 ||
        to_dims(PyObject_CallMethodObjArgs(view->tensor, core->names[NAME_STRIDE], NULL), view->ndim, view->stride) < 0 ||
        to_int64(PyObject_CallMethodObjArgs(view->tensor, core->names[NAME_DATA_PTR], NULL), &address) < 0)
        return fkdai_py_refuse_tensor(core, view);
    view->data = (char *)(uintptr_t)address;
    return 0;
}

/* float4_e2m1fn_x2 is two values in a byte, and torch converts neither to nor from it; the table does not call it floating either. */
static int is_half_a_byte(PyObject *dtype)
{
    PyObject *const text = PyObject_Str(dtype);
    const char *const name = text == NULL ? NULL : PyUnicode_AsUTF8AndSize(text, NULL);
    const int answer = name == NULL ? -1 : strncmp(name, "torch.float4", 12) == 0;
    Py_XDECREF(text);
    return answer;
}

static int read_dtype(const py_core *core, py_view *view)
{
    PyObject *const dtype = PyObject_GetAttr(view->tensor, core->names[NAME_DTYPE]);
    if (dtype == NULL) return -1;
    view->dtype = FKDA_NONE;
    for (int i = 0; i < PY_DTYPE_COUNT; ++i)
        if (dtype == core->dtypes[i]) view->dtype = fkdai_py_known_dtypes[i];    /* torch's dtypes are singletons */
    PyObject *const is_floating = PyObject_GetAttr(dtype, core->names[NAME_IS_FLOATING_POINT]);
    view->is_floating = is_floating == NULL ? -1 : PyObject_IsTrue(is_floating);
    Py_XDECREF(is_floating);
    const int is_packed = view->is_floating > 0 && view->dtype == FKDA_NONE ? is_half_a_byte(dtype) : 0;
    if (is_packed != 0) view->is_floating = is_packed < 0 ? -1 : 0;
    const int status = to_int64(PyObject_GetAttr(dtype, core->names[NAME_ITEMSIZE]), &view->item_bytes);
    Py_DECREF(dtype);
    return view->is_floating < 0 ? -1 : status;
}

static int read_device(const py_core *core, py_view *view)
{
    int64_t index = 0;
    PyObject *const device = PyObject_GetAttr(view->tensor, core->names[NAME_DEVICE]);
    PyObject *const type = device == NULL ? NULL : PyObject_GetAttr(device, core->names[NAME_TYPE]);
    int status = type == NULL ? -1 : 0;
    const int is_cuda = type != NULL && PyUnicode_CompareWithASCIIString(type, "cuda") == 0;
    const int is_host = type != NULL && PyUnicode_CompareWithASCIIString(type, "cpu") == 0;
    if (status == 0 && is_cuda) status = to_int64(PyObject_GetAttr(device, core->names[NAME_INDEX]), &index);
    Py_XDECREF(type);
    Py_XDECREF(device);
    if (status < 0) return -1;
    if (!is_cuda && !is_host) return fkdai_py_refuse_device(view);
    view->memory = is_cuda ? FKDA_MEMORY_CUDA : FKDA_MEMORY_HOST;
    view->device = (int32_t)index;
    return 0;
}

/* ---------------------------------------------------------------- what the memory means */

int fkdai_py_has_memory(const py_core *core, PyObject *tensor, const void *data, int64_t item_bytes)
{
    const uint64_t address = (uintptr_t)data;
    int64_t offset;
    if (address >= PY_CERTAIN_ADDRESS) return 1;
    if (to_int64(PyObject_CallMethodObjArgs(tensor, core->names[NAME_STORAGE_OFFSET], NULL), &offset) < 0) return -1;
    return address != 0 && address != (uint64_t)(offset * item_bytes);
}

static int check_memory(const py_core *core, const py_view *view)
{
    return view->is_empty || fkdai_py_has_memory(core, view->tensor, view->data, view->item_bytes) > 0 ? 0 : fkdai_py_refuse_tensor(core, view);
}

/* A subclass may be anything: only one without a __torch_dispatch__ of its own has its values where its address says. */
static int check_class(const py_core *core, const py_view *view)
{
    PyObject *const type = (PyObject *)Py_TYPE(view->tensor);
    if (type == core->objects[OBJECT_TENSOR_TYPE] || type == core->objects[OBJECT_PARAMETER_TYPE]) return 0;
    PyObject *const dispatch = PyObject_GetAttr(type, core->names[NAME_TORCH_DISPATCH]);
    Py_XDECREF(dispatch);
    return dispatch == core->objects[OBJECT_PLAIN_DISPATCH] ? 0 : fkdai_py_refuse_tensor(core, view);
}

/* torch's metadata of a tensor is a dict that has "neg" where the bit is set. Tensor.is_neg lets other threads run in between, which costs
 * a busy process time, and aborts it if it ends there; so it is asked only in a torch without these metadata. */
int fkdai_py_is_negated(const py_core *core, PyObject *tensor)
{
    PyObject *const metadata = core->objects[OBJECT_TENSOR_METADATA];
    PyObject *const answer = metadata != NULL ? PyObject_CallFunctionObjArgs(metadata, tensor, NULL)
                                              : PyObject_CallMethodObjArgs(tensor, core->names[NAME_IS_NEG], NULL);
    if (answer == NULL) return -1;
    const int is_negated = metadata != NULL ? PyDict_Size(answer) != 0 && PyDict_Contains(answer, core->names[NAME_NEG]) : answer == Py_True;
    Py_DECREF(answer);
    return PyErr_Occurred() ? -1 : is_negated;
}

/* ---------------------------------------------------------------- either way */

int fkdai_py_is_tensor(py_core *core, PyObject *object)
{
    const int found = fkdai_py_find_torch(core);
    if (found > 0 && (PyObject *)Py_TYPE(object) == core->objects[OBJECT_TENSOR_TYPE]) return 1;
    return found <= 0 ? found : PyType_IsSubtype(Py_TYPE(object), (PyTypeObject *)core->objects[OBJECT_TENSOR_TYPE]);
}

/* Address, sizes and dtype, by the table if it can. */
static int read_tensor(const py_core *core, py_view *view)
{
    if (core->exchange != NULL && !core->exchange_hidden) {
        if (borrow(core->exchange, view) == 0) return 0;
        PyErr_Clear();    /* torch's text names no argument; the other road ends in a sentence that does */
    }
    if (read_device(core, view) < 0 || read_dtype(core, view) < 0) return -1;
    return read_layout(core, view);
}

int fkdai_py_view(py_core *core, const char *name, PyObject *object, py_view *view)
{
    view->name = name;
    view->tensor = object;
    const int is_tensor = fkdai_py_is_tensor(core, object);
    if (is_tensor < 0) return -1;
    if (is_tensor == 0) {
        PyErr_Format(PyExc_TypeError, "%s is %R, but it must be a torch.Tensor", name, (PyObject *)Py_TYPE(object));
        return -1;
    }
    if (check_class(core, view) < 0 || read_tensor(core, view) < 0) return -1;
    view->is_empty = 0;
    for (int i = 0; i < view->ndim; ++i) view->is_empty |= view->shape[i] == 0;
    return check_memory(core, view);
}

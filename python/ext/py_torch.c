/* What is looked up in torch, once, when the first tensor arrives. torch is never imported from here. */
#include "py_core.h"

const fkda_dtype fkdai_py_known_dtypes[PY_DTYPE_COUNT] = {FKDA_BF16, FKDA_F32, FKDA_F16, FKDA_I32, FKDA_I64};
static const char *const dtype_names[PY_DTYPE_COUNT] = {"bfloat16", "float32", "float16", "int32", "int64"};

int fkdai_py_intern_names(py_core *core)
{
    static const char *const texts[PY_NAME_COUNT] = {"data_ptr", "shape", "stride", "dtype", "device",
                                                     "type", "index", "requires_grad", "itemsize", "is_floating_point",
                                                     "cuda_stream"};
    for (int i = 0; i < PY_NAME_COUNT; ++i)
        if ((core->names[i] = PyUnicode_InternFromString(texts[i])) == NULL) return -1;
    return 0;
}

/* The newest table in the chain whose layout we know, or NULL. */
static const dl_exchange *usable_table(PyObject *capsule)
{
    if (!PyCapsule_IsValid(capsule, DL_CAPSULE_NAME)) return NULL;
    const dl_exchange_header *header = PyCapsule_GetPointer(capsule, DL_CAPSULE_NAME);
    while (header != NULL && header->major != DL_MAJOR_VERSION) header = header->previous;
    const dl_exchange *const table = (const dl_exchange *)(const void *)header;
    return table != NULL && table->borrow != NULL ? table : NULL;
}

static int look_up(py_core *core, PyObject *torch)
{
    core->is_grad_enabled = PyObject_GetAttrString(torch, "is_grad_enabled");
    core->get_num_threads = PyObject_GetAttrString(torch, "get_num_threads");
    if (core->is_grad_enabled == NULL || core->get_num_threads == NULL) return -1;
    for (int i = 0; i < PY_DTYPE_COUNT; ++i)
        if ((core->dtypes[i] = PyObject_GetAttrString(torch, dtype_names[i])) == NULL) return -1;

    PyObject *const cuda = PyObject_GetAttrString(torch, "cuda");
    core->current_stream = cuda == NULL ? NULL : PyObject_GetAttrString(cuda, "current_stream");
    Py_XDECREF(cuda);
    core->empty = PyObject_GetAttrString(torch, "empty");
    core->uint8 = PyObject_GetAttrString(torch, "uint8");
    if (core->current_stream == NULL || core->empty == NULL || core->uint8 == NULL) return -1;

    PyObject *const tensor_type = PyObject_GetAttrString(torch, "Tensor");
    if (tensor_type == NULL) return -1;
    PyObject *const capsule = PyObject_GetAttrString(tensor_type, "__dlpack_c_exchange_api__");
    if (capsule == NULL) PyErr_Clear();    /* an older torch */
    core->exchange = capsule == NULL ? NULL : usable_table(capsule);    /* the table outlives its capsule: it is static in torch */
    Py_XDECREF(capsule);
    core->tensor_type = tensor_type;
    return 0;
}

int fkdai_py_find_torch(py_core *core)
{
    if (core->tensor_type != NULL) return 1;
    PyObject *const name = PyUnicode_FromString("torch");
    PyObject *const torch = name == NULL ? NULL : PyImport_GetModule(name);
    Py_XDECREF(name);
    if (torch == NULL) return PyErr_Occurred() ? -1 : 0;
    const int is_blocked = torch == Py_None;    /* sys.modules["torch"] = None forbids the import */
    const int status = is_blocked ? 0 : look_up(core, torch);
    Py_DECREF(torch);
    return status < 0 ? -1 : !is_blocked;
}

int fkdai_py_thread_count(py_core *core, int32_t *threads)
{
    *threads = 0;
    const int found = fkdai_py_find_torch(core);
    if (found <= 0) return found;
    PyObject *const count = PyObject_CallNoArgs(core->get_num_threads);
    if (count == NULL) return -1;
    const long value = PyLong_AsLong(count);
    Py_DECREF(count);
    if (value == -1 && PyErr_Occurred()) return -1;
    *threads = value < 0 || value > INT32_MAX ? 0 : (int32_t)value;
    return 0;
}

int fkdai_py_current_stream(py_core *core, int32_t device, fkda_stream *stream)
{
    *stream = NULL;
    if (core->exchange != NULL && !core->exchange_hidden && core->exchange->current_stream != NULL)
        return core->exchange->current_stream(DL_CUDA, device, stream);
    PyObject *const object = PyObject_CallFunction(core->current_stream, "i", (int)device);
    PyObject *const address = object == NULL ? NULL : PyObject_GetAttr(object, core->names[NAME_CUDA_STREAM]);
    Py_XDECREF(object);
    if (address == NULL) return -1;
    *stream = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    return *stream == NULL && PyErr_Occurred() ? -1 : 0;
}

/* What is looked up in torch, once, when the first tensor arrives. torch is never imported from here. */
#include <string.h>

#include "py_core.h"

const fkda_dtype fkdai_py_known_dtypes[PY_DTYPE_COUNT] = {FKDA_BF16, FKDA_F32, FKDA_F16, FKDA_I32, FKDA_I64};
static const char *const dtype_names[PY_DTYPE_COUNT] = {"bfloat16", "float32", "float16", "int32", "int64"};

int fkdai_py_intern_names(py_core *core)
{
    static const char *const texts[PY_NAME_COUNT] = {"data_ptr", "shape", "stride", "dtype", "device",
                                                     "type", "index", "requires_grad", "itemsize", "is_floating_point",
                                                     "cuda_stream", "is_neg", "storage_offset", "__torch_dispatch__",
                                                     "_current_level", "is_inference", "neg", "negative", "logit", "l2", "nhvk"};
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

/* torch.a.b.c for the path "a.b.c"; NULL with an exception. */
static PyObject *get_path(PyObject *torch, const char *path)
{
    PyObject *object = torch;
    Py_INCREF(object);
    while (object != NULL && *path != 0) {
        char name[32] = "";
        const size_t length = strcspn(path, ".");
        if (length < sizeof name) memcpy(name, path, length);
        PyObject *const next = PyObject_GetAttrString(object, name);
        Py_DECREF(object);
        object = next;
        path += length + (path[length] == '.');
    }
    return object;
}

static int look_up_objects(py_core *core, PyObject *torch)
{
    static const char *const paths[PY_OBJECT_COUNT] = {
        [OBJECT_TENSOR_TYPE] = "Tensor", [OBJECT_PARAMETER_TYPE] = "nn.Parameter", [OBJECT_PLAIN_DISPATCH] = "Tensor.__torch_dispatch__",
        [OBJECT_IS_GRAD_ENABLED] = "is_grad_enabled", [OBJECT_GET_NUM_THREADS] = "get_num_threads",
        [OBJECT_FORWARD_AD_NAMES] = "autograd.forward_ad.__dict__", [OBJECT_UNPACK_DUAL] = "autograd.forward_ad.unpack_dual",
        [OBJECT_INCREMENT_VERSION] = "_C._increment_version", [OBJECT_IS_FWD_GRAD_ENABLED] = "_C._is_fwd_grad_enabled",
        [OBJECT_TENSOR_METADATA] = "_C._get_tensor_metadata", [OBJECT_TENSOR_GUARDS] = "_C._dynamo.guards.TensorGuards",
        [OBJECT_CURRENT_STREAM] = "cuda.current_stream", [OBJECT_EMPTY] = "empty", [OBJECT_UINT8] = "uint8",
    };
    static const char may_lack[PY_OBJECT_COUNT] = {
        [OBJECT_IS_FWD_GRAD_ENABLED] = 1, [OBJECT_TENSOR_METADATA] = 1, [OBJECT_TENSOR_GUARDS] = 1,
    };
    for (int i = 0; i < PY_OBJECT_COUNT; ++i) {
        Py_XDECREF(core->objects[i]);    /* of an attempt that failed */
        core->objects[i] = get_path(torch, paths[i]);
        if (core->objects[i] == NULL && i == OBJECT_INCREMENT_VERSION) {    /* torch's own name for it, which costs more */
            PyErr_Clear();
            core->objects[i] = get_path(torch, "autograd.graph.increment_version");
        }
        if (core->objects[i] != NULL) continue;
        if (!may_lack[i]) return -1;
        PyErr_Clear();
    }
    return 0;
}

/* Does torch count the writes of a tuple of tensors, or of one tensor? An empty tuple tells without a tensor. */
static int look_at_counting(py_core *core)
{
    PyObject *const nothing = PyTuple_New(0);
    PyObject *const answer = nothing == NULL ? NULL : PyObject_CallFunctionObjArgs(core->objects[OBJECT_INCREMENT_VERSION], nothing, NULL);
    Py_XDECREF(nothing);
    Py_XDECREF(answer);
    core->counts_lists = answer != NULL;
    if (nothing != NULL) PyErr_Clear();
    return nothing == NULL ? -1 : 0;
}

/* torch.zeros((1,), device="cpu", requires_grad=...): whatever torch's default device is. */
static PyObject *one_zero(PyObject *torch, PyObject *requires_grad)
{
    PyObject *const zeros = PyObject_GetAttrString(torch, "zeros"), *const sizes = Py_BuildValue("(i)", 1);
    PyObject *const options = Py_BuildValue("{sssO}", "device", "cpu", "requires_grad", requires_grad);
    PyObject *const tensor = zeros == NULL || sizes == NULL || options == NULL ? NULL : PyObject_Call(zeros, sizes, options);
    Py_XDECREF(zeros);
    Py_XDECREF(sizes);
    Py_XDECREF(options);
    return tensor;
}

/* Is a negative bit seen in the metadata, and in a question about all tensors, which is to see requires_grad too? Both are private to torch:
 * where they do not tell, tensors are asked one by one. */
static void look_at_private_questions(py_core *core, PyObject *torch)
{
    PyObject *const plain = one_zero(torch, Py_False), *const leaf = plain == NULL ? NULL : one_zero(torch, Py_True);
    PyObject *const negated = leaf == NULL ? NULL : PyObject_CallMethod(torch, "_neg_view", "O", plain);
    const int metadata_tell = negated != NULL && fkdai_py_is_negated(core, negated) == 1 && fkdai_py_is_negated(core, plain) == 0;
    PyErr_Clear();
    const int guards_tell = negated != NULL && core->objects[OBJECT_TENSOR_GUARDS] != NULL && fkdai_py_guards_tell(core, plain, negated) &&
                            fkdai_py_guards_tell(core, plain, leaf);
    Py_XDECREF(plain);
    Py_XDECREF(leaf);
    Py_XDECREF(negated);
    PyErr_Clear();
    if (!metadata_tell) Py_CLEAR(core->objects[OBJECT_TENSOR_METADATA]);
    if (!guards_tell) Py_CLEAR(core->objects[OBJECT_TENSOR_GUARDS]);
}

static int look_up(py_core *core, PyObject *torch)
{
    if (look_up_objects(core, torch) < 0 || look_at_counting(core) < 0) return -1;
    for (int i = 0; i < PY_DTYPE_COUNT; ++i) {
        Py_XDECREF(core->dtypes[i]);
        if ((core->dtypes[i] = PyObject_GetAttrString(torch, dtype_names[i])) == NULL) return -1;
    }
    PyObject *const capsule = PyObject_GetAttrString(core->objects[OBJECT_TENSOR_TYPE], "__dlpack_c_exchange_api__");
    if (capsule == NULL) PyErr_Clear();    /* an older torch */
    core->exchange = capsule == NULL ? NULL : usable_table(capsule);    /* the table outlives its capsule: it is static in torch */
    Py_XDECREF(capsule);
    look_at_private_questions(core, torch);
    core->has_torch = 1;
    return 0;
}

int fkdai_py_find_torch(py_core *core)
{
    if (core->has_torch) return 1;
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
    PyObject *const count = PyObject_CallNoArgs(core->objects[OBJECT_GET_NUM_THREADS]);
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
    PyObject *const object = PyObject_CallFunction(core->objects[OBJECT_CURRENT_STREAM], "i", (int)device);
    PyObject *const address = object == NULL ? NULL : PyObject_GetAttr(object, core->names[NAME_CUDA_STREAM]);
    Py_XDECREF(object);
    if (address == NULL) return -1;
    *stream = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    return *stream == NULL && PyErr_Occurred() ? -1 : 0;
}

/* Questions to the library: nothing runs. */
#include "py_core.h"

enum { TEXT_BYTES = 512 };
enum { KEY_WIDTH = 128, VALUE_WIDTH = 128 };    /* get_workspace_size has no argument for them: its callers have only these */

PyObject *fkdai_py_backends(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    PyObject *const list = PyList_New(0);
    for (int b = FKDA_BACKEND_CUDA; b < FKDA_BACKEND_COUNT && list != NULL; ++b) {
        char text[TEXT_BYTES] = "";
        const fkda_status status = fkda_backend_status((fkda_backend)b, text, sizeof text);
        PyObject *const entry = Py_BuildValue("(sOs)", fkda_backend_name((fkda_backend)b), status == FKDA_OK ? Py_True : Py_False, text);
        const int added = entry == NULL ? -1 : PyList_Append(list, entry);
        Py_XDECREF(entry);
        if (added == 0) continue;
        Py_DECREF(list);
        return NULL;
    }
    return list;
}

PyObject *fkdai_py_workspace_size(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    int64_t sizes[3];
    if (count != 3) {
        PyErr_Format(PyExc_TypeError, "_core.workspace_size takes 3 arguments, %zd given", count);
        return NULL;
    }
    for (int i = 0; i < 3; ++i) {
        sizes[i] = PyLong_AsLongLong(arguments[i]);
        if (sizes[i] == -1 && PyErr_Occurred()) return NULL;
    }
    size_t bytes, cuda_bytes;
    fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = sizes[0], .H = sizes[1], .N = sizes[2], .K = KEY_WIDTH,
                          .V = VALUE_WIDTH, .cu_seqlens = FKDA_I64, .lower_bound = -5.0f, .scale = 1.0f};
    if (fkdai_py_thread_count(PyModule_GetState(module), &desc.threads) < 0) return NULL;
    const fkda_status status = fkda_fwd_workspace_size(&desc, &bytes);
    if (status != FKDA_OK) {
        fkdai_py_raise(status);
        return NULL;
    }
    desc.memory = FKDA_MEMORY_CUDA;    /* the caller does not say where: enough for either */
    if (fkda_fwd_workspace_size(&desc, &cuda_bytes) == FKDA_OK && cuda_bytes > bytes) bytes = cuda_bytes;
    return PyLong_FromSize_t(bytes);
}

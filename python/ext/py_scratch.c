/*
 * A call's workspace.
 *
 * One block of host memory is kept between calls: fresh pages cost more than a short call's work. Calls that run at the same time each take a block
 * of their own; the GIL guards the taking and the giving back.
 *
 * CUDA memory: a block of torch's allocator, used in the order of the stream that was current when it was taken, which is the stream of the launch.
 * None is kept between calls. Which pool a block is from cannot be asked: a graph's own, while it is captured, or a private one into which
 * torch.compile's CUDA graphs route their warm-up calls, and which must hold nothing that torch does not know when they end.
 */
#include <stdlib.h>
#include <string.h>

#include "py_core.h"

#define KEEP_BYTES ((size_t)64 << 20)    /* a larger block is not kept */

/* ---------------------------------------------------------------- host memory */

static int take_host(py_core *core, size_t bytes, py_scratch *scratch)
{
    void *const kept = core->kept_scratch;
    if (kept != NULL && core->kept_bytes >= bytes) {
        core->kept_scratch = NULL;
        scratch->data = kept;
        scratch->bytes = core->kept_bytes;
        return 0;
    }
    scratch->bytes = (bytes + FKDA_WORKSPACE_ALIGN - 1) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN;
    scratch->data = aligned_alloc(FKDA_WORKSPACE_ALIGN, scratch->bytes);
    if (scratch->data != NULL) return 0;
    PyErr_NoMemory();
    return -1;
}

static void give_host(py_core *core, const py_scratch *scratch)
{
    if (scratch->bytes > KEEP_BYTES || (core->kept_scratch != NULL && core->kept_bytes >= scratch->bytes)) {
        free(scratch->data);
        return;
    }
    free(core->kept_scratch);
    core->kept_scratch = scratch->data;
    core->kept_bytes = scratch->bytes;
}

/* ---------------------------------------------------------------- CUDA memory */

static void set_error(void *context, const char *kind, const char *message)
{
    (void)context;
    PyErr_Format(PyExc_MemoryError, "workspace: %s: %s", kind, message);
}

static int take_from_table(const dl_exchange *exchange, const py_view *q, py_scratch *scratch)
{
    int64_t shape = (int64_t)scratch->bytes;
    dl_tensor prototype;
    memset(&prototype, 0, sizeof prototype);
    prototype.device = (dl_device){DL_CUDA, q->device};
    prototype.dtype = (dl_dtype){DL_UINT, 8, 1};
    prototype.ndim = 1;
    prototype.shape = &shape;
    if (exchange->allocate(&prototype, &scratch->managed, NULL, set_error) != 0) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        return -1;
    }
    scratch->data = (char *)scratch->managed->tensor.data + scratch->managed->tensor.byte_offset;
    return 0;
}

/* torch.empty(bytes, dtype=torch.uint8, device=q.device) */
static int take_tensor(const py_core *core, const py_view *q, py_scratch *scratch)
{
    PyObject *const device = PyObject_GetAttr(q->tensor, core->names[NAME_DEVICE]);
    PyObject *const sizes = Py_BuildValue("(n)", (Py_ssize_t)scratch->bytes);
    PyObject *const options = device == NULL ? NULL : Py_BuildValue("{sOsO}", "dtype", core->objects[OBJECT_UINT8], "device", device);
    scratch->tensor = sizes == NULL || options == NULL ? NULL : PyObject_Call(core->objects[OBJECT_EMPTY], sizes, options);
    Py_XDECREF(device);
    Py_XDECREF(sizes);
    Py_XDECREF(options);
    PyObject *const address = scratch->tensor == NULL ? NULL : PyObject_CallMethodObjArgs(scratch->tensor, core->names[NAME_DATA_PTR], NULL);
    if (address == NULL) return -1;
    scratch->data = PyLong_AsVoidPtr(address);
    Py_DECREF(address);
    return PyErr_Occurred() ? -1 : 0;
}

/* ---------------------------------------------------------------- either */

int fkdai_py_take_scratch(py_core *core, const py_view *q, size_t bytes, py_scratch *scratch)
{
    *scratch = (py_scratch){.bytes = bytes};
    if (bytes == 0) return 0;
    if (bytes > (size_t)PY_SSIZE_T_MAX - FKDA_WORKSPACE_ALIGN) {
        PyErr_NoMemory();
        return -1;
    }
    if (q->memory == FKDA_MEMORY_HOST) return take_host(core, bytes, scratch);
    const int has_table = core->exchange != NULL && !core->exchange_hidden && core->exchange->allocate != NULL;
    const int status = has_table ? take_from_table(core->exchange, q, scratch) : take_tensor(core, q, scratch);
    if (status < 0) Py_CLEAR(scratch->tensor);
    return status;
}

void fkdai_py_give_scratch(py_core *core, py_scratch *scratch)
{
    if (scratch->managed != NULL) scratch->managed->deleter(scratch->managed);
    else if (scratch->tensor != NULL) Py_CLEAR(scratch->tensor);
    else if (scratch->data != NULL) give_host(core, scratch);
}

void fkdai_py_free_scratch(py_core *core)
{
    free(core->kept_scratch);
    core->kept_scratch = NULL;
}

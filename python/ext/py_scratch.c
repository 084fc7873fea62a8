/*
 * A call's workspace.
 *
 * One block of host memory and one of CUDA memory are kept between calls: fresh pages, and two turns of torch's allocator, cost more than a short
 * call's work. Calls that run at the same time each take a block of their own; the GIL guards the taking and the giving back.
 *
 * CUDA memory: a block of torch's allocator, used in the order of the stream that was current when it was taken, which is the stream of the launch.
 * The kept one is for further calls in that stream. A call that is being captured takes one from the graph's own pool, and keeps it there: replays
 * know no order with what is launched beside them.
 */
#include <stdlib.h>
#include <string.h>

#include "py_core.h"

#define KEEP_BYTES ((size_t)64 << 20)         /* a larger block is not kept */
#define KEEP_CUDA_BYTES ((size_t)16 << 20)    /* likewise, of what others could use */

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

/* The answer of a function of torch without arguments as an int; -1, without an exception: there is none. */
static long ask(PyObject *function)
{
    PyObject *const answer = function == NULL ? NULL : PyObject_CallNoArgs(function);
    const long value = answer == NULL ? -1 : PyLong_AsLong(answer);
    Py_XDECREF(answer);
    PyErr_Clear();
    return value;
}

/* torch knows of the current device alone whether its stream is being captured. */
static int may_keep(const py_core *core, int32_t device, size_t bytes)
{
    return bytes <= KEEP_CUDA_BYTES && ask(core->objects[OBJECT_GET_DEVICE]) == device && ask(core->objects[OBJECT_IS_CAPTURING]) == 0;
}

static int take_cuda(py_core *core, const py_view *q, fkda_stream stream, py_scratch *scratch)
{
    py_scratch *const kept = &core->kept_cuda;
    scratch->stream = stream, scratch->device = q->device;
    scratch->is_kept = may_keep(core, q->device, scratch->bytes);
    if (!scratch->is_kept || kept->managed == NULL || kept->bytes < scratch->bytes || kept->stream != stream || kept->device != q->device)
        return take_from_table(core->exchange, q, scratch);
    *scratch = *kept;
    kept->managed = NULL;
    return 0;
}

static void give_cuda(py_core *core, const py_scratch *scratch)
{
    py_scratch *const kept = &core->kept_cuda;
    dl_managed_tensor *unused = scratch->managed;
    if (scratch->is_kept && (kept->managed == NULL || kept->stream != scratch->stream || kept->device != scratch->device ||
                             kept->bytes < scratch->bytes)) {
        unused = kept->managed;
        *kept = *scratch;
    }
    if (unused != NULL) unused->deleter(unused);
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

int fkdai_py_take_scratch(py_core *core, const py_view *q, size_t bytes, fkda_stream stream, py_scratch *scratch)
{
    *scratch = (py_scratch){.bytes = bytes};
    if (bytes == 0) return 0;
    if (bytes > (size_t)PY_SSIZE_T_MAX - FKDA_WORKSPACE_ALIGN) {
        PyErr_NoMemory();
        return -1;
    }
    if (q->memory == FKDA_MEMORY_HOST) return take_host(core, bytes, scratch);
    const int has_table = core->exchange != NULL && !core->exchange_hidden && core->exchange->allocate != NULL;
    const int status = has_table ? take_cuda(core, q, stream, scratch) : take_tensor(core, q, scratch);
    if (status < 0) Py_CLEAR(scratch->tensor);
    return status;
}

void fkdai_py_give_scratch(py_core *core, py_scratch *scratch)
{
    if (scratch->managed != NULL) give_cuda(core, scratch);
    else if (scratch->tensor != NULL) Py_CLEAR(scratch->tensor);
    else if (scratch->data != NULL) give_host(core, scratch);
}

void fkdai_py_free_scratch(py_core *core)
{
    free(core->kept_scratch);
    core->kept_scratch = NULL;
    if (core->kept_cuda.managed != NULL) core->kept_cuda.managed->deleter(core->kept_cuda.managed);
    core->kept_cuda.managed = NULL;
}

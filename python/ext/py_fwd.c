/* flash_kda._core.fwd: read, check, plan, run. Everything about tensors is in py_describe.c. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "py_core.h"

static const char *const argument_names[PY_ARGUMENT_COUNT] = {
    "q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "initial_state", "final_state", "cu_seqlens",
};

enum { KEY_WIDTH = 128, VALUE_WIDTH = 128 };    /* get_workspace_size has no argument for them: its callers have only these */

static _Thread_local fkda_plan last_plan;       /* of this thread's last successful call; all zero before */

static int is_number(int argument) { return argument == ARG_SCALE || argument == ARG_LOWER_BOUND; }
static int is_optional(int argument) { return argument >= ARG_A_LOG; }

/* ---------------------------------------------------------------- errors of the library */

static PyObject *exception_of(fkda_status status)
{
    switch (status) {
    case FKDA_ERR_DTYPE: return PyExc_TypeError;
    case FKDA_ERR_NO_MEMORY: return PyExc_MemoryError;
    case FKDA_ERR_BAD_VALUE: case FKDA_ERR_SHAPE: case FKDA_ERR_STRIDE: case FKDA_ERR_MISALIGNED: case FKDA_ERR_ALIAS:
    case FKDA_ERR_OVERFLOW: case FKDA_ERR_CU_SEQLENS: case FKDA_ERR_LIMIT: case FKDA_ERR_NULL_POINTER: return PyExc_ValueError;
    default: return PyExc_RuntimeError;    /* no device, no backend, a defect */
    }
}

static int raise_status(fkda_status status)
{
    PyErr_Format(exception_of(status), "%s (%s)", fkda_last_error(), fkda_status_name(status));
    return -1;
}

/* ---------------------------------------------------------------- numbers */

static int to_float(PyObject *object, const char *name, const char *rule, float low, float high, float *value)
{
    const double number = PyFloat_AsDouble(object);
    if (number == -1 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s is %R, but it must be %s", name, object, rule);
        return -1;
    }
    if (!(number >= (double)low && number <= (double)high)) {    /* NaN ends here too */
        PyErr_Format(PyExc_ValueError, "%s is %R, but it must be %s", name, object, rule);
        return -1;
    }
    *value = (float)number;
    return 0;
}

static int describe_numbers(py_call *call, PyObject *scale, PyObject *lower_bound)
{
    if (to_float(scale, "scale", "a finite number", -FLT_MAX, FLT_MAX, &call->desc.scale) < 0) return -1;
    call->desc.gate = lower_bound == Py_None ? FKDA_GATE_SOFTPLUS : FKDA_GATE_BOUNDED;
    if (lower_bound == Py_None) return 0;
    return to_float(lower_bound, "lower_bound", "a number in [-5, 0), or None for the softplus gate", -5.0f, -FLT_MIN,
                    &call->desc.lower_bound);
}

/* ---------------------------------------------------------------- tensors */

static int read_tensors(py_core *core, py_call *call, PyObject *const *arguments)
{
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) {
        if (is_number(i) || (is_optional(i) && arguments[i] == Py_None)) continue;
        if (fkdai_py_view(core, argument_names[i], arguments[i], &call->view[i]) < 0) return -1;
    }
    return 0;
}

static int is_true(PyObject *object)    /* consumes it */
{
    const int truth = object == NULL ? -1 : PyObject_IsTrue(object);
    Py_XDECREF(object);
    return truth;
}

/* There is no backward: say so rather than return a result that autograd does not know about. */
static int check_grad_mode(const py_core *core, const py_call *call)
{
    const int enabled = is_true(PyObject_CallNoArgs(core->is_grad_enabled));
    if (enabled <= 0) return enabled;
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) {
        if (call->view[i].tensor == NULL) continue;
        const int requires_grad = is_true(PyObject_GetAttr(call->view[i].tensor, core->names[NAME_REQUIRES_GRAD]));
        if (requires_grad < 0) return -1;
        if (requires_grad == 0) continue;
        PyErr_Format(PyExc_RuntimeError, "%s requires grad, but flash_kda has no backward: call fwd under torch.no_grad() or "
                     "torch.inference_mode()", call->view[i].name);
        return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- the call */

/* Host memory has no stream. The library makes the device current itself and puts back what was. */
static int stream_of(py_core *core, const py_call *call, fkda_stream *stream)
{
    *stream = NULL;
    return call->desc.memory == FKDA_MEMORY_CUDA ? fkdai_py_current_stream(core, call->desc.device, stream) : 0;
}

static int run(py_core *core, const py_call *call)
{
    fkda_plan plan;
    fkda_stream stream;
    py_scratch scratch;
    fkda_status status = fkda_fwd_plan(&call->desc, &plan);
    if (status != FKDA_OK) return raise_status(status);
    if (stream_of(core, call, &stream) < 0 || fkdai_py_take_scratch(core, &call->view[ARG_Q], fkda_plan_workspace_size(&plan), &scratch) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    status = fkda_fwd_run(&plan, &call->args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (status != FKDA_OK) return raise_status(status);
    last_plan = plan;
    return 0;
}

/* What the kernels lack and no copy brings, in the words of this module. */
static int check_cuda(const py_call *call)
{
    if (call->desc.memory != FKDA_MEMORY_CUDA || call->desc.gate != FKDA_GATE_SOFTPLUS) return 0;
    PyErr_SetString(PyExc_RuntimeError, "lower_bound is None (the softplus gate), but for CUDA tensors only the bounded gate exists: "
                    "give a lower_bound in [-5, 0), or tensors in cpu memory");
    return -1;
}

PyObject *fkdai_py_fwd(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    if (count != PY_ARGUMENT_COUNT) {
        PyErr_Format(PyExc_TypeError, "_core.fwd takes %d arguments, %zd given", (int)PY_ARGUMENT_COUNT, count);
        return NULL;
    }
    py_call call;
    memset(&call, 0, sizeof call);
    if (read_tensors(core, &call, arguments) < 0 || fkdai_py_describe(&call) < 0 ||
        describe_numbers(&call, arguments[ARG_SCALE], arguments[ARG_LOWER_BOUND]) < 0 || check_grad_mode(core, &call) < 0 ||
        check_cuda(&call) < 0 || (call.desc.memory == FKDA_MEMORY_HOST && fkdai_py_thread_count(core, &call.desc.threads) < 0))
        return NULL;
    if (call.copies == 0 && run(core, &call) < 0) return NULL;
    return PyLong_FromUnsignedLong(call.copies);
}

/* ---------------------------------------------------------------- questions */

PyObject *fkdai_py_last_plan(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    char text[256] = "";
    if (fkda_plan_backend(&last_plan) != FKDA_BACKEND_AUTO) fkda_plan_describe(&last_plan, text, sizeof text);
    return PyUnicode_FromString(text);
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
        raise_status(status);
        return NULL;
    }
    desc.memory = FKDA_MEMORY_CUDA;    /* the caller does not say where: enough for either */
    if (fkda_fwd_workspace_size(&desc, &cuda_bytes) == FKDA_OK && cuda_bytes > bytes) bytes = cuda_bytes;
    return PyLong_FromSize_t(bytes);
}

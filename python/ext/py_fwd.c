/* flash_kda._core.fwd: read, check, plan, run. Everything about tensors is in py_describe.c. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "py_core.h"

static const char *const argument_names[PY_WORDS] = {
    "q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "initial_state", "final_state", "cu_seqlens",
    "cu_seqlens_cpu", "initial_slots", "final_slots", "initial_mask", "checkpoint_state", "checkpoint_offsets", "checkpoint_slots",
    /* words name themselves */
};

enum { PLAN_TEXT_BYTES = 512 };

static _Thread_local fkda_plan last_plan;       /* of this thread's last successful call; all zero before */
static _Thread_local uint64_t last_number;      /* the recipe that it is of, or 0 */

static int is_tensor(int argument)
{
    return argument != ARG_SCALE && argument != ARG_LOWER_BOUND;
}

static int is_optional(const py_call *call, int argument)
{
    return argument >= ARG_A_LOG || (call->is_decode && (argument == ARG_Q || argument == ARG_OUT));
}

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

int fkdai_py_raise(fkda_status status)
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

/* A number may be a tensor too: refuse what has no value to read (meta, torch.func ...) in our own words. */
static int check_number(py_core *core, const char *name, PyObject *object)
{
    py_view view;
    const int is_tensor = fkdai_py_is_tensor(core, object);
    return is_tensor <= 0 ? is_tensor : fkdai_py_view(core, name, object, &view);
}

static int refuse_lower_bound(PyObject *lower_bound)
{
    if (lower_bound == Py_None) return 0;
    PyErr_Format(PyExc_ValueError, "lower_bound is %R, but it must be None with gate='precomputed', whose g is the decay itself", lower_bound);
    return -1;
}

static int describe_numbers(py_core *core, py_call *call, PyObject *scale, PyObject *lower_bound)
{
    if (check_number(core, "scale", scale) < 0 || check_number(core, "lower_bound", lower_bound) < 0) return -1;
    if (to_float(scale, "scale", "a finite number", -FLT_MAX, FLT_MAX, &call->desc.scale) < 0) return -1;
    if (call->desc.gate == FKDA_GATE_PRECOMPUTED) return refuse_lower_bound(lower_bound);
    call->desc.gate = lower_bound == Py_None ? FKDA_GATE_SOFTPLUS : FKDA_GATE_BOUNDED;
    if (lower_bound == Py_None) return 0;
    return to_float(lower_bound, "lower_bound", "a number in [-5, 0), or None for the softplus gate", -5.0f, -FLT_MIN,
                    &call->desc.lower_bound);
}

/* ---------------------------------------------------------------- tensors */

static int read_tensors(py_core *core, py_call *call, const char *const *names, PyObject *const *arguments, Py_ssize_t count)
{
    for (int i = 0; i < PY_WORDS; ++i) {
        call->view[i].name = names[i];
        if (!is_tensor(i) || (is_optional(call, i) && (i >= count || arguments[i] == Py_None))) continue;
        if (fkdai_py_view(core, names[i], arguments[i], &call->view[i]) < 0) return -1;
    }
    return 0;
}

/* ---------------------------------------------------------------- who can compute it */

/* Can the library compute anything on q's GPU? Asked before everything else about a call, because no other advice would help. */
static int check_cuda(py_core *core, const py_call *call)
{
    const py_view *const q = &call->view[ARG_Q];
    const int bit = q->device & 63;
    if (q->memory != FKDA_MEMORY_CUDA || core->cuda_devices >> bit & 1) return 0;
    const fkda_fwd_desc smallest = {.struct_size = sizeof smallest, .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .device = q->device,
                                    .B = 1, .H = 1, .K = 128, .V = 128, .scale = 1.0f, .lower_bound = -1.0f};
    const fkda_status status = fkda_fwd_query(&smallest, NULL);
    if (status == FKDA_OK) {
        core->cuda_devices |= UINT64_C(1) << bit;
        return 0;
    }
    PyErr_Format(PyExc_RuntimeError, "%s (q is on cuda:%d; %s)", fkda_last_error(), (int)q->device, fkda_status_name(status));
    return -1;
}

static int warn_once(const fkda_plan *plan, int is_slow, const char *why, int *has_warned)
{
    char text[PLAN_TEXT_BYTES];
    if (*has_warned || !is_slow) return 0;
    fkda_plan_describe(plan, text, sizeof text);
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 2, "flash_kda %s (said once): %s", why, text) < 0) return -1;    /* a filter made it an exception */
    *has_warned = 1;
    return 0;
}

/* Once per process: the answer is right, but later than it could be. */
int fkdai_py_warn(py_core *core, const fkda_plan *plan)
{
    if (warn_once(plan, fkda_plan_backend(plan) == FKDA_BACKEND_REF, "computes this with the slow reference backend, as no other takes it",
                  &core->has_warned_of_reference) < 0)
        return -1;
    return warn_once(plan, fkda_plan_copies(plan) != 0, "copies tensors in each such call, as their strides are not what the kernel takes",
                     &core->has_warned_of_copies);
}

/* ---------------------------------------------------------------- the call */

void fkdai_py_keep_plan(const fkda_plan *plan, uint64_t number)
{
    if (number == 0 || number != last_number) last_plan = *plan;
    last_number = number;
}

void fkdai_py_kept_plan(fkda_plan *plan) { *plan = last_plan; }

int fkdai_py_read_call(py_core *core, py_call *call, const char *const *names, PyObject *const *arguments, Py_ssize_t count)
{
    PyObject *const scale = arguments[ARG_SCALE], *const lower_bound = arguments[ARG_LOWER_BOUND];
    const int is_fwd = names == argument_names;
    if (read_tensors(core, call, names, arguments, count) < 0 || fkdai_py_look_at_bits(core, call) < 0 || (is_fwd && check_cuda(core, call) < 0) ||
        fkdai_py_describe_words(core, call, arguments + PY_WORDS, count - PY_WORDS) < 0 || fkdai_py_describe(call) < 0 ||
        describe_numbers(core, call, scale, lower_bound) < 0 || fkdai_py_check_derivatives(core, call, scale, lower_bound) < 0)
        return -1;
    return call->desc.memory == FKDA_MEMORY_HOST ? fkdai_py_thread_count(core, &call->desc.threads) : 0;
}

/* Host memory has no stream. The library makes the device current itself and puts back what was. */
int fkdai_py_stream_of(py_core *core, const py_call *call, fkda_stream *stream)
{
    *stream = NULL;
    return call->desc.memory == FKDA_MEMORY_CUDA ? fkdai_py_current_stream(core, call->desc.device, stream) : 0;
}

/* -1: an exception. Otherwise *status is the library's answer. */
static int run(py_core *core, const py_call *call, fkda_status *status)
{
    fkda_plan plan;
    fkda_stream stream;
    py_scratch scratch;
    *status = fkda_fwd_plan(&call->desc, &plan);
    if (*status != FKDA_OK) return 0;
    if (fkdai_py_warn(core, &plan) < 0) return -1;
    if (fkdai_py_stream_of(core, call, &stream) < 0 || fkdai_py_take_scratch(core, &call->view[ARG_Q], fkda_plan_workspace_size(&plan), &scratch) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    *status = fkda_fwd_run(&plan, &call->args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (*status != FKDA_OK) return 0;
    fkdai_py_keep_plan(&plan, 0);
    return fkdai_py_count_writes(core, call);
}

/* None after a run, or what Python must copy before one. The library is asked for copies only where it does not take the call. */
static PyObject *run_or_ask(py_core *core, const py_call *call)
{
    fkda_status status = FKDA_ERR_UNSUPPORTED;
    if (call->copies == 0 && run(core, call, &status) < 0) return NULL;
    if (status == FKDA_OK) Py_RETURN_NONE;
    const int copies_may_help = status == FKDA_ERR_UNSUPPORTED || status == FKDA_ERR_MISALIGNED;
    PyObject *const copies = copies_may_help ? fkdai_py_copies(core, call) : PyDict_New();
    if (copies == NULL || PyDict_Size(copies) > 0) return copies;
    Py_DECREF(copies);
    fkdai_py_raise(status);
    return NULL;
}

static int read_fwd(py_core *core, py_call *call, PyObject *const *arguments, Py_ssize_t count)
{
    if (count > ARG_CU_SEQLENS && count <= PY_ARGUMENT_COUNT) return fkdai_py_read_call(core, call, argument_names, arguments, count);
    PyErr_Format(PyExc_TypeError, "_core.fwd takes %d to %d arguments, %zd given", ARG_CU_SEQLENS + 1, (int)PY_ARGUMENT_COUNT, count);
    return -1;
}

static fkda_status plan_again(const void *desc, fkda_plan *plan) { return fkda_fwd_plan(desc, plan); }

static fkda_status run_again(const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes, fkda_stream stream)
{
    return fkda_fwd_run(plan, args, workspace, workspace_bytes, stream);
}

#define AT(field) offsetof(fkda_fwd_args, field)
const py_operation fkdai_py_op_fwd = {
    .id = PY_FWD, .name = "fwd",
    .places = {[ARG_Q] = AT(q), [ARG_K] = AT(k), [ARG_V] = AT(v), [ARG_G] = AT(g), [ARG_BETA] = AT(beta), [ARG_OUT] = AT(out), [ARG_A_LOG] = AT(A_log),
               [ARG_DT_BIAS] = AT(dt_bias), [ARG_INITIAL_STATE] = AT(initial_state), [ARG_FINAL_STATE] = AT(final_state),
               [ARG_CU_SEQLENS] = AT(cu_seqlens), [ARG_CU_SEQLENS_CPU] = AT(cu_seqlens_host), [ARG_INITIAL_SLOTS] = AT(initial_slots),
               [ARG_FINAL_SLOTS] = AT(final_slots), [ARG_INITIAL_MASK] = AT(initial_mask), [ARG_CHECKPOINT_STATE] = AT(checkpoint_state),
               [ARG_CHECKPOINT_OFFSETS] = AT(checkpoint_offsets), [ARG_CHECKPOINT_SLOTS] = AT(checkpoint_slots)},
    .desc_bytes = sizeof(fkda_fwd_desc), .args_bytes = sizeof(fkda_fwd_args), .plan = plan_again, .run = run_again,
};

PyObject *fkdai_py_fwd(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    py_call call;
    const int ran = fkdai_py_run_again(core, &fkdai_py_op_fwd, arguments, count);
    if (ran < 0) return NULL;
    if (ran > 0) Py_RETURN_NONE;
    memset(&call, 0, sizeof call);
    PyObject *const answer = read_fwd(core, &call, arguments, count) < 0 ? NULL : run_or_ask(core, &call);
    const py_learnt learnt = {&call.desc, &call.args, {ARG_OUT, ARG_FINAL_STATE, count > ARG_CHECKPOINT_STATE ? ARG_CHECKPOINT_STATE : -1}};
    if (answer == Py_None) fkdai_py_learn(core, &fkdai_py_op_fwd, arguments, count, &learnt);
    return answer;
}

PyObject *fkdai_py_query(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    py_call call;
    memset(&call, 0, sizeof call);
    call.is_question = 1;
    return read_fwd(core, &call, arguments, count) < 0 ? NULL : fkdai_py_copies(core, &call);
}

PyObject *fkdai_py_last_plan(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    char text[PLAN_TEXT_BYTES] = "";
    if (fkda_plan_backend(&last_plan) != FKDA_BACKEND_AUTO) fkda_plan_describe(&last_plan, text, sizeof text);
    return PyUnicode_FromString(text);
}

/* flash_kda._core.decode. Its tensors are read and described as those of a forward pass whose initial and final state are one. */
#include "py_core.h"

typedef enum py_decode_argument {    /* positions in flash_kda.decode; those before are where they are in fwd */
    DECODE_STATE = ARG_INITIAL_STATE, DECODE_CU_SEQLENS, DECODE_SLOTS, DECODE_INITIAL_MASK, DECODE_SLOT_NULL, DECODE_MAX_TOKENS,
    PY_DECODE_ARGUMENT_COUNT
} py_decode_argument;

/* At the positions of fwd. */
static const char *const names[PY_ARGUMENT_COUNT] = {
    "q", "k", "v", "g", "beta", "scale", "out", "A_log", "dt_bias", "lower_bound", "state", "state", "cu_seqlens", "slots", "slots", "initial_mask",
    "", "", "", "", "slot_null",
};

static int read_max_tokens(PyObject *object, int64_t *tokens)
{
    *tokens = PyLong_Check(object) ? PyLong_AsLongLong(object) : -1;
    PyErr_Clear();    /* of an int that is too large: -1 too */
    if (*tokens >= 1 && *tokens <= FKDA_DECODE_MAX_TOKENS) return 0;
    PyErr_Format(PyLong_Check(object) ? PyExc_ValueError : PyExc_TypeError, "max_tokens is %R, but it must be an int from 1 to %d", object,
                 FKDA_DECODE_MAX_TOKENS);
    return -1;
}

/* There is no call on a copy: states would have to be copied as a whole. */
static int refuse_copies(const py_call *call)
{
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) {
        if ((call->copies >> i & 1u) == 0) continue;
        PyErr_Format(PyExc_ValueError, "%s is not taken as it lies: decode needs bf16 or fp32 (indices int32 or int64) with contiguous rows, and "
                     "copies nothing", call->view[i].name);
        return -1;
    }
    return 0;
}

static fkda_decode_desc desc_of(const fkda_fwd_desc *d, int64_t max_tokens)
{
    const int is_packed = d->cu_seqlens != FKDA_NONE;
    return (fkda_decode_desc){
        .struct_size = sizeof(fkda_decode_desc), .memory = d->memory, .device = d->device, .threads = d->threads, .flags = d->flags, .N = d->N,
        .S = is_packed ? max_tokens : d->T, .T = is_packed ? d->T : 0, .H = d->H, .HV = d->HV, .K = d->K, .V = d->V,
        .q = d->q, .k = d->k, .v = d->v, .g = d->g, .beta = d->beta, .out = d->out, .cu_seqlens = d->cu_seqlens, .A_log = d->A_log,
        .dt_bias = d->dt_bias, .gate = d->gate, .lower_bound = d->lower_bound, .scale = d->scale, .state = d->final_state,
    };
}

static fkda_decode_args args_of(const fkda_fwd_args *a)
{
    return (fkda_decode_args){
        .struct_size = sizeof(fkda_decode_args), .q = a->q, .k = a->k, .v = a->v, .g = a->g, .beta = a->beta, .out = a->out, .A_log = a->A_log,
        .dt_bias = a->dt_bias, .cu_seqlens = a->cu_seqlens, .state = a->final_state, .slots = a->final_slots, .initial_mask = a->initial_mask,
    };
}

static int run(py_core *core, const py_call *call, int64_t max_tokens)
{
    const fkda_decode_desc desc = desc_of(&call->desc, max_tokens);
    const fkda_decode_args args = args_of(&call->args);
    fkda_plan plan;
    fkda_stream stream;
    py_scratch scratch;
    fkda_status status = fkda_decode_plan(&desc, &plan);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    if (fkdai_py_warn(core, &plan) < 0 || fkdai_py_stream_of(core, call, &stream) < 0 ||
        fkdai_py_take_scratch(core, &call->view[ARG_Q], fkda_plan_workspace_size(&plan), &scratch) < 0)
        return -1;
    Py_BEGIN_ALLOW_THREADS
    status = fkda_decode_run(&plan, &args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (status != FKDA_OK) return fkdai_py_raise(status);
    fkdai_py_keep_plan(&plan);
    return fkdai_py_count_writes(core, call);
}

PyObject *fkdai_py_decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    py_core *const core = PyModule_GetState(module);
    PyObject *as_fwd[PY_ARGUMENT_COUNT];
    py_call call;
    int64_t max_tokens;
    if (count != PY_DECODE_ARGUMENT_COUNT) {
        PyErr_Format(PyExc_TypeError, "_core.decode takes %d arguments, %zd given", (int)PY_DECODE_ARGUMENT_COUNT, count);
        return NULL;
    }
    for (int i = 0; i < PY_ARGUMENT_COUNT; ++i) as_fwd[i] = i < DECODE_STATE ? arguments[i] : Py_None;
    as_fwd[ARG_INITIAL_STATE] = as_fwd[ARG_FINAL_STATE] = arguments[DECODE_STATE];
    as_fwd[ARG_INITIAL_SLOTS] = as_fwd[ARG_FINAL_SLOTS] = arguments[DECODE_SLOTS];
    as_fwd[ARG_CU_SEQLENS] = arguments[DECODE_CU_SEQLENS];
    as_fwd[ARG_INITIAL_MASK] = arguments[DECODE_INITIAL_MASK];
    as_fwd[ARG_SLOT_NULL] = arguments[DECODE_SLOT_NULL];
    if (fkdai_py_read_call(core, &call, names, as_fwd, PY_ARGUMENT_COUNT) < 0 || read_max_tokens(arguments[DECODE_MAX_TOKENS], &max_tokens) < 0 ||
        refuse_copies(&call) < 0 || run(core, &call, max_tokens) < 0)
        return NULL;
    Py_RETURN_NONE;
}

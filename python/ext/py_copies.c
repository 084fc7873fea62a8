/*
 * Arguments that Python must copy. Which these are, and in which dtype, is the library's to say (fkda_fwd_advise), which copies the others itself;
 * what is added here are the tensors for which flashkda.h has no words at all.
 */
#include "py_core.h"

/* ---------------------------------------------------------------- overlaps */

int fkdai_py_is_output(py_argument argument) { return argument == ARG_OUT || argument == ARG_FINAL_STATE || argument == ARG_CHECKPOINT_STATE; }

static const char *end_of(const py_view *view)
{
    int64_t last = 0;
    if (view->is_empty) return view->data;
    for (int i = 0; i < view->ndim; ++i) last += (view->shape[i] - 1) * view->stride[i];
    return view->data + (last + 1) * view->item_bytes;
}

/* flashkda.h refuses outputs that overlap something. When a copy stands in for one of the two it cannot see that, so look here. */
static int check_overlaps(const py_call *call)
{
    for (int o = 0; o < PY_WORDS; ++o) {
        const py_view *const out = &call->view[o];
        if (out->tensor == NULL || !fkdai_py_is_output((py_argument)o)) continue;
        for (int i = 0; i < PY_WORDS; ++i) {
            const py_view *const in = &call->view[i];
            if (i == o || in->tensor == NULL || out->data >= end_of(in) || in->data >= end_of(out)) continue;
            const int in_place = o == ARG_FINAL_STATE && i == ARG_INITIAL_STATE && in->data == out->data && end_of(in) == end_of(out);
            if (in_place) continue;
            PyErr_Format(PyExc_ValueError, "%s overlaps %s in memory, but outputs may not share memory with other arguments", out->name,
                         in->name);
            return -1;
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- what to copy */

enum { NEVER_ASKED_FOR = FKDA_ARG_CHECKPOINT_OFFSETS + 1 };    /* a bit that advise never sets: copied only where there are no words */

static PyObject *torch_dtype(const py_core *core, fkda_dtype dtype)
{
    for (int i = 0; i < PY_DTYPE_COUNT; ++i)
        if (fkdai_py_known_dtypes[i] == dtype) return core->dtypes[i];
    return Py_None;    /* a mask keeps its own */
}

static int add_copy(const py_core *core, PyObject *copies, py_argument argument, fkda_dtype dtype)
{
    PyObject *const position = PyLong_FromLong(argument);
    const int status = position == NULL ? -1 : PyDict_SetItem(copies, position, torch_dtype(core, dtype));
    Py_XDECREF(position);
    return status;
}

PyObject *fkdai_py_copies(const py_core *core, const py_call *call)
{
    fkda_fwd_desc t;
    uint32_t marked;
    const fkda_status status = fkda_fwd_advise(&call->desc, &call->args, &t, &marked);
    if (status != FKDA_OK) {
        fkdai_py_raise(status);
        return NULL;
    }
    const struct { py_argument argument; int bit; fkda_dtype dtype; } all[] = {
        {ARG_Q, FKDA_ARG_Q, t.q.dtype},
        {ARG_K, FKDA_ARG_K, t.k.dtype},
        {ARG_V, FKDA_ARG_V, t.v.dtype},
        {ARG_G, FKDA_ARG_G, t.g.dtype},
        {ARG_BETA, FKDA_ARG_BETA, t.beta.dtype},
        {ARG_OUT, FKDA_ARG_OUT, t.out.dtype},
        {ARG_A_LOG, FKDA_ARG_A_LOG, t.A_log},
        {ARG_DT_BIAS, FKDA_ARG_DT_BIAS, t.dt_bias},
        {ARG_INITIAL_STATE, FKDA_ARG_INITIAL_STATE, t.initial_state.dtype},
        {ARG_FINAL_STATE, FKDA_ARG_FINAL_STATE, t.final_state.dtype},
        {ARG_CU_SEQLENS, FKDA_ARG_CU_SEQLENS, t.cu_seqlens},
        {ARG_CU_SEQLENS_CPU, NEVER_ASKED_FOR, t.cu_seqlens},
        {ARG_INITIAL_SLOTS, FKDA_ARG_INITIAL_SLOTS, t.initial_state.slot_dtype},
        {ARG_FINAL_SLOTS, FKDA_ARG_FINAL_SLOTS, t.final_state.slot_dtype},
        {ARG_INITIAL_MASK, NEVER_ASKED_FOR, FKDA_NONE},
        {ARG_CHECKPOINT_STATE, FKDA_ARG_CHECKPOINT_STATE, t.checkpoints.dtype},
        {ARG_CHECKPOINT_OFFSETS, FKDA_ARG_CHECKPOINT_OFFSETS, t.checkpoint_offset_dtype},
        {ARG_CHECKPOINT_SLOTS, FKDA_ARG_CHECKPOINT_SLOTS, t.checkpoints.slot_dtype},
    };
    PyObject *const copies = PyDict_New();
    int made = copies == NULL || (!call->is_question && check_overlaps(call) < 0) ? -1 : 0;
    for (size_t i = 0; i < sizeof all / sizeof *all && made == 0; ++i)
        if ((marked >> all[i].bit | call->copies >> all[i].argument) & 1u) made = add_copy(core, copies, all[i].argument, all[i].dtype);
    if (made == 0) return copies;
    Py_XDECREF(copies);
    return NULL;
}

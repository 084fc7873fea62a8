/*
 * Packed sequences: cu_seqlens, and cu_seqlens_cpu, a copy of it that the host may read. The library reads the copy while the call is made and keeps
 * no address of it.
 */
#include "py_core.h"

static int refuse_count(const py_view *cu_seqlens, const py_view *q)
{
    PyErr_Format(PyExc_ValueError, "cu_seqlens has %lld entries and %s has B = %lld, but packed sequences need N + 1 >= 1 entries and B = 1",
                 (long long)cu_seqlens->shape[0], q->name, (long long)q->shape[0]);
    return -1;
}

static int refuse_place(const py_view *on_host)
{
    PyObject *const device = PyObject_GetAttrString(on_host->tensor, "device");
    if (device == NULL) return -1;
    PyErr_Format(PyExc_ValueError, "%s is on device %S, but it must be on cpu: the host reads it", on_host->name, device);
    Py_DECREF(device);
    return -1;
}

static int describe_copy(py_call *call)
{
    py_form taken;
    const py_view *const cu_seqlens = &call->view[ARG_CU_SEQLENS], *const on_host = &call->view[ARG_CU_SEQLENS_CPU];
    if (on_host->tensor == NULL) return 0;
    if (on_host->memory != FKDA_MEMORY_HOST) return refuse_place(on_host);
    if (on_host->dtype != cu_seqlens->dtype)
        return fkdai_py_refuse_dtype(on_host, cu_seqlens->dtype == FKDA_I32 ? "int32, that of cu_seqlens" : "int64, that of cu_seqlens");
    if (fkdai_py_require_shape(on_host, "[N+1]", 1, cu_seqlens->shape) < 0 || fkdai_py_take(call, ARG_CU_SEQLENS_CPU, 1, &taken) < 0) return -1;
    call->args.cu_seqlens_host = taken.data;
    return 0;
}

int fkdai_py_describe_lengths(py_call *call)
{
    py_form taken;
    const py_view *const q = fkdai_py_queries(call), *const cu_seqlens = &call->view[ARG_CU_SEQLENS];
    if (cu_seqlens->tensor == NULL && call->view[ARG_CU_SEQLENS_CPU].tensor != NULL) return fkdai_py_refuse_alone(call, ARG_CU_SEQLENS_CPU, "cu_seqlens");
    if (cu_seqlens->tensor == NULL) return 0;
    if (fkdai_py_require_ndim(cu_seqlens, "[N+1]", 1) < 0 || fkdai_py_take(call, ARG_CU_SEQLENS, 1, &taken) < 0) return -1;
    if (cu_seqlens->shape[0] < 1 || q->shape[0] != 1) return refuse_count(cu_seqlens, q);
    call->desc.N = cu_seqlens->shape[0] - 1;
    call->desc.cu_seqlens = taken.dtype;
    call->args.cu_seqlens = taken.data;
    return describe_copy(call);
}

/*
 * The extension module flash_kda._core: from Python arguments to one call of flashkda.h.
 *
 *     py_module.c     the module, its functions and its state
 *     py_torch.c      what is looked up in torch, once
 *     py_tensor.c     a torch tensor as a plain struct: exchange table, or attribute by attribute
 *     py_describe.c   tensors -> fkda_fwd_desc and fkda_fwd_args; shapes, dtypes, layouts; which arguments need a copy
 *     py_fwd.c        numbers, grad mode, plan, scratch, run
 *     py_scratch.c    where a call's workspace comes from
 *
 * Functions that can fail return 0, or -1 with a Python exception set. Everything here runs with the GIL held, except fkda_fwd_run.
 */
#ifndef FKDAI_PY_CORE_H
#define FKDAI_PY_CORE_H

#include <Python.h>

#include "flashkda.h"
#include "py_dlpack.h"

/* ---------------------------------------------------------------- py_torch.c */

enum { PY_DTYPE_COUNT = 5 };

typedef enum py_name {    /* attributes that the slow road reads, as interned strings */
    NAME_DATA_PTR, NAME_SHAPE, NAME_STRIDE, NAME_DTYPE, NAME_DEVICE, NAME_TYPE, NAME_INDEX, NAME_REQUIRES_GRAD, NAME_ITEMSIZE,
    NAME_IS_FLOATING_POINT, NAME_CUDA_STREAM, PY_NAME_COUNT
} py_name;

typedef struct py_core {
    PyObject *names[PY_NAME_COUNT];
    PyObject *tensor_type;               /* torch.Tensor; NULL until torch is seen in sys.modules */
    PyObject *is_grad_enabled, *get_num_threads;
    PyObject *dtypes[PY_DTYPE_COUNT];    /* torch.bfloat16 ...; their meaning is fkdai_py_known_dtypes */
    PyObject *current_stream, *empty, *uint8;    /* torch.cuda.current_stream, torch.empty, torch.uint8: the slow road of CUDA calls */
    const dl_exchange *exchange;         /* NULL: this torch has none */
    int exchange_hidden;                 /* tests: behave as if it had none */
    void *kept_scratch;                  /* a workspace in host memory kept for the next call, or NULL */
    size_t kept_bytes;
} py_core;

extern const fkda_dtype fkdai_py_known_dtypes[PY_DTYPE_COUNT];

int fkdai_py_intern_names(py_core *core);

/* 1: torch is there and looked up. 0: nobody has imported torch, so nothing can be a tensor. -1: exception. */
int fkdai_py_find_torch(py_core *core);

int fkdai_py_thread_count(py_core *core, int32_t *threads);    /* torch.get_num_threads(), or 0 without torch */

/* torch's current stream of this CUDA device. */
int fkdai_py_current_stream(py_core *core, int32_t device, fkda_stream *stream);

/* ---------------------------------------------------------------- py_tensor.c */

enum { PY_MAX_DIMS = 8 };

typedef struct py_view {
    const char *name;       /* the argument */
    PyObject *tensor;       /* borrowed; NULL: the argument is None */
    char *data;
    fkda_dtype dtype;       /* FKDA_NONE: one that flashkda.h has no word for */
    int is_floating;
    int64_t item_bytes;
    fkda_memory memory;
    int32_t device;
    int ndim;
    int64_t shape[PY_MAX_DIMS], stride[PY_MAX_DIMS];
} py_view;

int fkdai_py_view(py_core *core, const char *name, PyObject *object, py_view *view);

/* ---------------------------------------------------------------- py_describe.c */

typedef enum py_argument {    /* positions in flash_kda.fwd; a set of them is a mask of 1 << position */
    ARG_Q, ARG_K, ARG_V, ARG_G, ARG_BETA, ARG_SCALE, ARG_OUT, ARG_A_LOG, ARG_DT_BIAS, ARG_LOWER_BOUND,
    ARG_INITIAL_STATE, ARG_FINAL_STATE, ARG_CU_SEQLENS, PY_ARGUMENT_COUNT
} py_argument;

typedef struct py_call {
    py_view view[PY_ARGUMENT_COUNT];
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    unsigned copies;    /* arguments that flashkda.h cannot take as they lie */
} py_call;

/* From call->view to call->desc and call->args, without scale, gate and threads. Sets call->copies: what the C API cannot take, and on
 * CUDA tensors also what the kernels cannot, where a copy helps. */
int fkdai_py_describe(py_call *call);

/* ---------------------------------------------------------------- py_scratch.c */

/* A call's workspace, in the memory that its tensors are in. */
typedef struct py_scratch {
    void *data;                    /* NULL if no bytes are needed */
    size_t bytes;
    dl_managed_tensor *managed;    /* CUDA: torch's block, through the exchange table ... */
    PyObject *tensor;              /* ... or as a torch tensor */
} py_scratch;

int fkdai_py_take_scratch(py_core *core, const py_view *q, size_t bytes, py_scratch *scratch);
void fkdai_py_give_scratch(py_core *core, py_scratch *scratch);    /* CUDA: right behind the launch; torch reuses it in stream order */
void fkdai_py_free_scratch(py_core *core);

/* ---------------------------------------------------------------- py_fwd.c */

PyObject *fkdai_py_fwd(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *fkdai_py_last_plan(PyObject *module, PyObject *unused);
PyObject *fkdai_py_workspace_size(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

#endif

/*
 * The extension module flash_kda._core: from Python arguments to one call of flashkda.h.
 *
 *     py_module.c     the module, its functions and its state
 *     py_torch.c      what is looked up in torch, once
 *     py_tensor.c     a torch tensor as a plain struct: exchange table, or attribute by attribute
 *     py_plain.c      the negative bit and requires_grad, of all tensors in one question
 *     py_refuse.c     why a tensor cannot be read in memory, in words
 *     py_describe.c   tensors -> fkda_fwd_desc and fkda_fwd_args; shapes, dtypes, layouts
 *     py_lengths.c    the same for cu_seqlens, and for its copy on the host
 *     py_states.c     the same for states: dense or in pools, masks, checkpoints
 *     py_words.c      arguments that are words or whole numbers
 *     py_copies.c     which arguments Python must copy, and in which dtype: asked of the library, which copies the others itself
 *     py_autograd.c   derivatives that torch would want, version counters of what was written
 *     py_fwd.c        numbers, plan, scratch, run
 *     py_decode.c     the same of decode: its arguments are read as those of a forward pass in place
 *     py_decode_fused.c   the same of decode_fused, and the tensors around its step
 *     py_recipe.c     calls that come again: compared with an earlier one instead of read
 *     py_bound.c      flash_kda.bind: a call that holds what does not change
 *     py_scratch.c    where a call's workspace comes from
 *     py_questions.c  backends, workspace_size
 *
 * Functions that can fail return 0, or -1 with a Python exception set. Everything here runs with the GIL held, except fkda_fwd_run, fkda_decode_run and fkda_decode_fused_run.
 */
#ifndef FKDAI_PY_CORE_H
#define FKDAI_PY_CORE_H

#include <Python.h>

#include "flashkda.h"
#include "py_dlpack.h"

/* ---------------------------------------------------------------- py_torch.c */

enum { PY_DTYPE_COUNT = 5 };

typedef enum py_name {    /* attributes that are read in a call, as interned strings */
    NAME_DATA_PTR, NAME_SHAPE, NAME_STRIDE, NAME_DTYPE, NAME_DEVICE, NAME_TYPE, NAME_INDEX, NAME_REQUIRES_GRAD, NAME_ITEMSIZE,
    NAME_IS_FLOATING_POINT, NAME_CUDA_STREAM, NAME_IS_NEG, NAME_STORAGE_OFFSET, NAME_TORCH_DISPATCH, NAME_CURRENT_LEVEL,
    NAME_IS_INFERENCE, NAME_NEG,
    NAME_NEGATIVE, NAME_LOGIT, NAME_L2, NAME_NHVK,    /* words that mean the default */
    PY_NAME_COUNT
} py_name;

/* Objects of torch that a call uses; NULL until torch is seen in sys.modules, and where it is said, in a torch that lacks them. */
typedef enum py_object {
    OBJECT_TENSOR_TYPE, OBJECT_PARAMETER_TYPE, OBJECT_PLAIN_DISPATCH,    /* torch.Tensor.__torch_dispatch__: that of a class without its own */
    OBJECT_IS_GRAD_ENABLED, OBJECT_GET_NUM_THREADS,
    OBJECT_FORWARD_AD_NAMES, OBJECT_UNPACK_DUAL,      /* the dict and unpack_dual of torch.autograd.forward_ad */
    OBJECT_IS_FWD_GRAD_ENABLED,                       /* may be NULL */
    OBJECT_INCREMENT_VERSION,
    OBJECT_TENSOR_METADATA, OBJECT_TENSOR_GUARDS,     /* may be NULL */
    OBJECT_CURRENT_STREAM, OBJECT_EMPTY, OBJECT_UINT8,    /* torch.cuda.current_stream ...: the slow road of CUDA calls */
    PY_OBJECT_COUNT
} py_object;

/* What the tensors of an earlier call were, all of them plain (py_plain.c). */
typedef struct py_kind {
    PyObject *check;      /* check(*tensors): are these of the same kind? NULL: nothing is known */
    int requires_grad;    /* one of them did */
    int patience;         /* so many calls more of other kinds, before one of them is learnt */
} py_kind;

typedef enum py_operation_id { PY_FWD, PY_DECODE, PY_DECODE_FUSED, PY_OPERATIONS } py_operation_id;
enum { PY_MAX_DIMS = 8, PY_MOST_ARGUMENTS = 32, PY_RECIPES = 4 };

/* Of a function of the module, by the positions of its arguments. */
typedef struct py_operation {
    py_operation_id id;
    const char *name;                    /* "fwd" */
    size_t places[PY_MOST_ARGUMENTS];    /* where the address of a tensor is in args; 0: it is no tensor */
    uint8_t followers[PY_MOST_ARGUMENTS];    /* a tensor that may stand for so many behind it too, which are None then */
    size_t desc_bytes, args_bytes;
    fkda_status (*plan)(const void *desc, fkda_plan *plan);
    fkda_status (*run)(const fkda_plan *plan, const void *args, void *workspace, size_t workspace_bytes, fkda_stream stream);
} py_operation;

typedef union py_any_args { fkda_fwd_args fwd; fkda_decode_args decode; fkda_decode_fused_args fused; } py_any_args;
typedef union py_any_desc { fkda_fwd_desc fwd; fkda_decode_desc decode; fkda_decode_fused_desc fused; } py_any_desc;

/* A tensor but for where it lies. */
typedef struct py_key {
    dl_device device;
    dl_dtype dtype;
    int32_t ndim;
    uint32_t low_bits;    /* of its address */
    int64_t shape[PY_MAX_DIMS], stride[PY_MAX_DIMS];
} py_key;

/* A call that has run (py_recipe.c). */
typedef struct py_recipe {
    const py_operation *operation;           /* NULL: none */
    uint64_t number;                         /* no other one has it */
    Py_ssize_t count;                        /* arguments */
    PyObject *value[PY_MOST_ARGUMENTS];      /* those that are no tensors; NULL: a tensor, which has a key */
    py_key key[PY_MOST_ARGUMENTS];
    uint8_t followers[PY_MOST_ARGUMENTS];    /* so many addresses behind that of this tensor are its own too ... */
    ptrdiff_t step[PY_MOST_ARGUMENTS];       /* ... so many bytes apart */
    int written[3];                          /* positions, or -1 */
    fkda_memory memory;
    int32_t device, threads;
    py_kind plain;
    py_any_desc desc;
    py_any_args args;
    fkda_plan plan;
    size_t workspace_bytes;                  /* of the plan */
} py_recipe;

extern const py_operation fkdai_py_op_fwd, fkdai_py_op_decode, fkdai_py_op_decode_fused;

/* A call's workspace, in the memory that its tensors are in (py_scratch.c). */
typedef struct py_scratch {
    void *data;                    /* NULL if no bytes are needed */
    size_t bytes;
    dl_managed_tensor *managed;    /* CUDA: torch's block, through the exchange table ... */
    PyObject *tensor;              /* ... or as a torch tensor */
} py_scratch;

typedef struct py_core {
    PyObject *bound_type;                /* flash_kda._core.Bound */
    PyObject *names[PY_NAME_COUNT];
    PyObject *objects[PY_OBJECT_COUNT];
    PyObject *dtypes[PY_DTYPE_COUNT];    /* torch.bfloat16 ...; their meaning is fkdai_py_known_dtypes */
    int has_torch;                       /* objects and dtypes are filled in */
    int counts_lists;                    /* OBJECT_INCREMENT_VERSION takes a tuple of tensors; in an older torch one tensor */
    const dl_exchange *exchange;         /* NULL: this torch has none */
    int exchange_hidden;                 /* tests: behave as if it had none */
    uint64_t cuda_devices;               /* bit d: CUDA device d was found to have kernels */
    py_kind plain;
    int has_warned_of_reference, has_warned_of_copies;    /* these warnings have been given */
    py_recipe recipes[PY_OPERATIONS][PY_RECIPES];
    int next_recipe[PY_OPERATIONS];      /* the one that is learnt over */
    uint64_t recipe_number, known_calls, bound_calls;    /* learnt so many; so many calls ran by one; so many of these by that of a Bound */
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

/* Tensors of torch without memory (zero tensors, functionalized or freed ones) have the address 0, and views of them the address 0 plus
 * their offset. No offset reaches this bound. Below it the offset is asked for: small tensors of a Python that is not position-independent lie there,
 * and CUDA memory whose addresses are reserved apart (torch's expandable segments). */
#define PY_CERTAIN_ADDRESS (UINT64_C(1) << 44)

typedef struct py_view {
    const char *name;       /* the argument */
    PyObject *tensor;       /* borrowed; NULL: the argument is None */
    char *data;
    fkda_dtype dtype;       /* FKDA_NONE: one that flashkda.h has no word for */
    int is_floating;
    int is_empty;           /* an axis of size 0: no element, and strides that mean nothing */
    int is_negated;         /* torch's negative bit: the values are minus what lies in memory */
    int64_t item_bytes;
    fkda_memory memory;
    int32_t device;
    int ndim;
    int64_t shape[PY_MAX_DIMS], stride[PY_MAX_DIMS];
} py_view;

/* 1: object is a torch.Tensor. 0: it is not. -1: exception. */
int fkdai_py_is_tensor(py_core *core, PyObject *object);
int fkdai_py_view(py_core *core, const char *name, PyObject *object, py_view *view);
int fkdai_py_is_negated(const py_core *core, PyObject *tensor);    /* 1, 0, or -1: exception */
int fkdai_py_has_memory(const py_core *core, PyObject *tensor, const void *data, int64_t item_bytes);    /* likewise; of a tensor that is not empty */

/* ---------------------------------------------------------------- py_plain.c */

/* 1: all are of this kind, or found plain now, and the kind is learnt. */
int fkdai_py_are_of_kind(const py_core *core, py_kind *kind, PyObject *const *tensors, int count);
PyObject *fkdai_py_kind_of(const py_core *core, PyObject *tensors);    /* py_kind.check of these; NULL without an exception if torch has none */
int fkdai_py_guards_tell(const py_core *core, PyObject *plain, PyObject *other);    /* 1: a kind of the one is not that of the other */

/* ---------------------------------------------------------------- py_refuse.c */

/* Sets an exception that names the argument and says why its memory cannot be read; returns -1. A pending exception is its last resort. */
int fkdai_py_refuse_tensor(const py_core *core, const py_view *view);
int fkdai_py_refuse_device(const py_view *view);

/* ---------------------------------------------------------------- py_describe.c */

typedef enum py_argument {    /* positions in flash_kda.fwd; a set of them is a mask of 1 << position */
    ARG_Q, ARG_K, ARG_V, ARG_G, ARG_BETA, ARG_SCALE, ARG_OUT, ARG_A_LOG, ARG_DT_BIAS, ARG_LOWER_BOUND,
    ARG_INITIAL_STATE, ARG_FINAL_STATE, ARG_CU_SEQLENS, ARG_CU_SEQLENS_CPU,
    ARG_INITIAL_SLOTS, ARG_FINAL_SLOTS, ARG_INITIAL_MASK, ARG_CHECKPOINT_STATE, ARG_CHECKPOINT_OFFSETS, ARG_CHECKPOINT_SLOTS,
    ARG_CHECKPOINT_EVERY, ARG_SLOT_NULL, ARG_GATE, ARG_BETA_KIND, ARG_BETA_MULTIPLIER, ARG_QK_NORM, ARG_STATE_LAYOUT, PY_ARGUMENT_COUNT
} py_argument;

enum { PY_WORDS = ARG_CHECKPOINT_EVERY, PY_MEANING = ARG_GATE, PY_MEANING_COUNT = PY_ARGUMENT_COUNT - PY_MEANING };    /* words end the list;
                                                                        those of meaning are in decode and decode_fused too, in this order */

typedef struct py_call {
    int is_decode;      /* set before it is read. q and out may be absent; step_states, num_accepted and parent are where checkpoints are in fwd */
    int has_slot_rows;  /* likewise: slots are [N,C] */
    int is_question;    /* likewise: nothing will run, and out stands for one that is not there yet */
    fkda_state_layout state_layout;
    py_view view[PY_WORDS];
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    int asks_no_grad;   /* no tensor is known to require grad; 0: nobody has looked */
    unsigned copies;    /* arguments that flashkda.h has no words for as they lie: described as contiguous copies without an address */
} py_call;

/* Fills in view->is_negated of all, and call->asks_no_grad (py_plain.c). */
int fkdai_py_look_at_bits(py_core *core, py_call *call);

/* From call->view to call->desc, call->args and call->copies, without scale, lower_bound, threads, and the words, which are in desc already. */
int fkdai_py_describe(py_call *call);

/* What flashkda.h is told of an argument: as it lies, or as the copy that will stand for it. */
typedef struct py_form {
    fkda_dtype dtype;
    const void *data;    /* NULL: the copy is not there yet */
    int is_copy;
} py_form;

/* Checks what the values are and how they lie, the last `inner` axes row by row; lists the argument for a copy where flashkda.h has no words
 * for it. */
int fkdai_py_take(py_call *call, py_argument argument, int inner, py_form *taken);
const py_view *fkdai_py_queries(const py_call *call);    /* q; where it is absent, k */
int64_t fkdai_py_stride(const py_view *view, int axis);    /* 0, flashkda.h's default, where no step is taken */
int fkdai_py_require_shape(const py_view *view, const char *rule, int ndim, const int64_t *wanted);
int fkdai_py_require_ndim(const py_view *view, const char *rule, int ndim);
int fkdai_py_refuse_dtype(const py_view *view, const char *rule);    /* -1, with a TypeError */

/* ---------------------------------------------------------------- py_lengths.c */

int fkdai_py_describe_lengths(py_call *call);    /* behind the sizes of q */

/* ---------------------------------------------------------------- py_states.c */

int fkdai_py_describe_states(py_call *call);
int fkdai_py_refuse_alone(const py_call *call, py_argument argument, const char *missing);    /* -1: it is given, and what it belongs to is not */
const char *fkdai_py_state_rule(const py_call *call, const char *v_first, const char *k_first);    /* the one for call->state_layout */

/* ---------------------------------------------------------------- py_words.c */

/* The arguments from PY_WORDS on, of which `count` are there; None, and what is not there, means the default. */
int fkdai_py_describe_words(const py_core *core, py_call *call, PyObject *const *words, Py_ssize_t count);

/* Which of the words is it? `usual`, which may be NULL, is the first of them, interned. */
int fkdai_py_read_word(const char *name, PyObject *object, const PyObject *usual, const char *const *words, int count, int *index);

/* ---------------------------------------------------------------- py_copies.c */

int fkdai_py_is_output(py_argument argument);

/* {position: dtype}: the arguments that must be copied before the call is taken. NULL with an exception: no copy helps. */
PyObject *fkdai_py_copies(const py_core *core, const py_call *call);

/* ---------------------------------------------------------------- py_autograd.c */

int fkdai_py_is_true(PyObject *object);    /* consumes it, NULL too: 1, 0, or -1 with its exception */

/* scale and lower_bound may be tensors too. */
int fkdai_py_check_derivatives(py_core *core, const py_call *call, PyObject *scale, PyObject *lower_bound);

enum { PY_BACKWARD = 1, PY_FORWARD = 2 };
int fkdai_py_derivative_modes(const py_core *core, int asked);    /* those of them that are on: would torch record a graph, carry tangents? -1: exception */

/* After a call that wrote: out and final_state have changed in place. */
int fkdai_py_count_writes(const py_core *core, const py_call *call);
int fkdai_py_count_these(const py_core *core, PyObject *const *written, int count);    /* at most 3 */

/* ---------------------------------------------------------------- py_scratch.c */

int fkdai_py_take_scratch(py_core *core, const py_view *q, size_t bytes, py_scratch *scratch);
void fkdai_py_give_scratch(py_core *core, py_scratch *scratch);    /* CUDA: right behind the launch; torch reuses it in stream order */
void fkdai_py_free_scratch(py_core *core);

/* ---------------------------------------------------------------- py_fwd.c */

PyObject *fkdai_py_fwd(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *fkdai_py_query(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
int fkdai_py_raise(fkda_status status);    /* the library's last error as an exception; returns -1 */

/* What fwd and decode share. `names` of the arguments at their positions in fwd; everything up to the plan. call is all zero, but for what says that
 * it is set before. */
int fkdai_py_read_call(py_core *core, py_call *call, const char *const *names, PyObject *const *arguments, Py_ssize_t count);
int fkdai_py_warn(py_core *core, const fkda_plan *plan);
int fkdai_py_stream_of(py_core *core, const py_call *call, fkda_stream *stream);
void fkdai_py_keep_plan(const fkda_plan *plan, uint64_t number);    /* for last_plan. number: of the recipe that always has this plan, or 0 */
void fkdai_py_kept_plan(fkda_plan *plan);
PyObject *fkdai_py_last_plan(PyObject *module, PyObject *unused);

/* ---------------------------------------------------------------- py_decode.c */

PyObject *fkdai_py_decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *fkdai_py_query_decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---------------------------------------------------------------- py_decode_fused.c */

PyObject *fkdai_py_decode_fused(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---------------------------------------------------------------- py_recipe.c */

/* 1: the call was known, and has run. 0: it must be read, and nothing was written. -1: it has run, but an exception is set. */
int fkdai_py_run_again(py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count);

typedef struct py_learnt {
    const void *desc, *args;
    int written[3];          /* positions of tensors that count as written, which may be None, or -1 */
} py_learnt;

/* After a call that has run, of which nothing was copied. */
void fkdai_py_learn(py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, const py_learnt *what);
void fkdai_py_forget_recipe(py_recipe *recipe);

/* A call that holds what does not change. */
typedef struct py_bound_call {
    const py_operation *operation;
    PyObject *const *arguments;    /* all of them, as the function of the module takes them */
    Py_ssize_t count;
    PyObject *const *given;        /* those of them that are tensors of this call alone: nothing is known of them */
    int given_count;
} py_bound_call;

/* As fkdai_py_run_again, by the call's own recipe. Of tensors that it holds it is not asked again whether they are plain. */
int fkdai_py_run_bound(py_core *core, py_recipe *recipe, const py_bound_call *call);
void fkdai_py_adopt(py_core *core, const py_bound_call *call, py_recipe *to);    /* of the call that has just run; to is left alone if none fits */

/* ---------------------------------------------------------------- py_bound.c */

extern PyType_Spec fkdai_py_bound_spec;
PyObject *fkdai_py_bind(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---------------------------------------------------------------- py_questions.c */

PyObject *fkdai_py_backends(PyObject *module, PyObject *unused);
PyObject *fkdai_py_workspace_size(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

#endif

/*
 * Calls that come again.
 *
 * A model asks for the same thing thousands of times: tensors of the same dtypes, sizes and strides at other addresses, and the same numbers and
 * words. So what a call was found to be, its plan and the struct of its addresses, is kept as a recipe. The next call is compared with it, argument by
 * argument; if all of them are alike it runs the plan on the new addresses. Nothing is checked less: what a check depends on is compared, and where
 * that differs, or a comparison cannot be made, or the library refuses the addresses, the call goes the long way, which has the words for it.
 *
 * What may change although the arguments are alike is asked in every call: the negative bit, requires_grad, the grad modes, torch's stream and its
 * number of threads. Host memory is planned anew, as the threads of this process may have been bound to other cores.
 */
#include <string.h>

#include "py_core.h"

enum { PATIENCE = 16 };    /* calls of a recipe before one question about all of its tensors is learnt (py_plain.c) */

/* ---------------------------------------------------------------- arguments that are no tensors */

/* Only what never changes can be known again by its identity. */
static int never_changes(PyObject *object)
{
    return object == Py_None || PyFloat_CheckExact(object) || PyLong_CheckExact(object) || PyUnicode_CheckExact(object) || PyBool_Check(object);
}

static int is_same_value(PyObject *known, PyObject *given)
{
    if (known == given) return 1;
    if (Py_TYPE(known) != Py_TYPE(given)) return 0;
    if (!PyFloat_CheckExact(known)) return (PyLong_CheckExact(known) || PyUnicode_CheckExact(known)) && PyObject_RichCompareBool(known, given, Py_EQ) == 1;
    const double a = PyFloat_AsDouble(known), b = PyFloat_AsDouble(given);
    return memcmp(&a, &b, sizeof a) == 0;    /* 0 and -0 are not the same factor */
}

/* ---------------------------------------------------------------- tensors */

static int has_table(const py_core *core) { return core->has_torch && core->exchange != NULL && !core->exchange_hidden; }

static int is_plain_class(const py_core *core, PyObject *object)
{
    PyObject *const type = (PyObject *)Py_TYPE(object);
    return type == core->objects[OBJECT_TENSOR_TYPE] || type == core->objects[OBJECT_PARAMETER_TYPE];
}

static int has_memory(const py_core *core, PyObject *object, const char *data, dl_dtype dtype)
{
    const int has = fkdai_py_has_memory(core, object, data, dtype.bits / 8 * dtype.lanes);
    if (has < 0) PyErr_Clear();
    return has > 0;
}

/* The tensor as its key says it, and its address; -1, without an exception: it cannot be told here. */
static int read_key(const py_core *core, PyObject *object, py_key *key, char **data)
{
    dl_tensor tensor;
    memset(&tensor, 0, sizeof tensor);
    if (!is_plain_class(core, object)) return -1;
    if (core->exchange->borrow(object, &tensor) != 0) {
        PyErr_Clear();
        return -1;
    }
    if (tensor.ndim > PY_MAX_DIMS || tensor.data == NULL) return -1;
    *data = (char *)tensor.data + tensor.byte_offset;
    *key = (py_key){.device = tensor.device, .dtype = tensor.dtype, .ndim = tensor.ndim, .low_bits = (uint32_t)((uintptr_t)*data % FKDA_COPY_ALIGN)};
    for (int i = 0; i < tensor.ndim; ++i) key->shape[i] = tensor.shape[i], key->stride[i] = tensor.strides[i];
    return has_memory(core, object, *data, tensor.dtype) ? 0 : -1;
}

/* Is the tensor as the key says? Then *data is its address. */
static int is_alike(const py_core *core, PyObject *object, const py_key *key, char **data)
{
    dl_tensor t;
    t.ndim = -1;
    if (!is_plain_class(core, object)) return 0;
    if (core->exchange->borrow(object, &t) != 0) {
        PyErr_Clear();
        return 0;
    }
    *data = (char *)t.data + t.byte_offset;
    if (t.ndim != key->ndim || memcmp(&t.dtype, &key->dtype, sizeof t.dtype) != 0 || memcmp(&t.device, &key->device, sizeof t.device) != 0) return 0;
    for (int i = 0; i < t.ndim; ++i)
        if (t.shape[i] != key->shape[i] || t.strides[i] != key->stride[i]) return 0;
    return (uintptr_t)*data % FKDA_COPY_ALIGN == key->low_bits && has_memory(core, object, *data, t.dtype);
}

/* ---------------------------------------------------------------- recognising a call */

/* What a call needs beside its recipe. */
typedef struct taken {
    py_any_args args;
    PyObject *tensors[PY_MOST_ARGUMENTS];    /* borrowed */
    int count;
} taken;

static void set_addresses(const py_recipe *r, const py_operation *operation, Py_ssize_t i, char *data, py_any_args *args)
{
    for (int j = 0; j <= r->followers[i]; ++j) {
        char *const at = data + j * r->step[i];
        memcpy((char *)args + operation->places[i + j], &at, sizeof at);
    }
}

static int is_known(const py_core *core, const py_recipe *r, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, taken *call)
{
    if (r->operation == NULL || count != r->count) return 0;
    for (Py_ssize_t i = 0; i < count; ++i)    /* first what costs nothing */
        if (r->value[i] != NULL ? !is_same_value(r->value[i], arguments[i]) : arguments[i] == Py_None) return 0;
    call->count = 0;
    memcpy(&call->args, &r->args, operation->args_bytes);
    for (Py_ssize_t i = 0; i < count; ++i) {
        char *data;
        if (r->value[i] != NULL) continue;
        if (!is_alike(core, arguments[i], &r->key[i], &data)) return 0;
        set_addresses(r, operation, i, data, &call->args);
        call->tensors[call->count++] = arguments[i];
    }
    return 1;
}

static int forget_error(void)
{
    PyErr_Clear();
    return 0;
}

/* One tensor after the other. */
static int are_plain_one_by_one(const py_core *core, PyObject *const *tensors, int count)
{
    const int modes = fkdai_py_derivative_modes(core, PY_BACKWARD | PY_FORWARD);
    for (int i = 0; i < count && (modes == 0 || modes == PY_BACKWARD); ++i) {
        if (fkdai_py_is_negated(core, tensors[i]) != 0) return forget_error();
        if (modes != 0 && fkdai_py_is_true(PyObject_GetAttr(tensors[i], core->names[NAME_REQUIRES_GRAD])) != 0) return forget_error();
    }
    return modes == 0 || modes == PY_BACKWARD ? 1 : forget_error();
}

/* No negative bit, and nothing that torch wants a derivative of. */
static int are_plain(py_core *core, py_kind *kind, PyObject *const *tensors, int count)
{
    if (kind->check == NULL && (core->objects[OBJECT_TENSOR_GUARDS] == NULL || kind->patience > 0)) {
        kind->patience -= kind->patience > 0;
        return are_plain_one_by_one(core, tensors, count);
    }
    if (!fkdai_py_are_of_kind(core, kind, tensors, count)) {
        Py_CLEAR(kind->check);
        kind->patience = PATIENCE;
        return 0;
    }
    const int modes = fkdai_py_derivative_modes(core, kind->requires_grad ? PY_BACKWARD | PY_FORWARD : PY_FORWARD);    /* the long way asks which */
    return modes < 0 ? forget_error() : modes == 0;
}

/* Host memory: as many threads as torch wants now. */
static int has_its_threads(py_core *core, const py_recipe *r)
{
    int32_t threads = 0;
    if (r->memory == FKDA_MEMORY_CUDA) return 1;
    return fkdai_py_thread_count(core, &threads) < 0 ? forget_error() : threads == r->threads;
}

/* The call of that recipe, with the threads of now. */
static int fits(py_core *core, const py_recipe *r, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, taken *call)
{
    return is_known(core, r, operation, arguments, count, call) && has_its_threads(core, r);
}

/* ---------------------------------------------------------------- running it */

static int count_writes(const py_core *core, const int *positions, PyObject *const *arguments)
{
    PyObject *written[3];
    int count = 0;
    for (int i = 0; i < 3; ++i)
        if (positions[i] >= 0 && arguments[positions[i]] != Py_None) written[count++] = arguments[positions[i]];
    return fkdai_py_count_these(core, written, count);
}

/* 1: it ran. 0: it did not, and nothing was written. -1: it ran, and an exception is set. */
static int run(py_core *core, const py_recipe *r, PyObject *const *arguments, const taken *call)
{
    const py_operation *const operation = r->operation;    /* others may learn while this one runs */
    const uint64_t number = r->number;
    const int written[3] = {r->written[0], r->written[1], r->written[2]};
    const py_view first = {.memory = r->memory, .device = r->device, .tensor = call->tensors[0]};
    fkda_plan plan;
    fkda_stream stream = NULL;
    py_scratch scratch;
    if (r->memory == FKDA_MEMORY_CUDA) {
        plan = r->plan;
        if (fkdai_py_current_stream(core, r->device, &stream) < 0) return forget_error();
    } else if (operation->plan(&r->desc, &plan) != FKDA_OK) {
        return 0;
    }
    const size_t bytes = r->memory == FKDA_MEMORY_CUDA ? r->workspace_bytes : fkda_plan_workspace_size(&plan);
    if (fkdai_py_take_scratch(core, &first, bytes, &scratch) < 0) return forget_error();
    fkda_status status;
    Py_BEGIN_ALLOW_THREADS
    status = operation->run(&plan, &call->args, scratch.data, scratch.bytes, stream);
    Py_END_ALLOW_THREADS
    fkdai_py_give_scratch(core, &scratch);
    if (status != FKDA_OK) return 0;
    core->known_calls += 1;
    fkdai_py_keep_plan(&plan, first.memory == FKDA_MEMORY_CUDA ? number : 0);
    return count_writes(core, written, arguments) < 0 ? -1 : 1;
}

int fkdai_py_run_again(py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count)
{
    taken call;
    if (!has_table(core)) return 0;
    for (int i = 0; i < PY_RECIPES; ++i) {
        py_recipe *const r = &core->recipes[operation->id][i];
        if (!fits(core, r, operation, arguments, count, &call)) continue;
        const uint64_t number = r->number;
        return are_plain(core, &r->plain, call.tensors, call.count) && r->number == number ? run(core, r, arguments, &call) : 0;    /* torch may let others run */
    }
    return 0;
}

static int is_given(const py_bound_call *bound, const PyObject *tensor)
{
    for (int i = 0; i < bound->given_count; ++i)
        if (bound->given[i] == tensor) return 1;
    return 0;
}

/* What is given has no negative bit, and torch wants no derivative of anything. */
static int is_plain_bound(py_core *core, py_recipe *r, const py_bound_call *bound, const taken *call)
{
    if (core->objects[OBJECT_TENSOR_GUARDS] == NULL) return are_plain_one_by_one(core, call->tensors, call->count);
    if (bound->given_count > 0 && !fkdai_py_are_of_kind(core, &r->plain, bound->given, bound->given_count)) {
        Py_CLEAR(r->plain.check);
        return 0;
    }
    const int modes = fkdai_py_derivative_modes(core, PY_BACKWARD | PY_FORWARD);
    if (modes <= 0) return modes < 0 ? forget_error() : 1;
    if (r->plain.requires_grad) Py_CLEAR(r->plain.check);    /* such a call is refused: the next one will be of another kind */
    if (modes != PY_BACKWARD || (bound->given_count > 0 && r->plain.check == NULL)) return 0;
    for (int i = 0; i < call->count; ++i)
        if (!is_given(bound, call->tensors[i]) && fkdai_py_is_true(PyObject_GetAttr(call->tensors[i], core->names[NAME_REQUIRES_GRAD])) != 0)
            return forget_error();
    return 1;
}

int fkdai_py_run_bound(py_core *core, py_recipe *r, const py_bound_call *bound)
{
    taken call;
    if (!has_table(core) || !fits(core, r, bound->operation, bound->arguments, bound->count, &call)) return 0;
    const uint64_t number = r->number;
    const int ran = is_plain_bound(core, r, bound, &call) && r->number == number ? run(core, r, bound->arguments, &call) : 0;
    core->bound_calls += ran != 0;
    return ran;
}

/* ---------------------------------------------------------------- learning one */

void fkdai_py_forget_recipe(py_recipe *r)
{
    for (int i = 0; i < PY_MOST_ARGUMENTS; ++i) Py_CLEAR(r->value[i]);
    Py_CLEAR(r->plain.check);
    r->operation = NULL;
}

/* Fills in value and key. 0: there is an argument that is not known again. */
static int learn_arguments(const py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, const void *args, py_recipe *r)
{
    for (Py_ssize_t i = 0; i < count; ++i) {
        char *data, *told;
        if (never_changes(arguments[i])) {
            Py_INCREF(arguments[i]);
            r->value[i] = arguments[i];
            continue;
        }
        if (operation->places[i] == 0 || read_key(core, arguments[i], &r->key[i], &data) < 0) return 0;
        memcpy(&told, (const char *)args + operation->places[i], sizeof told);
        if (told != data) return 0;    /* an empty one, say */
        r->followers[i] = count > i + 1 && arguments[i + 1] == Py_None ? operation->followers[i] : 0;
        if (r->followers[i] == 0) continue;
        memcpy(&told, (const char *)args + operation->places[i + 1], sizeof told);
        r->step[i] = told - data;
    }
    return 1;
}

/* It ran the long way although it is known: a forward-mode level was open, say. */
static int is_learnt(const py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, const fkda_fwd_desc *head)
{
    taken call;
    for (int i = 0; i < PY_RECIPES; ++i) {
        const py_recipe *const r = &core->recipes[operation->id][i];
        if (is_known(core, r, operation, arguments, count, &call) && r->threads == head->threads) return 1;
    }
    return 0;
}

void fkdai_py_learn(py_core *core, const py_operation *operation, PyObject *const *arguments, Py_ssize_t count, const py_learnt *what)
{
    py_recipe *const r = &core->recipes[operation->id][core->next_recipe[operation->id]];
    if (!has_table(core) || count > PY_MOST_ARGUMENTS || is_learnt(core, operation, arguments, count, what->desc)) return;
    fkdai_py_forget_recipe(r);
    if (!learn_arguments(core, operation, arguments, count, what->args, r)) {
        fkdai_py_forget_recipe(r);
        return;
    }
    const fkda_fwd_desc *const head = what->desc;    /* the descs begin alike */
    memcpy(&r->desc, what->desc, operation->desc_bytes);
    memcpy(&r->args, what->args, operation->args_bytes);
    memcpy(r->written, what->written, sizeof r->written);
    fkdai_py_kept_plan(&r->plan);
    r->workspace_bytes = fkda_plan_workspace_size(&r->plan);
    r->operation = operation, r->count = count, r->memory = head->memory, r->device = head->device, r->threads = head->threads;
    r->plain.patience = PATIENCE, r->plain.requires_grad = 1, r->number = ++core->recipe_number;
    core->next_recipe[operation->id] = (core->next_recipe[operation->id] + 1) % PY_RECIPES;
}

void fkdai_py_adopt(py_core *core, const py_bound_call *bound, py_recipe *to)
{
    taken call;
    if (!has_table(core)) return;
    for (int i = 0; i < PY_RECIPES; ++i) {
        const py_recipe *const r = &core->recipes[bound->operation->id][i];
        if (!fits(core, r, bound->operation, bound->arguments, bound->count, &call)) continue;
        fkdai_py_forget_recipe(to);
        *to = *r;
        for (int j = 0; j < PY_MOST_ARGUMENTS; ++j) Py_XINCREF(to->value[j]);
        to->plain = (py_kind){.check = NULL};    /* of other tensors */
        return;
    }
}

/* Arguments that are words or whole numbers -> their fields of fkda_fwd_desc. Words are those of flashkda.h. */
#include <stdio.h>

#include "py_core.h"

enum { LIST_TEXT_BYTES = 128 };

/* ---------------------------------------------------------------- one word */

/* "'a', 'b' or 'c'" */
static const char *list_text(const char *const *words, int count, char *text)
{
    size_t used = 0;
    for (int i = 0; i < count; ++i)
        used += (size_t)snprintf(text + used, LIST_TEXT_BYTES - used, "%s'%s'", i == 0 ? "" : i == count - 1 ? " or " : ", ", words[i]);
    return text;
}

int fkdai_py_read_word(const char *name, PyObject *object, const PyObject *usual, const char *const *words, int count, int *index)
{
    char text[LIST_TEXT_BYTES];
    const int is_text = object != usual && PyUnicode_Check(object);
    *index = 0;
    if (object == usual) return 0;
    for (int i = 0; is_text && i < count; ++i) {
        if (PyUnicode_CompareWithASCIIString(object, words[i]) != 0) continue;
        *index = i;
        return 0;
    }
    PyErr_Format(is_text ? PyExc_ValueError : PyExc_TypeError, "%s is %R, but it must be %s", name, object, list_text(words, count, text));
    return -1;
}

/* ---------------------------------------------------------------- all of a call */

static int read_checkpoint_every(PyObject *object, int64_t *every)
{
    *every = PyLong_Check(object) ? PyLong_AsLongLong(object) : -1;
    if (*every >= 0) return 0;
    PyErr_Clear();    /* of an int that is too large: -1 too */
    PyErr_Format(PyLong_Check(object) ? PyExc_ValueError : PyExc_TypeError, "checkpoint_every is %R, but it must be an int, 0 or more tokens", object);
    return -1;
}

static int read_multiplier(PyObject *object, int32_t *multiplier)
{
    const long value = PyLong_Check(object) ? PyLong_AsLong(object) : -1;
    *multiplier = (int32_t)value;
    if (value == 1 || value == 2) return 0;
    PyErr_Clear();    /* as above */
    PyErr_Format(PyLong_Check(object) ? PyExc_ValueError : PyExc_TypeError, "beta_multiplier is %R, but it must be the int 1 or 2", object);
    return -1;
}

/* The words that have a list: each in the order of its enum. */
static const struct { py_argument argument; const char *name; py_name usual; int count; const char *words[3]; } lists[] = {
    {ARG_SLOT_NULL, "slot_null", NAME_NEGATIVE, 3, {"negative", "not_positive", "none"}},    /* the last in decode alone */
    {ARG_GATE, "gate", NAME_LOGIT, 2, {"logit", "precomputed"}},
    {ARG_BETA_KIND, "beta_kind", NAME_LOGIT, 2, {"logit", "activated"}},
    {ARG_QK_NORM, "qk_norm", NAME_L2, 2, {"l2", "none"}},
    {ARG_STATE_LAYOUT, "state_layout", NAME_NHVK, 2, {"nhvk", "nhkv"}},
};
enum { LIST_COUNT = sizeof lists / sizeof *lists };

static PyObject *given(PyObject *const *words, Py_ssize_t count, py_argument argument)
{
    const Py_ssize_t at = (Py_ssize_t)argument - PY_WORDS;
    return at < count && words[at] != Py_None ? words[at] : NULL;
}

int fkdai_py_describe_words(const py_core *core, py_call *call, PyObject *const *words, Py_ssize_t count)
{
    fkda_fwd_desc *const d = &call->desc;
    int index[LIST_COUNT] = {0};
    PyObject *const every = given(words, count, ARG_CHECKPOINT_EVERY), *const multiplier = given(words, count, ARG_BETA_MULTIPLIER);
    if (every != NULL && read_checkpoint_every(every, &d->checkpoint_every) < 0) return -1;
    for (int i = 0; i < LIST_COUNT; ++i) {
        PyObject *const word = given(words, count, lists[i].argument);
        const int known = lists[i].count - (lists[i].argument == ARG_SLOT_NULL && !call->is_decode);
        if (word != NULL && fkdai_py_read_word(lists[i].name, word, core->names[lists[i].usual], lists[i].words, known, &index[i]) < 0) return -1;
    }
    if (multiplier != NULL && read_multiplier(multiplier, &d->beta_multiplier) < 0) return -1;
    d->initial_state.slot_null = d->final_state.slot_null = d->checkpoints.slot_null = (fkda_slot_null)index[0];
    if (index[1] == 1) d->gate = FKDA_GATE_PRECOMPUTED;
    d->beta_kind = (fkda_beta)index[2];
    d->qk_norm = (fkda_qk_norm)index[3];
    call->state_layout = (fkda_state_layout)index[4];
    return 0;
}

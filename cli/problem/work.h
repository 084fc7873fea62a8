/* What run and verify share: the options about files and backends, and saving the result. */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include "options.h"
#include "problem.h"
#include "terminal.h"

typedef struct work_options {
    const char *in, *out;         /* "-": standard input, standard output; out NULL: nothing is written */
    int backend;                  /* fkda_backend */
    int64_t threads;              /* 0: all */
    int out_dtype;                /* index in work_out_dtypes; -1: as v */
    int op;                       /* operation_kind */
    int force, json;
} work_options;

#define WORK_DEFAULTS {.out_dtype = -1}

extern const char *const work_out_dtypes[];

/* Of files with pools, masks and checkpoints: a part of what run and verify say about themselves. */
#define WORK_ABOUT_STATES                                                                                                     \
    "IN may also hold initial_slots [N] (initial_state is a pool, and these are its slots), final_slots [N] (final_state is\n" \
    "that pool after the call), initial_mask [N] in U8 or BOOL (0: the sequence starts from 0), checkpoint_offsets [N] or\n"  \
    "[N,C] (the states after so many tokens of a sequence, one row of checkpoint_state each; 0 or less: none), and\n"         \
    "checkpoint_slots (the slot of each row). Its metadata may hold checkpoint_every, in place of offsets: a checkpoint\n"    \
    "after every so many tokens; and slot_null: negative or not_positive, the indices that mean no slot.\n\n" \
    "--op decode takes each sequence through its 1 to 8 tokens (cu_seqlens: 0 to 8) in one call of fkda_decode. final_state\n" \
    "is then initial_state after the call: the same rows, or with initial_slots the same pool, updated in place. There are\n"  \
    "no final_slots and no checkpoints.\n"

#define WORK_OPERAND(w) {.name = "IN.safetensors", .to = &(w)->in}
#define WORK_OPTION_ROWS(w)                                                                                                              \
    {.name = "--output", .letter = "-o", .value = "OUT",                                                                                 \
     .help = "write out and final_state to this file; -: to standard output, and everything else to standard error",                    \
     .kind = OPTION_FILE, .to = &(w)->out},                                                                                              \
    {.name = "--force", .help = "replace OUT if it exists, or write to a terminal", .kind = OPTION_FLAG, .to = &(w)->force},             \
    {.name = "--op", .value = "NAME", .help = "prefill (default), or decode: 1 to 8 tokens of each sequence, states in place",           \
     .kind = OPTION_CHOICE, .to = &(w)->op, .choices = operation_names},                                                                 \
    OPTION_ROW_BACKEND(&(w)->backend),                                                                                                   \
    OPTION_ROW_THREADS(&(w)->threads),                                                                                                   \
    {.name = "--out-dtype", .value = "TYPE", .help = "bf16 or f32 (default: as v)", .kind = OPTION_CHOICE, .to = &(w)->out_dtype,        \
     .choices = work_out_dtypes},                                                                                                        \
    {.name = "--json", .help = "print one JSON object instead of text", .kind = OPTION_FLAG, .to = &(w)->json},                          \
    OPTION_ROW_QUIET

/* Opens the file and loads its problem, after asking whether the output may be written. On failure nothing is held. If the output is
 * standard output, whatever is printed from here on goes to standard error. */
fkda_status work_load(const work_options *w, safetensors_file *file, problem *p);

/* Writes out, final_state and checkpoint_state with what made them; does nothing if no output was asked for. */
fkda_status work_save(const work_options *w, const problem *p, fkda_backend backend);

const char *work_input_name(const work_options *w);     /* for people: "standard input" */
const char *work_output_name(const work_options *w);

/* NaN and infinity in the results: a note; in everything: "non_finite" of a JSON object, if there are any. */
void work_tell_strays(const work_options *w, const problem *p);
void work_add_strays(const problem *p, struct cJSON *line);

#endif

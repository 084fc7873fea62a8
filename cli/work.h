/* What run and verify share: the options about files and backends, and saving the result. */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include "options.h"
#include "problem.h"

typedef struct work_options {
    const char *in, *out;         /* out NULL: nothing is written */
    int backend;                  /* fkda_backend */
    int64_t threads;              /* 0: all */
    int out_dtype;                /* index in work_out_dtypes; -1: as v */
    int force, json;
} work_options;

#define WORK_DEFAULTS {.out_dtype = -1}

extern const char *const work_out_dtypes[];

#define WORK_OPTION_ROWS(w)                                                                                                            \
    {.name = "--output", .letter = "-o", .value = "OUT", .help = "write out and final_state to this file", .kind = OPTION_TEXT, .to = &(w)->out}, \
    {.name = "--force", .help = "replace OUT if it exists", .kind = OPTION_FLAG, .to = &(w)->force},                                   \
    {.name = "--backend", .value = "NAME", .help = "auto, cuda, cpu or ref (default auto: the best that can)", .kind = OPTION_CHOICE,    \
     .to = &(w)->backend, .choices = option_backends},                                                                                 \
    {.name = "--threads", .value = "N", .help = "at most N threads (default: all cores)", .kind = OPTION_INTEGER, .to = &(w)->threads,   \
     .min = 1, .max = OPTION_MAX_THREADS},                                                                                             \
    {.name = "--out-dtype", .value = "TYPE", .help = "bf16 or f32 (default: as v)", .kind = OPTION_CHOICE, .to = &(w)->out_dtype,        \
     .choices = work_out_dtypes},                                                                                                      \
    {.name = "--json", .help = "print one JSON object instead of text", .kind = OPTION_FLAG, .to = &(w)->json}

/* Opens the file and loads its problem, after asking whether the output may be written. On failure nothing is held. */
fkda_status work_load(const work_options *w, safetensors_file *file, problem *p);

/* Writes out and final_state with what made them; does nothing if no output was asked for. */
fkda_status work_save(const work_options *w, const problem *p, fkda_backend backend);

#endif

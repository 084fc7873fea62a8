/*
 * The options of a command as a table: parsed strictly, printed as its help, in the manual page and in the completions of shells.
 * Nothing is guessed: whatever does not fit is a sentence.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdint.h>

#include "failure.h"

typedef enum option_kind {
    OPTION_FLAG,       /* to: int, becomes 1 */
    OPTION_TEXT,       /* to: const char * */
    OPTION_FILE,       /* to: const char *, which a shell completes to a safetensors file */
    OPTION_INTEGER,    /* to: int64_t, in [min, max] */
    OPTION_CHOICE      /* to: int, the index in choices */
} option_kind;

typedef struct option {
    const char *name;             /* "--threads" */
    const char *letter;           /* "-o", or NULL */
    const char *value;            /* "N", as the help shows it; NULL for a flag */
    const char *help;
    option_kind kind;
    void *to;
    int64_t min, max;
    const char *const *choices;   /* NULL ends the list */
} option;

/* The argument without a dash. */
typedef struct operand {
    const char *name;             /* "IN.safetensors"; NULL: the command takes none */
    const char **to;
    const char *const *choices;   /* NULL ends the list; no list: a safetensors file */
    int is_optional;
} operand;

typedef struct command {
    const char *name;             /* "run" */
    const char *summary;          /* one line */
    const char *usage;            /* "IN.safetensors -o OUT.safetensors [options]" */
    const char *about;            /* paragraphs; a line that begins with a space is not filled */
    const char *examples;
    operand operand;
    const option *options;
    int option_count;
    cli_exit (*run)(void);        /* with the options parsed */
    int computes;                 /* refused where the environment chooses a CPU backend that is not there */
} command;

typedef enum options_outcome { OPTIONS_GO, OPTIONS_HELP_SHOWN, OPTIONS_BAD } options_outcome;

/* argv[0..argc) behind the command's name. BAD: failure_sentence() says why. */
options_outcome options_parse(const command *c, int argc, char *const *argv);

void options_print_help(const command *c);

/* "-o, --output OUT", as help and manual show it. */
enum { OPTION_TEXT_BYTES = 64 };
const char *option_text(const option *o, char *to);
extern const option option_help;               /* -h: not in the tables, for every command has it */

/* Options that several commands share. */
extern const char *const option_backends[];    /* index: fkda_backend */
enum { OPTION_MAX_THREADS = 1024 };
#define OPTION_ROW_BACKEND(place)                                                                                                        \
    {.name = "--backend", .value = "NAME", .help = "auto, cuda, cpu or ref (default auto: the best that can)", .kind = OPTION_CHOICE,    \
     .to = (place), .choices = option_backends}
#define OPTION_ROW_THREADS(place)                                                                                                        \
    {.name = "--threads", .value = "N",                                                                                                  \
     .help = "at most N threads on the CPU (default: as many as CPU affinity, the cgroup's CPU quota and OMP_NUM_THREADS allow)",        \
     .kind = OPTION_INTEGER, .to = (place), .min = 1, .max = OPTION_MAX_THREADS}
#define OPTION_ROW_QUIET {.name = "--quiet", .letter = "-q", .help = "no progress bar and no notes on standard error", .kind = OPTION_FLAG, .to = &terminal_is_quiet}

#endif

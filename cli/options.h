/* The options of a command as a table: parsed strictly, printed as its help. Nothing is guessed: whatever does not fit is a sentence. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdint.h>

#include "flashkda.h"

typedef enum option_kind {
    OPTION_FLAG,       /* to: int, becomes 1 */
    OPTION_TEXT,       /* to: const char * */
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

typedef struct command {
    const char *name;             /* "run" */
    const char *usage;            /* "IN.safetensors -o OUT.safetensors [options]" */
    const char *about;            /* paragraphs */
    const char *examples;
    const char *positional;       /* "IN.safetensors"; NULL: the command takes none */
    const char **positional_to;   /* required where positional is set */
    const option *options;
    int option_count;
} command;

typedef enum options_outcome { OPTIONS_GO, OPTIONS_HELP_SHOWN, OPTIONS_BAD } options_outcome;

/* argv[0..argc) behind the command's name. BAD: failure_sentence() says why. */
options_outcome options_parse(const command *c, int argc, char *const *argv);

/* Options that several commands share. */
extern const char *const option_backends[];    /* index: fkda_backend */
enum { OPTION_MAX_THREADS = 1024 };

#endif

/* The commands, as tables. Help, manual page and completions are printed from them. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include <stdio.h>

#include "options.h"

/* The one list, in the order of the help. Command `name` is the table command_<name>, in cmd_<name>.c. */
#define COMMAND_MAP(X) X(run) X(verify) X(bench) X(info) X(doctor) X(completion) X(help) X(version)

#define COMMAND_TABLE(name) extern const command command_##name;
COMMAND_MAP(COMMAND_TABLE)
#undef COMMAND_TABLE

extern const command *const commands[];       /* NULL ends the list */
extern const char *const command_names[];     /* the same order */

/* Words in front of any command that stand for one: "-h", "-V". */
typedef struct command_alias { const char *word; const command *stands_for; } command_alias;
extern const command_alias command_aliases[];    /* word NULL ends the list */

const command *command_named(const char *word);  /* or an alias; NULL: none */

/* What the environment changes. */
typedef struct command_variable { const char *name, *about; } command_variable;
extern const command_variable command_variables[];    /* name NULL ends the list */

/* flashkda argv[1] ...: parses, runs, reports. */
cli_exit commands_dispatch(int argc, char *const *argv);

#define COMMANDS_ABOUT "Kimi Delta Attention (KDA), forward pass, on a GPU or on CPUs. Files come in and go out as safetensors."

void commands_print_help(FILE *to);         /* flashkda --help */
void commands_print_manual(void);           /* the manual page, as roff */
void commands_print_bash(void);             /* completions */
void commands_print_zsh(void);
void commands_print_fish(void);

#endif

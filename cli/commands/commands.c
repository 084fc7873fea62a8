/* The list of commands, and the way from a command line to one of them. */
#include "commands.h"

#include <string.h>

#include "text.h"

#define COMMAND_ADDRESS(name) &command_##name,
#define COMMAND_NAME(name) #name,
const command *const commands[] = {COMMAND_MAP(COMMAND_ADDRESS) NULL};
const char *const command_names[] = {COMMAND_MAP(COMMAND_NAME) NULL};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands - 1 };

const command_alias command_aliases[] = {
    {"--help", &command_help}, {"-h", &command_help}, {"--version", &command_version}, {"-V", &command_version}, {NULL, NULL},
};

const command_variable command_variables[] = {
    {"OMP_NUM_THREADS", "the most threads that the CPU backend starts where --threads is not given"},
    {"FKDA_CPU_ISA", "scalar, avx2, avx512 or neon: the instruction set of the CPU backend (default: the best that the CPU has)"},
    {"CUDA_VISIBLE_DEVICES", "the first of these GPUs is the one that is used"},
    {"NO_COLOR", "if it is not empty: no colours and no progress bar"},
    {"TERM", "if it is unset or dumb: the same"},
    {NULL, NULL},
};

const command *command_named(const char *word)
{
    for (int i = 0; i < COMMAND_COUNT; ++i)
        if (strcmp(word, command_names[i]) == 0) return commands[i];
    for (const command_alias *a = command_aliases; a->word != NULL; ++a)
        if (strcmp(word, a->word) == 0) return a->stands_for;
    return NULL;
}

static cli_exit report_unknown(const char *word)
{
    const char *words[COMMAND_COUNT + sizeof command_aliases / sizeof *command_aliases];
    int count = 0;
    for (; count < COMMAND_COUNT; ++count) words[count] = command_names[count];
    for (const command_alias *a = command_aliases; a->word != NULL; ++a) words[count++] = a->word;
    words[count] = NULL;
    const char *const nearest = text_nearest(word, words), *const what = word[0] == '-' ? "option" : "command";
    if (nearest != NULL) failure(FKDA_ERR_BAD_VALUE, "unknown %s '%s'; did you mean '%s'?", what, word, nearest);
    else if (word[0] == '-') failure(FKDA_ERR_BAD_VALUE, "unknown option '%s' in front of the command; options of a command stand behind it", word);
    else failure(FKDA_ERR_BAD_VALUE, "unknown command '%s'", word);
    return failure_report_usage("");
}

/* The CPU backend is off only where FKDA_CPU_ISA is mistyped; who set it shall not get the slow reference instead. */
static cli_exit run_command(const command *c)
{
    char text[512];
    if (c->computes && fkda_backend_status(FKDA_BACKEND_CPU, text, sizeof text) != FKDA_OK) {
        failure(FKDA_ERR_BAD_VALUE, "%s", text);
        return failure_report_usage(c->name);
    }
    return c->run();
}

cli_exit commands_dispatch(int argc, char *const *argv)
{
    if (argc < 2) {
        commands_print_help(stderr);
        return CLI_USAGE;
    }
    const command *const c = command_named(argv[1]);
    if (c == NULL) return report_unknown(argv[1]);
    switch (options_parse(c, argc - 2, argv + 2)) {
    case OPTIONS_GO: return run_command(c);
    case OPTIONS_HELP_SHOWN: return CLI_OK;
    case OPTIONS_BAD: break;
    }
    return failure_report_usage(c->name);
}

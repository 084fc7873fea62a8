/* flashkda help: the list of commands, one command, or the manual page. */
#include <stdio.h>

#include "commands.h"

static const char *topic;
static int as_manual;
static const option options[] = {
    {.name = "--man", .help = "print the manual page flashkda(1) as roff: flashkda help --man | man -l -", .kind = OPTION_FLAG, .to = &as_manual},
};

void commands_print_help(FILE *to)
{
    fprintf(to, "Usage: flashkda COMMAND [arguments]\n\n" COMMANDS_ABOUT "\n\nCommands:\n");
    for (const command *const *c = commands; *c != NULL; ++c) fprintf(to, "  %-10s  %s\n", (*c)->name, (*c)->summary);
    fputs("\nflashkda help COMMAND explains one.\n\nExamples:\n"
          "  flashkda verify data/kda_lb.safetensors\n"
          "  flashkda run in.safetensors -o out.safetensors --backend cpu --threads 2\n"
          "  flashkda bench --T 4096 --H 8\n"
          "  flashkda info --json\n\nEnvironment:\n", to);
    for (const command_variable *v = command_variables; v->name != NULL; ++v) fprintf(to, "  %-20s  %s\n", v->name, v->about);
    fputs("\nExit codes:\n", to);
#define PRINT_EXIT(name, code, text) fprintf(to, "  %d  %s\n", code, text);
    CLI_EXIT_MAP(PRINT_EXIT)
#undef PRINT_EXIT
}

static cli_exit help(void)
{
    if (as_manual) commands_print_manual();
    else if (topic != NULL) options_print_help(command_named(topic));
    else commands_print_help(stdout);
    return CLI_OK;
}

const command command_help = {
    .name = "help",
    .summary = "explains a command; also -h, --help",
    .usage = "[COMMAND] [--man]",
    .about = "Prints the list of commands, or the options and examples of one.\n",
    .examples = "  flashkda help\n  flashkda help bench\n  flashkda help --man | man -l -\n",
    .operand = {.name = "COMMAND", .to = &topic, .choices = command_names, .is_optional = 1},
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = help,
};

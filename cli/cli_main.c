/*
 * flashkda: KDA prefill from the shell. Files come in and go out as safetensors; every number that is printed can be had as JSON.
 * A user of flashkda.h like any other: what it cannot do through that header, nobody can.
 */
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct {
    const char *name, *about;
    cli_exit (*run)(int argc, char *const *argv);
} commands[] = {
    {"run", "computes the problem in a file and writes out and final_state", command_run},
    {"verify", "computes it and compares with the answer in the file, or with the float64 reference", command_verify},
    {"bench", "times generated problems: medians, spread, tokens per second", command_bench},
    {"info", "version, build, backends and why one is off, CPU", command_info},
};
enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(FILE *to)
{
    fprintf(to, "Usage: flashkda COMMAND [arguments]\n\nKimi Delta Attention (KDA), forward pass, on a GPU or on CPUs.\n\nCommands:\n");
    for (int i = 0; i < COMMAND_COUNT; ++i) fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].about);
    fputs("\nflashkda COMMAND --help explains one; flashkda --version prints the version of the library.\n\n"
          "Examples:\n"
          "  flashkda verify data/kda_lb.safetensors\n"
          "  flashkda run in.safetensors -o out.safetensors --backend cpu --threads 2\n"
          "  flashkda bench --T 4096 --H 8\n"
          "  flashkda info --json\n\n"
          "Exit codes: 0 ok, 1 verification failed, 2 usage, 3 file or data, 4 no device or unsupported, 5 internal.\n",
          to);
}

static cli_exit dispatch(int argc, char *const *argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    for (int i = 0; i < COMMAND_COUNT; ++i)
        if (strcmp(argv[1], commands[i].name) == 0) return commands[i].run(argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("flashkda %s\n", fkda_version_string());
        return CLI_OK;
    }
    failure(FKDA_ERR_BAD_VALUE, "unknown command '%s'; there are run, verify, bench, info", argv[1]);
    return failure_report_usage("");
}

int main(int argc, char **argv)
{
    const cli_exit result = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        const cli_exit lost = failure_report("", failure(FKDA_ERR_IO, "standard output cannot be written"));
        return (int)(result == CLI_OK ? lost : result);
    }
    return (int)result;
}

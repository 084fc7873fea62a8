/* The commands. argv[0..argc) is what stands behind the command's name; the result is the exit code of the process. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "failure.h"

cli_exit command_run(int argc, char *const *argv);
cli_exit command_verify(int argc, char *const *argv);
cli_exit command_bench(int argc, char *const *argv);
cli_exit command_info(int argc, char *const *argv);

#endif

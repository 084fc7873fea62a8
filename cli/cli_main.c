/*
 * flashkda: KDA prefill from the shell. Files come in and go out as safetensors; every number that is printed can be had as JSON.
 * A user of flashkda.h like any other: what it cannot do through that header, nobody can.
 */
#include <stdio.h>

#include "commands.h"

int main(int argc, char **argv)
{
    const cli_exit result = commands_dispatch(argc, argv);
    const int is_lost = fflush(stdout) != 0 || ferror(stdout), has_failed = result != CLI_OK && result != CLI_VERIFY_FAILED;
    if (!is_lost || has_failed) return (int)result;
    const cli_exit lost = failure_report("", failure(FKDA_ERR_IO, "standard output cannot be written"));
    return (int)(result == CLI_OK ? lost : result);
}

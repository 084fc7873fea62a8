/*
 * flashkda: KDA prefill from the shell. Files come in and go out as safetensors; every number that is printed can be had as JSON.
 * A user of flashkda.h like any other: what it cannot do through that header, nobody can.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "commands.h"

/* A standard stream that is closed: the next file that is opened would take its place, and get what is printed. What is opened here
 * instead fails like a closed stream, for it is open the wrong way round. */
static void occupy_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
        if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);    /* the lowest that is free */
}

int main(int argc, char **argv)
{
    occupy_standard_streams();
    const cli_exit result = commands_dispatch(argc, argv);
    const int is_lost = fflush(stdout) != 0 || ferror(stdout), has_failed = result != CLI_OK && result != CLI_VERIFY_FAILED;
    if (!is_lost || has_failed) return (int)result;
    const cli_exit lost = failure_report("", failure(FKDA_ERR_IO, "standard output cannot be written"));
    return (int)(result == CLI_OK ? lost : result);
}

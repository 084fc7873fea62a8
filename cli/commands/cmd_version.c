/* flashkda version: of the library that is loaded, which is what computes. */
#include <stdio.h>

#include "commands.h"

static cli_exit version(void)
{
    printf("flashkda %s\n", fkda_version_string());
    return CLI_OK;
}

const command command_version = {
    .name = "version",
    .summary = "prints the version; also -V, --version",
    .usage = "",
    .about = "Prints the version of the library that is loaded. flashkda info tells how it was built.\n",
    .examples = "  flashkda version\n",
    .run = version,
};

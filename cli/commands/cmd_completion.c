/* flashkda completion: what a shell needs to complete commands, options, values and files. */
#include <string.h>

#include "commands.h"

static const char *shell;
static const char *const shells[] = {"bash", "zsh", "fish", NULL};
static void (*const prints[])(void) = {commands_print_bash, commands_print_zsh, commands_print_fish};    /* as in shells */

static cli_exit completion(void)
{
    for (int i = 0; shells[i] != NULL; ++i)
        if (strcmp(shell, shells[i]) == 0) prints[i]();
    return CLI_OK;
}

const command command_completion = {
    .name = "completion",
    .summary = "prints a completion script for bash, zsh or fish",
    .usage = "SHELL",
    .about = "Prints a script that completes commands, options, their values and safetensors files. SHELL is bash, zsh or fish.\n"
             "cmake --install puts the three scripts where the shells look for them; these lines do it for one person.\n",
    .examples = "  flashkda completion bash > ~/.local/share/bash-completion/completions/flashkda\n"
                "  flashkda completion zsh > \"${fpath[1]}/_flashkda\"\n"
                "  flashkda completion fish > ~/.config/fish/completions/flashkda.fish\n",
    .operand = {.name = "SHELL", .to = &shell, .choices = shells},
    .run = completion,
};

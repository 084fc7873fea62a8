/* Completion scripts out of the tables of the commands. Each script holds all it knows: completing starts no flashkda. */
#include <stdio.h>
#include <string.h>

#include "commands.h"

static int takes_file(const operand *o) { return o->name != NULL && o->choices == NULL; }

/* Words with spaces between them; NULL: none. */
static void put_words(const char *before, const char *const *words, const char *after)
{
    fputs(before, stdout);
    for (int i = 0; words != NULL && words[i] != NULL; ++i) printf("%s%s", i ? " " : "", words[i]);
    fputs(after, stdout);
}

/* Inside '...' of a shell. `special` are characters that the shell's completion wants behind a backslash. */
static void put_quoted(const char *text, const char *special)
{
    for (; *text != 0; ++text) {
        if (*text == '\'') fputs("'\\''", stdout);
        else printf("%s%c", strchr(special, *text) != NULL ? "\\" : "", *text);
    }
}

/* ---------------------------------------------------------------- bash */

static void put_bash_values(const command *c)
{
    for (int i = 0; i < c->option_count; ++i) {
        const option *const o = &c->options[i];
        if (o->kind == OPTION_FLAG) continue;
        printf("        '%s %s'", c->name, o->name);
        if (o->letter != NULL) printf("|'%s %s'", c->name, o->letter);
        if (o->kind == OPTION_FILE) puts(") files=1 ;;");
        else put_words(") values='", o->choices, "' ;;\n");
    }
}

static void put_bash_command(const command *c)
{
    printf("        %s) values='", c->name);
    for (int i = 0; i < c->option_count; ++i) printf("%s%s%s ", c->options[i].letter ? c->options[i].letter : "", c->options[i].letter ? " " : "", c->options[i].name);
    printf("%s %s'", option_help.letter, option_help.name);
    if (c->operand.choices != NULL) put_words("; [[ $cur == -* ]] || values='", c->operand.choices, "'");
    if (takes_file(&c->operand)) fputs("; [[ $cur == -* ]] || files=1", stdout);
    puts(" ;;");
}

void commands_print_bash(void)
{
    puts("# bash completion of flashkda, printed by flashkda completion bash\n"
         "_flashkda() {\n"
         "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} values= files=\n"
         "    COMPREPLY=()\n"
         "    # bash makes --name=value three words\n"
         "    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
         "    if ((COMP_CWORD == 1)); then command= prev=; fi\n"
         "    case \"$command $prev\" in");
    for (const command *const *c = commands; *c != NULL; ++c) put_bash_values(*c);
    puts("        *) case \"$command\" in");
    put_words("        '') values='", command_names, "");
    for (const command_alias *a = command_aliases; a->word != NULL; ++a) printf(" %s", a->word);
    puts("' ;;");
    for (const command *const *c = commands; *c != NULL; ++c) put_bash_command(*c);
    puts("        esac ;;\n"
         "    esac\n"
         "    if [[ $files ]]; then\n"
         "        compopt -o filenames 2>/dev/null\n"
         "        mapfile -t COMPREPLY < <(compgen -d -- \"$cur\"; compgen -f -X '!*.safetensors' -- \"$cur\")\n"
         "    else\n"
         "        mapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$cur\")\n"
         "    fi\n"
         "}\n"
         "complete -F _flashkda flashkda");
}

/* ---------------------------------------------------------------- zsh */

#define ZSH_SPECIAL "[]:\\"
#define ZSH_FILES "_files -g \"*.safetensors\""

/* ":NAME:what completes it" */
static void put_zsh_action(const char *name, int is_file, const char *const *choices)
{
    putchar(':');
    put_quoted(name, ZSH_SPECIAL);
    putchar(':');
    if (is_file) fputs(ZSH_FILES, stdout);
    else if (choices == NULL) putchar(' ');
    else put_words("(", choices, ")");
}

static void put_zsh_option(const option *o)
{
    const char *const equals = o->kind == OPTION_FLAG ? "" : "=";
    if (o->letter != NULL) printf(" \\\n          '(%s %s)'{%s,%s%s}'[", o->letter, o->name, o->letter, o->name, equals);
    else printf(" \\\n          '%s%s[", o->name, equals);
    put_quoted(o->help, ZSH_SPECIAL);
    putchar(']');
    if (o->kind != OPTION_FLAG) put_zsh_action(o->value, o->kind == OPTION_FILE, o->choices);
    putchar('\'');
}

static void put_zsh_command(const command *c)
{
    printf("        %s) _arguments", c->name);
    for (int i = 0; i < c->option_count; ++i) put_zsh_option(&c->options[i]);
    put_zsh_option(&option_help);
    if (c->operand.name != NULL) {
        printf(" \\\n          '%s", c->operand.is_optional ? "1:" : "1");
        put_zsh_action(c->operand.name, takes_file(&c->operand), c->operand.choices);
        putchar('\'');
    }
    puts(" ;;");
}

void commands_print_zsh(void)
{
    puts("#compdef flashkda\n"
         "# zsh completion of flashkda, printed by flashkda completion zsh\n"
         "_flashkda() {\n"
         "    local context state state_descr line\n"
         "    typeset -A opt_args\n"
         "    local -a commands=(");
    for (const command *const *c = commands; *c != NULL; ++c) {
        printf("        '%s:", (*c)->name);
        put_quoted((*c)->summary, ZSH_SPECIAL);
        puts("'");
    }
    fputs("    )\n    _arguments -C", stdout);
    for (const command_alias *a = command_aliases; a->word != NULL; ++a) {
        printf(" '(- *)%s[", a->word);
        put_quoted(a->stands_for->summary, ZSH_SPECIAL);
        fputs("]'", stdout);
    }
    puts(" '1:command:->command' '*::argument:->argument' && return\n"
         "    case $state in\n"
         "    command) _describe command commands ;;\n"
         "    argument)\n"
         "        case $words[1] in");
    for (const command *const *c = commands; *c != NULL; ++c) put_zsh_command(*c);
    puts("        esac ;;\n"
         "    esac\n"
         "}\n"
         "if [[ $funcstack[1] == _flashkda ]]; then _flashkda \"$@\"; else compdef _flashkda flashkda; fi");
}

/* ---------------------------------------------------------------- fish */

#define FISH_NO_COMMAND "test (count (commandline -opc)) -eq 1"
#define FISH_FILES " -k -a '(__fish_complete_suffix .safetensors)'"

static void put_fish_option(const command *c, const option *o)
{
    printf("complete -c flashkda -n '__flashkda_is %s' -l %s", c->name, o->name + strlen("--"));
    if (o->letter != NULL) printf(" -s %s", o->letter + strlen("-"));
    if (o->kind == OPTION_FILE) fputs(" -r" FISH_FILES, stdout);
    else if (o->choices != NULL) put_words(" -x -a '", o->choices, "'");
    else if (o->kind != OPTION_FLAG) fputs(" -x", stdout);
    fputs(" -d '", stdout);
    put_quoted(o->help, "\\");
    puts("'");
}

static void put_fish_command(const command *c)
{
    printf("complete -c flashkda -n '" FISH_NO_COMMAND "' -a %s -d '", c->name);
    put_quoted(c->summary, "\\");
    puts("'");
    for (int i = 0; i < c->option_count; ++i) put_fish_option(c, &c->options[i]);
    put_fish_option(c, &option_help);
    if (c->operand.name == NULL) return;
    printf("complete -c flashkda -n '__flashkda_is %s'", c->name);
    if (takes_file(&c->operand)) puts(FISH_FILES);
    else put_words(" -a '", c->operand.choices, "'\n");
}

void commands_print_fish(void)
{
    puts("# fish completion of flashkda, printed by flashkda completion fish\n"
         "function __flashkda_is\n"
         "    set -l words (commandline -opc)\n"
         "    test (count $words) -ge 2; and test $words[2] = $argv[1]\n"
         "end\n"
         "complete -c flashkda -f");
    for (const command_alias *a = command_aliases; a->word != NULL; ++a) {
        const int is_long = strncmp(a->word, "--", 2) == 0;
        printf("complete -c flashkda -n '" FISH_NO_COMMAND "' -%c %s -d '", is_long ? 'l' : 's', a->word + (is_long ? 2 : 1));
        put_quoted(a->stands_for->summary, "\\");
        puts("'");
    }
    for (const command *const *c = commands; *c != NULL; ++c) put_fish_command(*c);
}

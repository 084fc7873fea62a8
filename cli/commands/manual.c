/* The manual page flashkda(1), as roff, out of the tables of the commands. */
#include <stdio.h>
#include <string.h>

#include "commands.h"

/* Text as roff: a backslash and a hyphen mean something there, and a period or an apostrophe where a line begins. */
static void put(const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; ++i) {
        if ((text[i] == '.' || text[i] == '\'') && (i == 0 || text[i - 1] == '\n')) fputs("\\&", stdout);
        if (text[i] == '\\') fputs("\\e", stdout);
        else if (text[i] == '-') fputs("\\-", stdout);
        else putchar(text[i]);
    }
}

static void put_text(const char *text) { put(text, strlen(text)); }

/* Lines are filled, but one that begins with a space stands alone; an empty line begins a paragraph. */
static void put_paragraphs(const char *text)
{
    int is_alone = 0, is_first = 1;
    while (*text != 0) {
        const size_t bytes = strcspn(text, "\n");
        if (bytes == 0) {
            if (text[1] != 0) puts(".PP");
            is_first = 1;
        } else {
            if (!is_first && (*text == ' ' || is_alone)) puts(".br");
            is_alone = *text == ' ';
            is_first = 0;
            const size_t indent = strspn(text, " ");
            for (size_t i = 0; i < indent; ++i) fputs("\\ ", stdout);
            put(text + indent, bytes - indent);
            putchar('\n');
        }
        text += bytes + (text[bytes] == '\n');
    }
}

static void put_tagged(const char *tag, const char *text)
{
    puts(".TP");
    fputs(".B ", stdout);
    put_text(tag);
    putchar('\n');
    put_text(text);
    putchar('\n');
}

static void put_command(const command *c)
{
    char tag[OPTION_TEXT_BYTES];
    printf(".SS \"");
    put_text(c->name);
    if (*c->usage != 0) putchar(' ');
    put_text(c->usage);
    puts("\"");
    put_paragraphs(c->about);
    for (int i = 0; i < c->option_count; ++i) put_tagged(option_text(&c->options[i], tag), c->options[i].help);
}

static void put_examples(void)
{
    puts(".SH EXAMPLES\n.EX");
    for (const command *const *c = commands; *c != NULL; ++c) put_text((*c)->examples);
    puts(".EE");
}

void commands_print_manual(void)
{
    char tag[OPTION_TEXT_BYTES];
    printf(".TH FLASHKDA 1 \"\" \"flashkda %s\" \"User Commands\"\n", fkda_version_string());
    puts(".SH NAME\nflashkda \\- Kimi Delta Attention from the shell\n.SH SYNOPSIS\n.B flashkda\n.I COMMAND\n[arguments]\n.SH DESCRIPTION");
    put_paragraphs(COMMANDS_ABOUT "\n");
    for (const command *const *c = commands; *c != NULL; ++c) put_tagged((*c)->name, (*c)->summary);
    put_paragraphs("\nEvery command takes:\n");
    put_tagged(option_text(&option_help, tag), option_help.help);
    puts(".SH COMMANDS");
    for (const command *const *c = commands; *c != NULL; ++c) put_command(*c);
    puts(".SH ENVIRONMENT");
    for (const command_variable *v = command_variables; v->name != NULL; ++v) put_tagged(v->name, v->about);
    puts(".SH \"EXIT STATUS\"");
#define PUT_EXIT(name, code, text) put_tagged(#code, text);
    CLI_EXIT_MAP(PUT_EXIT)
#undef PUT_EXIT
    put_examples();
}

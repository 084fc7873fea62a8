/* Parsing and help out of the same table. */
#include "options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

enum { HELP_COLUMN = 28, HELP_WIDTH = 88, MAX_OPTIONS = 64 };    /* options are bits of `given` */

const char *const option_backends[] = {"auto", "cuda", "cpu", "ref", NULL};
_Static_assert(sizeof option_backends / sizeof *option_backends == FKDA_BACKEND_COUNT + 1, "a backend has no word");

const option option_help = {.name = "--help", .letter = "-h", .help = "explains the command", .kind = OPTION_FLAG};

/* Where the parse is. */
typedef struct parse {
    const command *c;
    int argc, at;
    char *const *argv;
    uint64_t given;               /* bit i: option i was there */
    const char *positional;
} parse;

const char *option_text(const option *o, char *to)
{
    snprintf(to, OPTION_TEXT_BYTES, "%s%s%s%s%s", o->letter ? o->letter : "", o->letter ? ", " : "", o->name, o->value ? " " : "", o->value ? o->value : "");
    return to;
}

/* The rest of a line that is `column` wide so far, broken at spaces where it gets too long. */
static void print_broken(const char *text, int column, int width)
{
    while ((int)strlen(text) > width) {
        int bytes = width;
        while (bytes > 0 && text[bytes] != ' ') --bytes;
        if (bytes == 0) break;
        printf("%.*s\n%*s", bytes, text, column, "");
        text += bytes + 1;
    }
    puts(text);
}

void options_print_help(const command *c)
{
    char text[OPTION_TEXT_BYTES];
    printf("Usage: flashkda %s%s%s\n\n%s\nOptions:\n", c->name, *c->usage ? " " : "", c->usage, c->about);
    for (int i = 0; i <= c->option_count; ++i) {
        const option *const o = i < c->option_count ? &c->options[i] : &option_help;
        printf("  %-*s  ", HELP_COLUMN, option_text(o, text));
        print_broken(o->help, HELP_COLUMN + 4, HELP_WIDTH);
    }
    printf("\nExamples:\n%s", c->examples);
}

static int wants_help(int argc, char *const *argv)
{
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; ++i)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return 1;
    return 0;
}

/* The option that argv names, "--name" or "--name=value"; -1: none. */
static int find_option(const command *c, const char *argument, const char **value)
{
    *value = NULL;
    for (int i = 0; i < c->option_count; ++i) {
        const size_t length = strlen(c->options[i].name);
        if (c->options[i].letter != NULL && strcmp(argument, c->options[i].letter) == 0) return i;
        if (strncmp(argument, c->options[i].name, length) != 0) continue;
        if (argument[length] == 0) return i;
        if (argument[length] != '=') continue;
        *value = argument + length + 1;
        return i;
    }
    return -1;
}

static fkda_status take_integer(const option *o, const char *text)
{
    int64_t value;
    CHECK(text_to_integer(text, &value) && value >= o->min && value <= o->max, FKDA_ERR_BAD_VALUE,
          "%s is '%s', but it must be a whole number from %" PRId64 " to %" PRId64, o->name, text, o->min, o->max);
    *(int64_t *)o->to = value;
    return FKDA_OK;
}

static fkda_status find_choice(const char *name, const char *const *choices, const char *text, int *index)
{
    char words[256] = "";
    size_t used = 0;
    for (int i = 0; choices[i] != NULL; ++i) {
        if (strcmp(choices[i], text) == 0) {
            *index = i;
            return FKDA_OK;
        }
        if (used < sizeof words) used += (size_t)snprintf(words + used, sizeof words - used, "%s%s", i ? ", " : "", choices[i]);
    }
    return failure(FKDA_ERR_BAD_VALUE, "%s is '%s', but it must be one of %s", name, text, words);
}

static fkda_status take_value(const option *o, const char *text)
{
    if (o->kind == OPTION_INTEGER) return take_integer(o, text);
    if (o->kind == OPTION_CHOICE) return find_choice(o->name, o->choices, text, o->to);
    *(const char **)o->to = text;
    return FKDA_OK;
}

static fkda_status unknown_option(const command *c, const char *argument)
{
    const char *names[MAX_OPTIONS + 2];
    char word[OPTION_TEXT_BYTES];
    snprintf(word, sizeof word, "%s", argument);    /* cut: no option is as long as that */
    word[strcspn(word, "=")] = 0;
    for (int i = 0; i < c->option_count; ++i) names[i] = c->options[i].name;
    names[c->option_count] = option_help.name;
    names[c->option_count + 1] = NULL;
    const char *const nearest = text_nearest(word, names);
    if (nearest == NULL) return failure(FKDA_ERR_BAD_VALUE, "unknown option '%s'", argument);
    return failure(FKDA_ERR_BAD_VALUE, "unknown option '%s'; did you mean '%s'?", argument, nearest);
}

static fkda_status take_option(parse *p)
{
    const char *const argument = p->argv[p->at++], *value;
    const int i = find_option(p->c, argument, &value);
    if (i < 0) return unknown_option(p->c, argument);
    const option *const o = &p->c->options[i];
    CHECK((p->given >> i & 1u) == 0, FKDA_ERR_BAD_VALUE, "%s is given twice", o->name);
    p->given |= UINT64_C(1) << i;
    if (o->kind == OPTION_FLAG) {
        CHECK(value == NULL, FKDA_ERR_BAD_VALUE, "%s takes no value, but got '%s'", o->name, value);
        *(int *)o->to = 1;
        return FKDA_OK;
    }
    if (value == NULL) {
        /* "-o --force" forgot the file name; "--T -5" did give a value, and is told what is wrong with it */
        const int is_missing = p->at == p->argc || strncmp(p->argv[p->at], "--", 2) == 0;
        CHECK(!is_missing, FKDA_ERR_BAD_VALUE, "%s needs a value: %s %s", o->name, o->name, o->value);
        value = p->argv[p->at++];
    }
    CHECK(*value != 0, FKDA_ERR_BAD_VALUE, "%s has an empty value", o->name);
    return take_value(o, value);
}

static fkda_status take_positional(parse *p)
{
    const char *const argument = p->argv[p->at++];
    const operand *const taken = &p->c->operand;
    int ignored;
    CHECK(taken->name != NULL, FKDA_ERR_BAD_VALUE, "unexpected argument '%s': this command takes only options", argument);
    CHECK(p->positional == NULL, FKDA_ERR_BAD_VALUE, "unexpected argument '%s': %s is already '%s'", argument, taken->name, p->positional);
    p->positional = argument;
    return taken->choices == NULL ? FKDA_OK : find_choice(taken->name, taken->choices, argument, &ignored);
}

static fkda_status parse_all(parse *p)
{
    int only_positional = 0;
    while (p->at < p->argc) {
        const char *const argument = p->argv[p->at];
        if (!only_positional && strcmp(argument, "--") == 0) {
            only_positional = 1;
            ++p->at;
        } else if (!only_positional && argument[0] == '-' && argument[1] != 0) {
            TRY(take_option(p));
        } else {
            TRY(take_positional(p));
        }
    }
    const operand *const taken = &p->c->operand;
    CHECK(p->positional != NULL || taken->name == NULL || taken->is_optional, FKDA_ERR_BAD_VALUE, "%s is missing", taken->name);
    if (p->positional != NULL) *taken->to = p->positional;
    return FKDA_OK;
}

options_outcome options_parse(const command *c, int argc, char *const *argv)
{
    if (wants_help(argc, argv)) {
        options_print_help(c);
        return OPTIONS_HELP_SHOWN;
    }
    parse p = {.c = c, .argc = argc, .argv = argv};
    return parse_all(&p) == FKDA_OK ? OPTIONS_GO : OPTIONS_BAD;
}

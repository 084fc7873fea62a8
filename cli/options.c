/* Parsing and help out of the same table. */
#include "options.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "failure.h"
#include "text.h"

enum { HELP_COLUMN = 28 };    /* and at most 64 options a command: they are bits of `given` */

const char *const option_backends[] = {"auto", "cuda", "cpu", "ref", NULL};
_Static_assert(sizeof option_backends / sizeof *option_backends == FKDA_BACKEND_COUNT + 1, "a backend has no word");

/* Where the parse is. */
typedef struct parse {
    const command *c;
    int argc, at;
    char *const *argv;
    uint64_t given;               /* bit i: option i was there */
    const char *positional;
} parse;

static void print_help(const command *c)
{
    printf("Usage: flashkda %s %s\n\n%s\nOptions:\n", c->name, c->usage, c->about);
    for (int i = 0; i < c->option_count; ++i) {
        const option *const o = &c->options[i];
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", o->letter ? o->letter : "", o->letter ? ", " : "", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-*s  %s\n", HELP_COLUMN, left, o->help);
    }
    printf("  %-*s  %s\n\nExamples:\n%s", HELP_COLUMN, "-h, --help", "this text", c->examples);
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

static fkda_status take_choice(const option *o, const char *text)
{
    char words[256] = "";
    size_t used = 0;
    for (int i = 0; o->choices[i] != NULL; ++i) {
        if (strcmp(o->choices[i], text) == 0) {
            *(int *)o->to = i;
            return FKDA_OK;
        }
        if (used < sizeof words) used += (size_t)snprintf(words + used, sizeof words - used, "%s%s", i ? ", " : "", o->choices[i]);
    }
    return failure(FKDA_ERR_BAD_VALUE, "%s is '%s', but it must be one of %s", o->name, text, words);
}

static fkda_status take_value(const option *o, const char *text)
{
    if (o->kind == OPTION_INTEGER) return take_integer(o, text);
    if (o->kind == OPTION_CHOICE) return take_choice(o, text);
    *(const char **)o->to = text;
    return FKDA_OK;
}

static fkda_status take_option(parse *p)
{
    const char *const argument = p->argv[p->at++], *value;
    const int i = find_option(p->c, argument, &value);
    CHECK(i >= 0, FKDA_ERR_BAD_VALUE, "unknown option '%s'", argument);
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
    CHECK(p->c->positional != NULL, FKDA_ERR_BAD_VALUE, "unexpected argument '%s': this command takes only options", argument);
    CHECK(p->positional == NULL, FKDA_ERR_BAD_VALUE, "unexpected argument '%s': %s is already '%s'", argument, p->c->positional, p->positional);
    p->positional = argument;
    return FKDA_OK;
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
    if (p->c->positional == NULL) return FKDA_OK;
    CHECK(p->positional != NULL, FKDA_ERR_BAD_VALUE, "%s is missing", p->c->positional);
    *p->c->positional_to = p->positional;
    return FKDA_OK;
}

options_outcome options_parse(const command *c, int argc, char *const *argv)
{
    if (wants_help(argc, argv)) {
        print_help(c);
        return OPTIONS_HELP_SHOWN;
    }
    parse p = {.c = c, .argc = argc, .argv = argv};
    return parse_all(&p) == FKDA_OK ? OPTIONS_GO : OPTIONS_BAD;
}

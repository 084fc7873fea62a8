/* The words of cases.def. */
#include "harness.h"

#include "case_spec.h"

#include <inttypes.h>
#include <math.h>

#define DTYPES "none|bf16|f32|f16|i32|i64"    /* the order of fkda_dtype */

/* A key whose word is one of a list; its position is the value. */
typedef struct word_key {
    const char *key, *words;
    size_t offset;
} word_key;

static const word_key word_keys[] = {
    {"cu", DTYPES, offsetof(case_spec, cu)},
    {"q", DTYPES, offsetof(case_spec, q)},
    {"k", DTYPES, offsetof(case_spec, k)},
    {"v", DTYPES, offsetof(case_spec, v)},
    {"g", DTYPES, offsetof(case_spec, g)},
    {"b", DTYPES, offsetof(case_spec, beta_dtype)},
    {"out", DTYPES, offsetof(case_spec, out)},
    {"A_log", DTYPES, offsetof(case_spec, A_log)},
    {"dt_bias", DTYPES, offsetof(case_spec, dt_bias)},
    {"s0", DTYPES, offsetof(case_spec, initial)},
    {"s1", DTYPES, offsetof(case_spec, final)},
    {"s0_layout", "nhvk|nhkv", offsetof(case_spec, initial_layout)},
    {"s1_layout", "nhvk|nhkv", offsetof(case_spec, final_layout)},
    {"place", "apart|same", offsetof(case_spec, in_place)},
    {"rows", "tight|gaps", offsetof(case_spec, row_gap)},
    {"gate", "bounded|softplus|precomputed", offsetof(case_spec, gate)},
    {"beta", "logit|activated", offsetof(case_spec, beta)},
    {"m", "default|1|2", offsetof(case_spec, multiplier)},
    {"norm", "l2|none", offsetof(case_spec, norm)},
    {"view", "plain|gaps|heads_first|tokens_first|mixed", offsetof(case_spec, view)},
    {"exact", "no|yes", offsetof(case_spec, exact)},
};

/* A key whose word is a number. */
typedef struct number_key {
    const char *key;
    size_t offset;
} number_key;

static const number_key int_keys[] = {
    {"B", offsetof(case_spec, B)}, {"T", offsetof(case_spec, T)},   {"H", offsetof(case_spec, H)},
    {"HV", offsetof(case_spec, HV)}, {"K", offsetof(case_spec, K)}, {"V", offsetof(case_spec, V)}, {"tail", offsetof(case_spec, tail)},
};
static const number_key real_keys[] = {{"scale", offsetof(case_spec, scale)}, {"lb", offsetof(case_spec, lower_bound)}};

/* A key whose word names a class of input values. */
static const number_key class_keys[] = {
    {"keys", offsetof(case_spec, keys)}, {"gates", offsetof(case_spec, gates)},
    {"betas", offsetof(case_spec, betas)}, {"values", offsetof(case_spec, values)},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static void *field(case_spec *spec, size_t offset) { return (unsigned char *)spec + offset; }

static int position_of(const char *word, const char *words)
{
    const size_t length = strlen(word);
    for (int i = 0;; ++i) {
        const size_t here = strcspn(words, "|");
        if (here == length && strncmp(word, words, here) == 0) return i;
        if (words[here] == 0) return -1;
        words += here + 1;
    }
}

/* "3,0,17" or "1*300,5": packed sequences; "none": packed, and there are none. */
static void parse_lens(case_spec *spec, const char *word)
{
    spec->B = 1;
    spec->N = 0;
    for (word = strcmp(word, "none") == 0 ? "" : word; *word != 0;) {
        char *end;
        const int64_t length = strtoll(word, &end, 10);
        const int64_t times = *end == '*' ? strtoll(end + 1, &end, 10) : 1;
        assert_true(*end == ',' || *end == 0);
        assert_true(spec->N + times <= CASE_MAX_SEQUENCES);
        for (int64_t i = 0; i < times; ++i, ++spec->N) spec->bounds[spec->N + 1] = spec->bounds[spec->N] + length;
        word = *end == ',' ? end + 1 : end;
    }
    if (spec->cu == FKDA_NONE) spec->cu = FKDA_I64;
}

static int set_number(case_spec *spec, const char *key, const char *word)
{
    for (size_t i = 0; i < COUNT(int_keys); ++i)
        if (strcmp(key, int_keys[i].key) == 0) {
            *(int64_t *)field(spec, int_keys[i].offset) = strtoll(word, NULL, 10);
            return 1;
        }
    for (size_t i = 0; i < COUNT(real_keys); ++i)
        if (strcmp(key, real_keys[i].key) == 0) {
            *(double *)field(spec, real_keys[i].offset) = strtod(word, NULL);
            return 1;
        }
    return 0;
}

static int set_word(case_spec *spec, const char *key, const char *word)
{
    for (size_t i = 0; i < COUNT(word_keys); ++i)
        if (strcmp(key, word_keys[i].key) == 0) {
            const int position = position_of(word, word_keys[i].words);
            *(int *)field(spec, word_keys[i].offset) = position;
            return position >= 0;
        }
    for (size_t i = 0; i < COUNT(class_keys); ++i)
        if (strcmp(key, class_keys[i].key) == 0 && strlen(word) < CASE_WORD_BYTES) {
            strcpy(field(spec, class_keys[i].offset), word);
            return 1;
        }
    return 0;
}

static void set_pair(case_spec *spec, const char *key, const char *word)
{
    if (strcmp(key, "lens") == 0) {
        parse_lens(spec, word);
    } else if (strcmp(key, "in") == 0) {    /* all of q, k, v, g, beta */
        static const char *const inputs[] = {"q", "k", "v", "g", "b"};
        for (size_t i = 0; i < COUNT(inputs); ++i) set_pair(spec, inputs[i], word);
    } else if (!set_number(spec, key, word) && !set_word(spec, key, word)) {
        fail_msg("cases.def: %s: no meaning for %s=%s", spec->name, key, word);
    }
}

static const case_spec defaults = {
    .B = 1, .T = 37, .H = 2, .K = 64, .V = 64, .lower_bound = -5, .scale = NAN,
    .q = FKDA_BF16, .k = FKDA_BF16, .v = FKDA_BF16, .g = FKDA_BF16, .beta_dtype = FKDA_BF16, .out = FKDA_F32,
    .A_log = FKDA_F32, .dt_bias = FKDA_F32, .initial = FKDA_F32, .final = FKDA_F32,
    .keys = "normal", .gates = "usual", .betas = "normal", .values = "normal",
};

case_spec case_parse(const char *name, const char *text)
{
    case_spec spec = defaults;
    snprintf(spec.name, sizeof spec.name, "%s", name);
    char copy[512];
    assert_true(strlen(text) < sizeof copy);
    strcpy(copy, text);
    for (char *pair = strtok(copy, " "); pair != NULL; pair = strtok(NULL, " ")) {
        char *const word = strchr(pair, '=');
        if (word == NULL) fail_msg("cases.def: %s: %s lacks '='", name, pair);
        *word = 0;
        set_pair(&spec, pair, word + 1);
    }
    if (spec.HV == 0) spec.HV = spec.H;
    if (isnan(spec.scale)) spec.scale = 1 / sqrt((double)spec.K);
    if (spec.cu != FKDA_NONE) {
        spec.T = spec.bounds[spec.N] + spec.tail;
    } else {
        spec.N = spec.B;
        assert_true(spec.N <= CASE_MAX_SEQUENCES);
        for (int64_t n = 0; n <= spec.N; ++n) spec.bounds[n] = n * spec.T;
    }
    return spec;
}

/* -------------------------------------------------------------- the table */

typedef struct row {
    const char *name, *text;
    int first, last;    /* FKDA_RANGE: T runs over it */
} row;

static const row table[] = {
#define FKDA_CASE(name, text) {#name, text, 0, 0},
#define FKDA_RANGE(name, first, last, text) {#name, text, first, last},
#include "cases.def"
#undef FKDA_CASE
#undef FKDA_RANGE
};

int case_count(void)
{
    int count = 0;
    for (size_t i = 0; i < COUNT(table); ++i) count += table[i].last - table[i].first + 1;
    return count;
}

case_spec case_at(int i)
{
    const row *r = table;
    for (; i > r->last - r->first; ++r) i -= r->last - r->first + 1;
    if (r->last == 0) return case_parse(r->name, r->text);
    char name[CASE_NAME_BYTES], text[512];
    snprintf(name, sizeof name, "%s_%d", r->name, r->first + i);
    snprintf(text, sizeof text, "T=%d %s", r->first + i, r->text);
    return case_parse(name, text);
}

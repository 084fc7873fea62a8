/* The words of cases.def. Kernel tests that have no cmocka use this too. */
#include "case_spec.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    {"s0_pool", DTYPES, offsetof(case_spec, initial_pool)},
    {"s1_pool", DTYPES, offsetof(case_spec, final_pool)},
    {"null", "negative|not_positive|none", offsetof(case_spec, slot_null)},
    {"mask", "none|some", offsetof(case_spec, is_masked)},
    {"cp", DTYPES, offsetof(case_spec, checkpoints)},
    {"cp_layout", "nhvk|nhkv", offsetof(case_spec, checkpoint_layout)},
    {"cp_pool", DTYPES, offsetof(case_spec, checkpoint_pool)},
    {"cp_offsets", DTYPES, offsetof(case_spec, checkpoint_offsets)},
    {"place", "apart|same", offsetof(case_spec, in_place)},
    {"rows", "tight|gaps|odd|eights", offsetof(case_spec, row_gap)},
    {"gate", "bounded|softplus|precomputed", offsetof(case_spec, gate)},
    {"beta", "logit|activated", offsetof(case_spec, beta)},
    {"m", "default|1|2", offsetof(case_spec, multiplier)},
    {"norm", "l2|none", offsetof(case_spec, norm)},
    {"view", "plain|gaps|heads_first|tokens_first|mixed|fused|fours", offsetof(case_spec, view)},
    {"exact", "no|yes", offsetof(case_spec, exact)},
    {"params", "model|unit", offsetof(case_spec, is_unit)},
    {"last", "usual|nan", offsetof(case_spec, last_is_nan)},
    {"op", "fwd|decode", offsetof(case_spec, is_decode)},
};

/* A key whose word is a number. */
typedef struct number_key {
    const char *key;
    size_t offset;
} number_key;

static const number_key int_keys[] = {
    {"B", offsetof(case_spec, B)}, {"T", offsetof(case_spec, T)},   {"H", offsetof(case_spec, H)},
    {"HV", offsetof(case_spec, HV)}, {"K", offsetof(case_spec, K)}, {"V", offsetof(case_spec, V)}, {"tail", offsetof(case_spec, tail)},
    {"draws", offsetof(case_spec, draws)}, {"cp_every", offsetof(case_spec, checkpoint_every)},
    {"cp_per", offsetof(case_spec, checkpoints_per_sequence)},
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

static _Noreturn void refuse(const case_spec *spec, const char *what, const char *word)
{
    fprintf(stderr, "cases.def: %s: %s %s\n", spec->name, what, word);
    abort();
}

static void add_sequence(case_spec *spec, int64_t length)
{
    if (spec->N == CASE_MAX_SEQUENCES) refuse(spec, "too many sequences in", "lens");
    spec->bounds[spec->N + 1] = spec->bounds[spec->N] + length;
    spec->N += 1;
}

/* The sequences from `first` on, times - 1 times more. */
static void repeat_sequences(case_spec *spec, int64_t first, int64_t times)
{
    const int64_t count = spec->N - first;
    for (int64_t i = 0; i < (times - 1) * count; ++i) add_sequence(spec, spec->bounds[first + i % count + 1] - spec->bounds[first + i % count]);
}

/* "3,0,17", "1*300,5", "(64,0)*96", "T,40" after T=: packed sequences; "none": packed, and there are none. */
static void parse_lens(case_spec *spec, const char *word)
{
    int64_t group = -1;    /* where an open parenthesis began */
    spec->B = 1;
    spec->N = 0;
    for (const char *at = strcmp(word, "none") == 0 ? "" : word; *at != 0;) {
        char *end = NULL;
        int64_t first = spec->N;
        if (*at == '(' && group < 0) {
            group = spec->N;
            ++at;
            continue;
        }
        if (*at == ')' && group >= 0) {
            first = group;
            group = -1;
            end = (char *)at + 1;
        } else if (*at == 'T') {
            add_sequence(spec, spec->T);
            end = (char *)at + 1;
        } else {
            add_sequence(spec, strtoll(at, &end, 10));
        }
        if (end == at) refuse(spec, "no length at", at);
        if (*end == '*') repeat_sequences(spec, first, strtoll(end + 1, &end, 10));
        if (*end != ',' && *end != 0 && *end != ')') refuse(spec, "no length at", end);
        at = *end == ',' ? end + 1 : end;
    }
    if (group >= 0) refuse(spec, "an open parenthesis in", word);
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
        fprintf(stderr, "%s=", key);
        refuse(spec, "no meaning for", word);
    }
}

static const case_spec defaults = {
    .B = 1, .T = 37, .H = 2, .K = 64, .V = 64, .lower_bound = -5, .scale = NAN,
    .q = FKDA_BF16, .k = FKDA_BF16, .v = FKDA_BF16, .g = FKDA_BF16, .beta_dtype = FKDA_BF16, .out = FKDA_F32,
    .A_log = FKDA_F32, .dt_bias = FKDA_F32, .initial = FKDA_F32, .final = FKDA_F32,
    .checkpoint_offsets = FKDA_I64, .checkpoints_per_sequence = 1,
    .keys = "normal", .gates = "usual", .betas = "normal", .values = "normal",
};

case_spec case_parse(const char *name, const char *text)
{
    case_spec spec = defaults;
    snprintf(spec.name, sizeof spec.name, "%s", name);
    char copy[512];
    if (strlen(text) >= sizeof copy) refuse(&spec, "too long:", text);
    strcpy(copy, text);
    for (char *pair = strtok(copy, " "); pair != NULL; pair = strtok(NULL, " ")) {
        char *const word = strchr(pair, '=');
        if (word == NULL) refuse(&spec, "no '=' in", pair);
        *word = 0;
        set_pair(&spec, pair, word + 1);
    }
    if (spec.HV == 0) spec.HV = spec.H;
    if (isnan(spec.scale)) spec.scale = 1 / sqrt((double)spec.K);
    if (spec.is_decode) {
        spec.in_place = 1;
        spec.final = spec.initial, spec.final_layout = spec.initial_layout, spec.final_pool = spec.initial_pool;
    }
    if (spec.cu != FKDA_NONE) {
        spec.T = spec.bounds[spec.N] + spec.tail;
    } else {
        spec.N = spec.B;
        if (spec.N > CASE_MAX_SEQUENCES) refuse(&spec, "too large:", "B");
        for (int64_t n = 0; n <= spec.N; ++n) spec.bounds[n] = n * spec.T;
    }
    return spec;
}

/* -------------------------------------------------------------- the table */

typedef struct row {
    const char *group, *name, *text;    /* group: an operation, or a suite of kernel tests */
    int first, last;                    /* a range: T runs over it */
} row;

#define FKDA_CASE(operation, name, text)
#define FKDA_RANGE(operation, name, first, last, text)
#define FKDA_KERNEL_CASE(suite, name, text)
#define FKDA_KERNEL_RANGE(suite, name, first, last, text)

static const row operation_cases[] = {
#undef FKDA_CASE
#undef FKDA_RANGE
#define FKDA_CASE(operation, name, text) {#operation, #name, text, 0, 0},
#define FKDA_RANGE(operation, name, first, last, text) {#operation, #name, text, first, last},
#include "cases.def"
#undef FKDA_CASE
#undef FKDA_RANGE
#define FKDA_CASE(operation, name, text)
#define FKDA_RANGE(operation, name, first, last, text)
};

static const row kernel_cases[] = {
#undef FKDA_KERNEL_CASE
#undef FKDA_KERNEL_RANGE
#define FKDA_KERNEL_CASE(suite, name, text) {#suite, #name, KERNEL_CASE_DEFAULTS text, 0, 0},
#define FKDA_KERNEL_RANGE(suite, name, first, last, text) {#suite, #name, KERNEL_CASE_DEFAULTS text, first, last},
#include "cases.def"
};

static int count_rows(const row *table, size_t rows, const char *group)
{
    int count = 0;
    for (size_t i = 0; i < rows; ++i)
        if (strcmp(table[i].group, group) == 0) count += table[i].last - table[i].first + 1;
    return count;
}

static case_spec spec_at(const row *table, const char *group, int i)
{
    const row *r = table;
    for (;; ++r) {
        if (strcmp(r->group, group) != 0) continue;
        if (i <= r->last - r->first) break;
        i -= r->last - r->first + 1;
    }
    const char *const operation = strcmp(group, "decode") == 0 ? "op=decode " : "";
    char name[CASE_NAME_BYTES], text[512];
    if (r->last == 0) {
        snprintf(text, sizeof text, "%s%s", operation, r->text);
        return case_parse(r->name, text);
    }
    snprintf(name, sizeof name, "%s_%d", r->name, r->first + i);
    snprintf(text, sizeof text, "T=%d %s%s", r->first + i, operation, r->text);
    case_spec spec = case_parse(name, text);
    spec.is_of_range = 1;
    return spec;
}

int case_count(const char *operation) { return count_rows(operation_cases, COUNT(operation_cases), operation); }
case_spec case_at(const char *operation, int i) { return spec_at(operation_cases, operation, i); }
int kernel_case_count(const char *suite) { return count_rows(kernel_cases, COUNT(kernel_cases), suite); }
case_spec kernel_case_at(const char *suite, int i) { return spec_at(kernel_cases, suite, i); }

case_spec kernel_case_parse(const char *name, const char *text)
{
    char all[512];
    snprintf(all, sizeof all, "%s%s", KERNEL_CASE_DEFAULTS, text);
    return case_parse(name, all);
}

/* Cases from suites.def and from the options. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_case.h"
#include "failure.h"
#include "text.h"

static const bench_case suite_cases[] = {
#define FKDA_CASE(suite_, name_, T_, H_, HV_, K_, V_, gate_, lens_) \
    {.suite = #suite_, .name = name_, .T = T_, .H = H_, .HV = HV_, .K = K_, .V = V_, .gate = FKDA_GATE_##gate_, .lens = lens_},
#define FKDA_DECODE_CASE(suite_, name_, N_, S_, H_, HV_, slots_) \
    {.suite = #suite_, .name = name_, .op = OPERATION_DECODE, .N = N_, .S = S_, .H = H_, .HV = HV_, .K = 128, .V = 128, .gate = FKDA_GATE_BOUNDED, .slots = slots_},
#include "suites.def"
};
enum { SUITE_CASE_COUNT = sizeof suite_cases / sizeof *suite_cases, MAX_SEQUENCES = 1 << 17 };

/* The next entry of "300,1,17" or "64x128": `count` sequences of `value` tokens. *rest moves behind its comma, to NULL at the end. */
static fkda_status take_len(const char **rest, int64_t *count, int64_t *value)
{
    char word[32];
    const size_t length = strcspn(*rest, ",");
    const size_t kept = length < sizeof word ? length : sizeof word - 1;
    memcpy(word, *rest, kept);
    word[kept] = 0;
    char shown[sizeof word];
    memcpy(shown, word, sizeof word);
    char *const times = strchr(word, 'x');
    if (times != NULL) *times = 0;
    const int has_count = times != NULL ? text_to_integer(word, count) && *count >= 1 && *count <= MAX_SEQUENCES : (*count = 1, 1);
    CHECK(has_count && length < sizeof word && text_to_integer(times != NULL ? times + 1 : word, value) && *value >= 0 && *value <= 1 << 30,
          FKDA_ERR_BAD_VALUE,
          "--lens has the entry '%s', but it must be whole numbers from 0 to %d, with commas between them, or 64x128 for 64 times 128", shown, 1 << 30);
    *rest = (*rest)[length] == ',' ? *rest + length + 1 : NULL;
    return FKDA_OK;
}

static fkda_status count_lens(bench_case *c)
{
    int64_t count, value;
    c->N = 0;
    for (const char *rest = c->lens; rest != NULL;) {
        TRY(take_len(&rest, &count, &value));
        c->N += count;
        CHECK(c->N <= MAX_SEQUENCES, FKDA_ERR_BAD_VALUE, "--lens has %lld entries or more, at most %d are taken", (long long)c->N, MAX_SEQUENCES);
    }
    return FKDA_OK;
}

static fkda_status parse_lens(bench_case *c)
{
    int64_t sum = 0, n = 0, count, value;
    TRY(count_lens(c));
    c->len_values = calloc((size_t)c->N, sizeof *c->len_values);
    CHECK(c->len_values != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %lld sequences", (long long)c->N);
    for (const char *rest = c->lens; rest != NULL;) {
        TRY(take_len(&rest, &count, &value));
        for (; count > 0; --count, sum += value) c->len_values[n++] = value;
    }
    CHECK(c->T == 0 || c->T == sum, FKDA_ERR_BAD_VALUE, "--T is %lld, but --lens sum up to %lld", (long long)c->T, (long long)sum);
    CHECK(sum > 0, FKDA_ERR_BAD_VALUE, "--lens sum up to 0: there is nothing to time");
    c->T = sum;
    return FKDA_OK;
}

static fkda_status check_decode(bench_case *c)
{
    CHECK(c->T == 0 && c->lens == NULL, FKDA_ERR_BAD_VALUE, "--op decode takes --N sequences of --S tokens, not --T or --lens");
    if (c->N == 0) c->N = 1;
    if (c->S == 0) c->S = 1;
    CHECK(c->slots == 0 || c->slots >= c->N, FKDA_ERR_BAD_VALUE, "--slots is %lld, but N = %lld sequences have a slot each", (long long)c->slots, (long long)c->N);
    c->T = c->N * c->S;
    return FKDA_OK;
}

static fkda_status add(bench_list *list, const bench_case *given)
{
    bench_case *const grown = realloc(list->cases, (size_t)(list->count + 1) * sizeof *grown);
    CHECK(grown != NULL, FKDA_ERR_NO_MEMORY, "out of memory for the list of cases");
    list->cases = grown;
    bench_case *const c = &list->cases[list->count++];
    *c = *given;
    if (c->op == OPERATION_DECODE) return check_decode(c);
    if (c->lens != NULL && *c->lens != 0) return parse_lens(c);
    c->N = 1;
    if (c->T == 0) c->T = 1024;
    return FKDA_OK;
}

const char *const bench_suite_names[] = {
#define FKDA_SUITE(suite, about) #suite,
#include "suites.def"
    NULL,
};

fkda_status bench_add_suite(bench_list *list, const char *suite)
{
    for (int i = 0; i < SUITE_CASE_COUNT; ++i)
        if (strcmp(suite_cases[i].suite, suite) == 0) TRY(add(list, &suite_cases[i]));
    return FKDA_OK;
}

fkda_status bench_add_own(bench_list *list, const bench_case *given)
{
    TRY(add(list, given));
    bench_case *const c = &list->cases[list->count - 1];
    char heads[16] = "", widths[28] = "", packed[16] = "", tokens[16] = "", pool[24] = "";
    if (c->HV != c->H) snprintf(heads, sizeof heads, " HV%d", (int)c->HV);
    if (c->K != 128 || c->V != 128) snprintf(widths, sizeof widths, " K%d V%d", (int)c->K, (int)c->V);
    if (c->len_values != NULL) snprintf(packed, sizeof packed, " N%d", (int)c->N);
    if (c->S > 1) snprintf(tokens, sizeof tokens, " S%d", (int)c->S);
    if (c->slots > 0) snprintf(pool, sizeof pool, " of %d", (int)c->slots);
    if (c->op == OPERATION_DECODE) snprintf(c->name, sizeof c->name, "N%d%s H%d%s%s%s", (int)c->N, pool, (int)c->H, heads, widths, tokens);
    else snprintf(c->name, sizeof c->name, "T%lld H%d%s%s%s", (long long)c->T, (int)c->H, heads, widths, packed);
    return FKDA_OK;
}

fkda_status bench_spread_gates(bench_list *list)
{
    const int count = list->count;
    for (int i = 0; i < count; ++i) list->cases[i].gates = PROBLEM_GATES_SLOW;
    for (problem_gates gates = PROBLEM_GATES_RANDOM; gates < PROBLEM_GATES_COUNT; ++gates)
        for (int i = 0; i < count; ++i) {
            bench_case c = list->cases[i];
            c.gates = gates;
            c.len_values = NULL;
            TRY(add(list, &c));
        }
    return FKDA_OK;
}

void bench_list_free(bench_list *list)
{
    for (int i = 0; i < list->count; ++i) free(list->cases[i].len_values);
    free(list->cases);
    *list = (bench_list){.cases = NULL};
}

/* From a case to its class of bars.def. */
#include "bars.h"

#include <string.h>

enum { FEW_ROWS = 64, LONG_TOKENS = 256, LOW_RANK_TOKENS = 65536 };

static int is_one_of(const char *word, const char *const *words)
{
    while (*words != NULL && strcmp(*words, word) != 0) ++words;
    return *words != NULL;
}

accuracy_bar bar_bf16_of(const case_spec *s)
{
    static const char *const parallel[] = {"same", "cos90", "cos99", "period16", "uniform", "rank8", NULL};
    static const char *const usual_gates[] = {"usual", "slow", "floor", NULL}, *const slowest_gates[] = {"open", "long", NULL};
    int64_t shortest = INT64_MAX;    /* of the sequences with tokens */
    const int64_t sequences = s->N - s->last_is_nan;
    for (int64_t n = 0; n < sequences; ++n) {
        const int64_t tokens = s->bounds[n + 1] - s->bounds[n];
        if (tokens > 0 && tokens < shortest) shortest = tokens;
    }
    if (strcmp(s->keys, "same") == 0 && is_one_of(s->gates, slowest_gates)) return BAR(bf16, same_key);
    if (strcmp(s->keys, "rank8") == 0 && shortest >= LOW_RANK_TOKENS) return BAR(bf16, low_rank);
    if (is_one_of(s->keys, parallel)) return BAR(bf16, parallel);
    if (s->bounds[sequences] * s->H < FEW_ROWS) return BAR(bf16, few);
    if (shortest >= LONG_TOKENS && strcmp(s->keys, "normal") == 0 && is_one_of(s->gates, usual_gates)) return BAR(bf16, long);
    return BAR(bf16, any);
}

/* Slots, masks and checkpoints of a case. */
#include "case_states.h"

static int64_t null_slot(const case_spec *s, int64_t i)
{
    static const int64_t nulls[] = {-1, 0, INT32_MIN};
    const int64_t slot = nulls[i % 3];
    return slot == 0 && s->slot_null == FKDA_SLOT_NULL_NEGATIVE ? -7 : slot;
}

static int is_null_initial(const case_spec *s, int64_t n) { return s->initial_pool != FKDA_NONE && s->slot_null != FKDA_SLOT_NULL_NONE && n % 4 == 2; }
static int is_null_final(const case_spec *s, int64_t n) { return s->is_decode ? is_null_initial(s, n) : s->final_pool != FKDA_NONE && n % 5 == 3; }
static int is_null_checkpoint(const case_spec *s, int64_t number) { return s->checkpoint_pool != FKDA_NONE && number % 6 == 4; }

static int64_t odd_slot(const case_spec *s, int64_t n) { return 2 * (s->N - n) - 1; }

int64_t case_initial_slot(const case_spec *s, int64_t n) { return is_null_initial(s, n) ? null_slot(s, n / 4) : odd_slot(s, n); }

int64_t case_final_slot(const case_spec *s, int64_t n)
{
    if (s->is_decode) return case_initial_slot(s, n);
    if (is_null_final(s, n)) return null_slot(s, n / 5);
    return odd_slot(s, n) + (s->in_place && n % 2 == 0 ? 0 : 1);
}

int64_t case_checkpoint_slot(const case_spec *s, int64_t number)
{
    return is_null_checkpoint(s, number) ? null_slot(s, number / 6) : case_checkpoint_count(s) - number;
}

int64_t case_slot_count(const case_spec *s) { return 2 * s->N + 2; }
int64_t case_checkpoint_slot_count(const case_spec *s) { return case_checkpoint_count(s) + 2; }

uint8_t case_mask(const case_spec *s, int64_t n)
{
    const int counts = !s->is_decode || s->bounds[n] < s->bounds[n + 1];    /* decode does not touch a sequence without tokens */
    return s->is_masked && counts && n % 3 == 1 ? 0 : (uint8_t)(n % 2 ? 1 : 0x80);
}


int64_t case_per_sequence(const case_spec *s) { return s->checkpoint_every > 0 ? 0 : s->checkpoints_per_sequence; }

static int64_t length_of(const case_spec *s, int64_t n) { return s->bounds[n + 1] - s->bounds[n]; }

int64_t case_checkpoint_offset(const case_spec *s, int64_t n, int64_t j)
{
    const int64_t length = length_of(s, n);
    const int64_t choices[] = {length, 16 * (length / 32), 1, length / 2, -1, length - 1, 0, 32, 64 * (length / 64), length / 3 + 1};
    const int64_t choice = choices[(3 * n + j) % 10];
    return choice < length ? choice : length;
}

static int64_t count_in(const case_spec *s, int64_t n)
{
    return s->checkpoint_every > 0 ? length_of(s, n) / s->checkpoint_every : s->checkpoints_per_sequence;
}

int64_t case_checkpoint_count(const case_spec *s)
{
    int64_t count = 1;
    for (int64_t n = 0; n < s->N; ++n) count += count_in(s, n);
    return count;
}

int case_has_checkpoint(const case_spec *s, int64_t number, int64_t *n, int64_t *position)
{
    int64_t j = number;
    for (*n = 0; *n < s->N && j >= count_in(s, *n); ++*n) j -= count_in(s, *n);
    if (*n == s->N || is_null_checkpoint(s, number)) return 0;
    *position = s->checkpoint_every > 0 ? (j + 1) * s->checkpoint_every : case_checkpoint_offset(s, *n, j);
    return *position > 0;
}

int case_starts_from_0(const case_spec *s, int64_t n) { return is_null_initial(s, n) || case_mask(s, n) == 0; }
int case_writes_nothing(const case_spec *s, int64_t n) { return is_null_final(s, n); }

int64_t case_initial_row(const case_spec *s, int64_t n)
{
    if (case_starts_from_0(s, n) && !s->is_plain) return CASE_NO_ROW;
    return s->initial_pool == FKDA_NONE || s->is_plain ? n : case_initial_slot(s, n);
}

int64_t case_final_row(const case_spec *s, int64_t n)
{
    if (case_writes_nothing(s, n)) return CASE_NO_ROW;
    return s->final_pool == FKDA_NONE || s->is_plain ? n : case_final_slot(s, n);
}

int64_t case_checkpoint_row(const case_spec *s, int64_t number)
{
    int64_t n, position;
    if (!case_has_checkpoint(s, number, &n, &position)) return CASE_NO_ROW;
    return s->checkpoint_pool == FKDA_NONE || s->is_plain ? number : case_checkpoint_slot(s, number);
}

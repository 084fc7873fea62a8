/*
 * What the backend asks of src/cuda/spans, where sequences are cut in spans that start before the states they start from are known.
 *
 * Span s of a sequence takes its state from S_s to S_s+1 = O_s + P_s S_s: its own state O_s, which it leaves when it starts from 0, and its
 * transition P_s, a 128 x 128 matrix for each head. Both are what a prefill kernel makes of the span: O_s of its tokens, P_s of its tokens without
 * values, from the identity.
 *
 * Both calls enqueue and return a cudaError_t as int (0: success): no allocation, no synchronisation, safe under stream capture.
 */
#ifndef FKDAI_SPAN_CALL_H
#define FKDAI_SPAN_CALL_H

#include "forward_call.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Entries that some prefill launch sees in the place of sequences; each array is written whole. */
typedef struct fkdai_span_entries {
    int64_t count;               /* there is room for; the last ones may be empty, without states */
    fkdai_span *table;           /* [count] */
    int64_t *initial, *final;    /* [count]: slots; below 0 null, or FKDAI_SPAN_STATE - i */
    int32_t *offsets;            /* [count][per_entry] of checkpoints, tokens of the entry; 0: none */
    int64_t *slots;              /* likewise */
} fkdai_span_entries;

typedef struct fkdai_span_setup {
    fkdai_vector cu_seqlens;     /* the call's; absent: N sequences of T tokens */
    int64_t N, T, HV;
    fkdai_span_rule rule;
    fkdai_vector initial_slots, final_slots;       /* absent: n */
    int initial_first_slot, final_first_slot;      /* below it: null */
    const uint8_t *initial_mask;                   /* optional */

    struct {                     /* rewritten as so many offsets an entry; per_entry 0: there are none */
        fkdai_vector offsets;    /* [N][per_sequence], where every is 0 */
        fkdai_vector slots;      /* absent: the number of the checkpoint */
        int first_slot;
        int64_t per_sequence, every, count, per_entry;
    } checkpoints;

    /* early: of each sequence that has several spans the first as it is, final: the row of `starts` that the second takes; all others but the last from
     * 0, silent, final likewise; behind these once more those but the first, as transitions from the identity, final: rows from first_transition on.
     * late: sequences that have one span as they are; of the others all spans but the first, from rows of `starts`. */
    fkdai_span_entries early, late;
    int64_t first_transition;
    int32_t *before;             /* [N+1] spans before sequence n that are not the first of theirs */
    int32_t *cut_before;         /* [N+1] sequences before n that have several */
    int32_t *marks_before;       /* [N+1] checkpoints before it, where checkpoints.every > 0 */
    int32_t *cut;                /* [counts.cut] the sequences that have several, in order */
    float *identity;             /* [HV][K][K] */
    uint32_t *device_status;     /* optional */
} fkdai_span_setup;

/* starts, [rows][HV][V][K]: a row for each span but the first of its sequence. Those of spans behind the second are the own state of the span
 * before, and become what they start from. */
typedef struct fkdai_span_carry {
    int64_t N, HV, most_cut;
    const int32_t *before, *cut_before, *cut;
    float *starts;
    const uint16_t *transitions; /* [rows][HV][2][K][K] bf16: of an fp32 matrix what bf16 keeps of it, and of what that leaves. Its row i: what the state
                                  * that starts as unit vector i becomes */
} fkdai_span_carry;

/* Entries of a call of N sequences of T tokens, or, packed, with so many in all, at most. Pure. */
typedef struct fkdai_span_counts {
    int64_t own, transitions, late;    /* own, transitions: of `early` */
    int64_t cut;                       /* sequences that have several spans */
} fkdai_span_counts;
fkdai_span_counts fkdai_span_count(int64_t N, int64_t T, int is_packed, fkdai_span_rule rule);

int fkdai_span_load(void);       /* loads the kernels on the current device; once before a capture */
int fkdai_span_set_up(const fkdai_span_setup *setup, void *stream);
int fkdai_span_carry_states(const fkdai_span_carry *carry, void *stream);

#ifdef __cplusplus
}
#endif
#endif

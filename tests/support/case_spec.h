/*
 * One row of tests/cases.def, parsed. The keys and their words are listed in case_spec.c and explained in cases.def.
 */
#ifndef FKDA_TEST_CASE_SPEC_H
#define FKDA_TEST_CASE_SPEC_H

#include <stdint.h>

#include "flashkda.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CASE_MAX_SEQUENCES = 1024, CASE_NAME_BYTES = 64, CASE_WORD_BYTES = 16 };

/* How a tensor [B,T,heads,width] lies in memory. */
typedef enum case_view {
    VIEW_PLAIN = 0,           /* contiguous, strides given as 0 */
    VIEW_GAPS = 1,            /* padded heads, tokens and batches */
    VIEW_HEADS_FIRST = 2,     /* [B,heads,T,width] */
    VIEW_TOKENS_FIRST = 3,    /* [T,B,heads,width] */
    VIEW_MIXED = 4,           /* q, k, v, g, beta, out: each another of the above, with gaps */
    VIEW_FUSED = 5,           /* columns of rows three times as wide and one element a head longer, as of a projection of q, k, v and beta */
    VIEW_FOURS = 6            /* as GAPS, in whole fours of elements */
} case_view;

/* What lies between two rows or slots of states. */
typedef enum case_rows_gap { ROWS_TIGHT, ROWS_GAPS /* some elements */, ROWS_ODD /* an odd number of them */, ROWS_EIGHTS /* eight */ } case_rows_gap;

typedef struct case_spec {
    char name[CASE_NAME_BYTES];
    int64_t B, T, N, H, HV, K, V;
    int64_t tail;                              /* packed: token rows behind the last sequence */
    int64_t bounds[CASE_MAX_SEQUENCES + 1];    /* sequence n has token rows [bounds[n], bounds[n+1]); B*T rows in all, tail of them in no sequence */
    int cu;                                    /* fkda_dtype of cu_seqlens; NONE: dense */
    int q, k, v, g, beta_dtype, out;           /* fkda_dtype */
    int A_log, dt_bias;
    int gate, beta, multiplier, norm;          /* enumerators of flashkda.h */
    double lower_bound, scale;
    int initial, final, initial_layout, final_layout;
    int in_place, row_gap;                     /* states: one buffer; case_rows_gap */
    int initial_pool, final_pool, slot_null;   /* dtype of slots; NONE: dense. case_states.h says who has which */
    int is_masked;                             /* some sequences start from 0 by a mask */
    int checkpoints, checkpoint_layout, checkpoint_pool;    /* as initial, initial_layout, initial_pool */
    int checkpoint_offsets;                    /* dtype */
    int64_t checkpoint_every, checkpoints_per_sequence;
    int is_plain;                              /* what pools and masks mean, without them */
    int view;
    int exact;                                 /* the output must equal the reference bit for bit */
    int is_unit;                               /* params=unit */
    int last_is_nan;                           /* packed: the last sequence is NaN in every input */
    int64_t draws;                             /* fresh inputs that a repeating suite draws */
    int is_decode;                             /* of the operation decode: one state, read and written */
    int64_t most_tokens;                       /* of packed decode: S, if it is more than the longest sequence has */
    int is_verify;                             /* of decode: commit NONE, so that states stay */
    int is_of_range;                           /* from a RANGE of the table */
    char keys[CASE_WORD_BYTES], gates[CASE_WORD_BYTES], betas[CASE_WORD_BYTES], values[CASE_WORD_BYTES];    /* input_values.c */
} case_spec;

/* Parses "key=word key=word ..." over the defaults; ends the program on a word it does not know. */
case_spec case_parse(const char *name, const char *text);

/* The tables of cases.def with their ranges expanded: the cases of an operation, and those of a suite of kernel tests. A suite or an operation
 * that is not in the table has no cases. */
int case_count(const char *operation);
case_spec case_at(const char *operation, int i);
int kernel_case_count(const char *suite);
case_spec kernel_case_at(const char *suite, int i);

/* Over what a kernel case says: what the kernels are built for. */
#define KERNEL_CASE_DEFAULTS "K=128 V=128 out=bf16 params=unit "
case_spec kernel_case_parse(const char *name, const char *text);

#ifdef __cplusplus
}
#endif
#endif

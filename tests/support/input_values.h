/*
 * What the tensors of a case hold, apart from how they lie in memory: plain float arrays, every element already representable in
 * the dtype that the case stores it in. Rows are the B*T token rows of the case.
 */
#ifndef FKDA_TEST_INPUT_VALUES_H
#define FKDA_TEST_INPUT_VALUES_H

#include "case_spec.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct input_values {
    float *q, *k;         /* [rows,H,K] */
    float *v;             /* [rows,HV,V] */
    float *g;             /* [rows,HV,K] */
    float *beta;          /* [rows,HV] */
    float *A_log;         /* [HV] */
    float *dt_bias;       /* [HV,K] */
    float *initial;       /* [N,HV,K,V] */
} input_values;

/* Draws the values of a case from the run's seed and the case's name. */
input_values values_draw(const case_spec *spec);

/* Storage for another case, all zero. */
input_values values_alloc(const case_spec *spec);
void values_free(input_values *x);

/* A run of token rows of one sequence, and the initial state it starts from. */
typedef struct piece {
    int64_t sequence;              /* of the source case */
    int64_t first, count;          /* token rows inside that sequence */
    const float *initial;          /* [HV,K,V] in place of the source's; NULL: the source's own */
} piece;

/* A case of `count` packed sequences cut out of another; with form FKDA_NONE a dense batch of pieces of one length. */
case_spec pieces_spec(const case_spec *from, const piece *pieces, int count, fkda_dtype form);
input_values pieces_values(const case_spec *from, const input_values *x, const piece *pieces, const case_spec *to);

static inline int64_t case_rows(const case_spec *spec) { return spec->bounds[spec->N]; }
static inline int64_t case_state_elems(const case_spec *spec) { return spec->HV * spec->K * spec->V; }

#ifdef __cplusplus
}
#endif
#endif

/* How a launcher of a forward kernel is given tensors, vectors, states. C and C++. Strides count elements. */
#ifndef FKDAI_FORWARD_CALL_H
#define FKDAI_FORWARD_CALL_H

#include <stdint.h>

/* Bits of a status word on the device. */
#define FKDAI_SEQLENS_BROKEN     1u    /* cu_seqlens is not 0 = c[0] <= ... <= c[N] <= T */
#define FKDAI_SLOT_BROKEN        2u    /* a slot is not below slot_count: it counts as none */
#define FKDAI_CHECKPOINT_BROKEN  4u    /* a checkpoint lies beyond its sequence, or is more than there are rows for: it is left out */

typedef enum fkdai_element { FKDAI_ABSENT, FKDAI_BF16, FKDAI_F32, FKDAI_I32, FKDAI_I64 } fkdai_element;

typedef enum fkdai_gate { FKDAI_GATE_BOUNDED, FKDAI_GATE_SOFTPLUS, FKDAI_GATE_PRECOMPUTED, FKDAI_GATES } fkdai_gate;

typedef struct fkdai_strides {
    int64_t batch, token, head;
} fkdai_strides;

typedef struct fkdai_tensor {           /* [B,T,heads,width], width contiguous */
    const void *data;
    fkdai_strides stride;
    fkdai_element element;              /* BF16; beta: or F32 */
} fkdai_tensor;

typedef struct fkdai_vector {           /* contiguous; data is NULL where element is FKDAI_ABSENT */
    const void *data;
    fkdai_element element;
} fkdai_vector;

typedef struct fkdai_state_rows {       /* rows of HV matrices [V,K] */
    int64_t row_stride;
    fkdai_element element;
    int is_k_first;                     /* [K,V] */
    fkdai_vector slots;                 /* I32 or I64: the row of each state; absent: state i is row i */
    int64_t slot_count;                 /* with slots: rows */
    int first_slot;                     /* with slots: below it there is no state, which reads 0 and is not written */
} fkdai_state_rows;

/* Sequences are cut behind `first` tokens and then every `next`, both multiples of 32. next 0: they are not cut. */
typedef struct fkdai_span_rule {
    int64_t first, next;
} fkdai_span_rule;

/* What a launch sees in the place of a sequence where these are cut (cuda_spans.h): `length` tokens of batch row `batch` from `start` on. */
typedef struct fkdai_span {
    int32_t start, batch, length;       /* length below 0, of the first: cu_seqlens is broken */
    int32_t flags;
} fkdai_span;
#define FKDAI_SPAN_TRANSITION  1        /* its values count as 0, and the state behind its last token is left in parts (span_call.h) */
#define FKDAI_SPAN_UNWANTED    2        /* nobody asks for it */
#define FKDAI_SPAN_SILENT      4        /* no out is written */
#define FKDAI_SPAN_STATE (-2)           /* initial slots: slot FKDAI_SPAN_STATE - i is row i of `states` */

typedef struct fkdai_spans {
    const fkdai_span *table;            /* [N]; NULL: sequences as they are */
    const float *states;                /* [rows][HV][V][K] */
    const int32_t *is_cut;              /* optional, on the device: not 0 if some sequence of the call is cut. Whether that is so must be wants_cut, else the */
    int wants_cut;                      /* launch does nothing */
} fkdai_spans;

#endif

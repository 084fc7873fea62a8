/*
 * What the C11 host side may ask of the decode kernel's device code.
 *
 * The launcher enqueues and returns: no allocation, no synchronisation, safe under stream capture. It returns a cudaError_t as int (0: success).
 * Sizes and strides count elements; every pointer is a device pointer.
 */
#ifndef FKDAI_DECODE_LAUNCH_H
#define FKDAI_DECODE_LAUNCH_H

#include <stdint.h>

#include "decode/decode_plan.h"

/* Bits of a status word on the device. */
#define FKDAI_DECODE_SEQLENS_BROKEN  1u    /* entries of cu_seqlens: their sequence is not touched */
#define FKDAI_DECODE_SLOT_BROKEN     2u    /* a slot is not one of the pool: it counts as null */
#define FKDAI_DECODE_ACCEPTED_BROKEN 8u    /* a number of accepted tokens: the nearest that there can be is taken */
#define FKDAI_DECODE_PARENT_BROKEN   16u   /* a parent is not an earlier token: the initial state is taken */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fkdai_decode_tensor {     /* [B,T,heads,width], width contiguous */
    void *data;
    int64_t batch, token, head;          /* strides */
    int is_f32;                          /* else bf16 */
} fkdai_decode_tensor;

typedef struct fkdai_decode_vector {     /* contiguous; NULL: absent */
    const void *data;
    int is_f32;                          /* else bf16 */
} fkdai_decode_vector;

typedef struct fkdai_decode_indices {    /* NULL: absent */
    const void *data;
    int is_i64;                          /* else int32 */
} fkdai_decode_indices;

typedef enum fkdai_decode_gate { FKDAI_DECODE_BOUNDED, FKDAI_DECODE_SOFTPLUS, FKDAI_DECODE_PRECOMPUTED } fkdai_decode_gate;

typedef enum fkdai_decode_commit { FKDAI_DECODE_LAST, FKDAI_DECODE_NONE, FKDAI_DECODE_ACCEPTED, FKDAI_DECODE_EACH } fkdai_decode_commit;

/* The kernel's parameter: first what the first requests need. */
typedef struct fkdai_decode_call {
    fkdai_decode_divisor by_heads, by_group;    /* by HV, and by HV / H: value head hv reads query and key head hv / (HV / H) */
    int HV;
    int S;                               /* most tokens of a sequence */
    fkdai_decode_indices slots;          /* [N], or of EACH [N,slots_per_sequence]; absent: sequence n has row n */
    fkdai_decode_indices cu_seqlens;     /* [N+1]; absent: every sequence has S tokens, B = N */
    const uint8_t *initial_mask;         /* [N], optional; 0: the sequence starts from 0 */
    void *state;                         /* read and written; rows of HV matrices; 16-byte aligned data and row_stride */
    int64_t row_stride;
    uint32_t first_slot, slot_span;      /* the states of a pool are [first_slot, first_slot + slot_span); without slots 0 and 2^32 - 1 */
    fkdai_decode_tensor q, k, g;         /* [..,H,128] [..,H,128] [..,HV,128]; data and strides in whole fours of elements; without out no q */
    fkdai_decode_tensor v, beta;         /* [..,HV,128] [..,HV] */
    fkdai_decode_vector A_log, dt_bias;  /* [HV], [HV,128] in whole fours of elements */
    fkdai_decode_indices num_accepted;   /* [N]; with ACCEPTED; with EACH optional */
    fkdai_decode_commit commit;
    int only_accepted;                   /* nothing that tokens beyond the accepted ones change is written */
    fkdai_decode_tensor out;             /* [..,HV,128]; optional */
    int null_is_padding;                 /* a sequence that begins with a null slot: zeros in out, and nothing else of it */
    int64_t null_below;                  /* with slots: an index below it is no state, reads 0 and is not written; others than states are broken */
    uint32_t *device_status;             /* optional: gets FKDAI_DECODE_*_BROKEN */
    int64_t T;                           /* with cu_seqlens: token rows */
    fkdai_decode_gate gate;
    int is_normalised, is_beta_activated;
    float beta_multiplier, lower_bound, scale;

    /* with the shape STEPS */
    int64_t slots_stride;                /* of EACH */
    int slots_per_sequence;              /* at most 32 */
    int is_bf16_step;
    void *step_states;                   /* optional: row n steps_per_sequence + t gets the state after token t; as state */
    int64_t step_row_stride, steps_per_sequence;
    fkdai_decode_indices parent;         /* optional, [N,S] of rows parent_stride apart: what token t goes on from, -1: the initial state */
    int64_t parent_stride;

    fkdai_decode_grid grid;              /* from fkdai_decode_make_grid */
} fkdai_decode_call;

/* Loads the kernels on the current device; call once before a capture. */
int fkdai_decode_load(void);

int fkdai_decode_launch(const fkdai_decode_call *call, void *stream);

#ifdef __cplusplus
}
#endif
#endif

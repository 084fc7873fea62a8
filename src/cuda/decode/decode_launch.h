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

/* The kernel's parameter. */
typedef struct fkdai_decode_call {
    fkdai_decode_tensor q, k, g;         /* [..,H,128] [..,H,128] [..,HV,128]; data and strides in whole fours of elements */
    fkdai_decode_tensor v, out;          /* [..,HV,128] */
    fkdai_decode_tensor beta;            /* [..,HV] */
    fkdai_decode_vector A_log, dt_bias;  /* [HV], [HV,128] in whole fours of elements */
    fkdai_decode_indices cu_seqlens;     /* [N+1]; absent: every sequence has S tokens, B = N */
    void *state;                         /* read and written; rows of HV matrices; 16-byte aligned data and row_stride */
    int64_t row_stride;
    fkdai_decode_indices slots;          /* [N]; absent: sequence n has row n */
    int64_t slot_count;                  /* with slots */
    int64_t first_slot;                  /* with slots: below it there is no state, which reads 0 and is not written; others below 0 are broken */
    fkdai_decode_gate gate;
    const uint8_t *initial_mask;         /* [N], optional; 0: the sequence starts from 0 */
    uint32_t *device_status;             /* optional: gets FKDAI_DECODE_*_BROKEN */
    int64_t T;                           /* with cu_seqlens: token rows */
    int S;                               /* most tokens of a sequence */
    int HV;
    fkdai_decode_divisor by_heads, by_group;    /* by HV, and by HV / H: value head hv reads query and key head hv / (HV / H) */
    int is_normalised, is_beta_activated;
    float beta_multiplier, lower_bound, scale;
    fkdai_decode_grid grid;              /* from fkdai_decode_make_grid */
} fkdai_decode_call;

/* Loads the kernels on the current device; call once before a capture. */
int fkdai_decode_load(void);

int fkdai_decode_launch(const fkdai_decode_call *call, void *stream);

#ifdef __cplusplus
}
#endif
#endif

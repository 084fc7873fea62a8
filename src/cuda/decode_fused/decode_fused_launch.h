/*
 * What the C11 host side may ask of the device code.
 *
 * The launcher enqueues and returns: no allocation, no synchronisation, safe under stream capture. It returns a cudaError_t as int (0: success).
 * Sizes and strides count elements; every pointer is a device pointer.
 */
#ifndef FKDAI_DECODE_FUSED_LAUNCH_H
#define FKDAI_DECODE_FUSED_LAUNCH_H

#include <stdint.h>

#include "decode_fused/decode_fused_plan.h"

/* Bit of a status word on the device. */
#define FKDAI_FUSED_SLOT_BROKEN  2u     /* a slot is not one of the pool: it counts as null */

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fkdai_fused_tensor {     /* [N,H,width], width contiguous */
    void *data;                         /* NULL: absent */
    int64_t batch, head;                /* strides */
    int is_f32;                         /* else bf16 */
} fkdai_fused_tensor;

typedef struct fkdai_fused_vector {     /* contiguous; NULL: absent */
    const void *data;
    int is_f32;                         /* else bf16 */
} fkdai_fused_vector;

typedef struct fkdai_fused_conv {
    const void *weight[3];              /* of q, k, v: [4,H,128]; NULL: no convolution */
    int is_weight_f32;                  /* else bf16 */
    int64_t weight_tap, weight_head;    /* strides */
    fkdai_fused_vector bias[3];         /* [H,128] */
    void *taps;                         /* read and written: [rows,3,3*H*128] by strides, elements as those of q, k and v */
    int64_t row, tap, channel;          /* its strides */
    fkdai_fused_taps lie;               /* from fkdai_fused_choose_taps */
} fkdai_fused_conv;

typedef enum fkdai_fused_gate { FKDAI_FUSED_BOUNDED, FKDAI_FUSED_SOFTPLUS, FKDAI_FUSED_PRECOMPUTED } fkdai_fused_gate;

/* The kernel's parameter. All but beta: addresses and strides in whole fours of elements. */
typedef struct fkdai_fused_call {
    fkdai_fused_tensor x[3];            /* q, k, v: [..,H,128]; with a convolution its newest input, of one dtype */
    fkdai_fused_tensor g, out;          /* [..,H,128] */
    fkdai_fused_tensor output_gate;     /* [..,H,128]; absent: no norm */
    fkdai_fused_tensor beta;            /* [..,H] */
    fkdai_fused_vector A_log, dt_bias, norm_weight;    /* [H], [H,128], [128] */
    fkdai_fused_conv conv;
    void *state;                        /* read and written; rows of H matrices; 16-byte aligned data and row_stride */
    int64_t row_stride;
    const void *slots;                  /* [N], int32 or int64; NULL: sequence n has row n of states and taps */
    int is_slot_i64;
    int64_t slot_count;                 /* with slots */
    int64_t first_slot;                 /* with slots: below it a sequence is null: zeros in out, nothing else touched; others below 0 are broken */
    const uint8_t *initial_mask;        /* [N], optional; 0: the sequence starts from 0 */
    uint32_t *device_status;            /* optional: gets FKDAI_FUSED_SLOT_BROKEN */
    fkdai_fused_gate gate;
    int H;
    int is_normalised, is_beta_activated;
    float beta_multiplier, lower_bound, scale, norm_eps;
    fkdai_fused_grid grid;              /* from fkdai_fused_make_grid */
} fkdai_fused_call;

/* Loads the kernels on the current device; call once before a capture. */
int fkdai_decode_fused_load(void);

int fkdai_decode_fused_launch(const fkdai_fused_call *call, void *stream);

#ifdef __cplusplus
}
#endif
#endif

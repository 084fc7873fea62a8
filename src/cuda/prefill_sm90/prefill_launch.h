/*
 * What the C11 host side may ask of the prefill kernel's device code.
 *
 * The launcher enqueues and returns: no allocation, no synchronisation, safe under stream capture. It returns a
 * cudaError_t as int (0: success). Sizes and strides count elements; every pointer is a device pointer.
 */
#ifndef FKDAI_PREFILL_LAUNCH_H
#define FKDAI_PREFILL_LAUNCH_H

#include <stdint.h>

#include "prefill_sm90/prefill_plan.h"

/* Bits of a status word on the device. */
#define FKDAI_SEQLENS_BROKEN     1u    /* cu_seqlens is not 0 = c[0] <= ... <= c[N] <= T */
#define FKDAI_SLOT_BROKEN        2u    /* a slot is not below slot_count: it counts as none */
#define FKDAI_CHECKPOINT_BROKEN  4u    /* a checkpoint lies beyond its sequence, or is more than there are rows for: it is left out */

#ifdef __cplusplus
extern "C" {
#endif

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

typedef struct fkdai_checkpoints {      /* states inside the sequences; rows.element absent: none */
    void *state;                        /* written, like the final state of a call that ends there */
    fkdai_state_rows rows;
    int64_t count;                      /* states there is room for */
    fkdai_prefill_stops stops;
    fkdai_vector offsets;               /* [N][stops.per_sequence], tokens, <= 0: none; where stops.every is 0 */
} fkdai_checkpoints;

typedef struct fkdai_prefill_call {
    fkdai_tensor q, k, v, g;            /* bf16; 16-byte aligned data and strides */
    fkdai_tensor beta;                  /* bf16 or fp32, any strides */
    int is_beta_activated;              /* b = m beta, else m sigmoid(beta) */
    float beta_multiplier;              /* m */
    fkdai_vector A_log, dt_bias;        /* [HV], [HV,K]: BF16 or F32 */
    fkdai_vector cu_seqlens;            /* [N+1]: I32 or I64; absent: B sequences of T tokens */
    const void *initial_state;
    void *final_state, *out;            /* written; out bf16, 16-byte aligned data and strides */
    fkdai_state_rows initial_rows, final_rows;
    const uint8_t *initial_mask;        /* [N], optional; 0: the sequence starts from 0 */
    fkdai_checkpoints checkpoints;
    fkdai_strides out_stride;
    int64_t B, T, N, H, HV;             /* H heads of q and k; HV, a multiple of it, of all else */
    fkdai_gate gate;
    float scale, lower_bound;
    int is_raw;                         /* q and k are taken as they are, in solo alone; else L2 norm */
    fkdai_prefill_grid grid;            /* from fkdai_prefill_make_grid */
    void *workspace;                    /* fkdai_prefill_workspace_bytes, 256-byte aligned */
    uint32_t *device_status;            /* optional: gets FKDAI_*_BROKEN; of broken cu_seqlens, all that is written is NaN */
} fkdai_prefill_call;

/* Shared memory that one block needs. Pure. */
int fkdai_prefill_shared_bytes(void);

/* Loads the kernels on the current device and finds the driver's descriptor encoder; call once before a capture. */
int fkdai_prefill_load(void);

int fkdai_prefill_launch(const fkdai_prefill_call *call, void *stream);

#ifdef __cplusplus
}
#endif
#endif

/*
 * What the C11 host side may ask of the prefill kernel's device code.
 *
 * The launcher enqueues and returns: no allocation, no synchronisation, safe under stream capture. It returns a
 * cudaError_t as int (0: success). Sizes and strides count elements; every pointer is a device pointer.
 */
#ifndef FKDAI_PREFILL_LAUNCH_H
#define FKDAI_PREFILL_LAUNCH_H

#include <stdint.h>

#include "backend/forward_call.h"
#include "prefill_sm90/prefill_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

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
    const void *cu_seqlens_host;        /* a copy that the host may read, or null */
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

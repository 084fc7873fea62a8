/*
 * What the C11 host side may ask of the portable prefill kernel's device code.
 *
 * The launcher enqueues and returns: no allocation, no synchronisation, safe under stream capture. It returns a cudaError_t as int (0: success).
 * Sizes and strides count elements; every pointer is a device pointer.
 */
#ifndef FKDAI_PREFILL_MMA_LAUNCH_H
#define FKDAI_PREFILL_MMA_LAUNCH_H

#include "backend/forward_call.h"
#include "prefill_mma/prefill_mma_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct fkdai_mma_call {
    fkdai_tensor q, k, v, g;            /* bf16; 16-byte aligned data and strides. g: or fp32, if it is log a */
    fkdai_tensor beta;                  /* bf16 or fp32, any strides */
    int is_beta_activated;              /* b = m beta, else m sigmoid(beta) */
    float beta_multiplier;              /* m */
    fkdai_vector A_log, dt_bias;        /* [HV], [HV,K]: BF16 or F32 */
    fkdai_vector cu_seqlens;            /* [N+1]: I32 or I64; absent: B sequences of T tokens */
    fkdai_spans spans;
    const void *initial_state;
    void *final_state, *out;            /* written; out bf16, 16-byte aligned data and strides */
    fkdai_state_rows initial_rows, final_rows;
    const uint8_t *initial_mask;        /* [N], optional; 0: the sequence starts from 0 */
    void *checkpoint_state;             /* states inside the sequences; checkpoint_rows.element absent: none */
    fkdai_state_rows checkpoint_rows;
    int64_t checkpoint_count;           /* states there is room for */
    int64_t checkpoints_per_sequence, checkpoint_every;
    fkdai_vector checkpoint_offsets;    /* [N][checkpoints_per_sequence], tokens, <= 0: none; where checkpoint_every is 0 */
    fkdai_strides out_stride;
    int64_t B, T, N, H, HV, K, V;       /* H heads of q and k; HV, a multiple of it, of all else */
    fkdai_gate gate;
    float scale, lower_bound;
    int is_raw;                         /* q and k are taken as they are; else L2 norm */
    fkdai_mma_grid grid;                /* from fkdai_mma_make_grid */
    uint32_t *device_status;            /* optional: gets FKDAI_*_BROKEN; of broken cu_seqlens, all that is written is NaN */
} fkdai_mma_call;

/* Shared memory that one block needs. Pure. */
int fkdai_mma_shared_bytes(void);

/* Loads the kernel on the current device; call once before a capture. */
int fkdai_mma_load(void);

int fkdai_mma_launch(const fkdai_mma_call *call, void *stream);

#ifdef __cplusplus
}
#endif
#endif

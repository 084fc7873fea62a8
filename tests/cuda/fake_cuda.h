/* A CUDA runtime of the calls that the backend uses: it records them, and can fail the n-th. */
#ifndef FAKE_CUDA_H
#define FAKE_CUDA_H

#include <cuda_runtime_api.h>

#include "cuda_copy.h"
#include "decode/decode_launch.h"
#include "decode_fused/decode_fused_launch.h"
#include "prefill_mma/prefill_mma_launch.h"
#include "prefill_sm90/prefill_launch.h"
#include "span_call.h"

enum { FAKE_LOG = 64 };

typedef struct fake_cuda {
    int device_count, driver, major, minor, multiprocessors;
    int current;               /* device */
    cudaError_t prior;         /* what cudaPeekAtLastError says */
    int is_capturing;
    int place;                 /* device that every pointer is on */
    int calls, fail_at;        /* fail_at: 1 fails the first call, 0 none */
    int launches, loads, synchronisations;
    const char *log[FAKE_LOG]; /* names of the calls, in order */
    int logged;
    fkdai_prefill_call last;   /* of the last launch */
    fkdai_mma_call last_mma;
    fkdai_copies in, out;      /* of the last copies */
    fkdai_span_setup setup;    /* of the last call in spans */
    fkdai_span_carry carry;
    fkdai_spans spans[4];      /* of its launches, in order */
    int span_launches;
    fkdai_decode_call last_decode;
    fkdai_fused_call last_decode_fused;
    const void *cu_seqlens;    /* host array that copies read */
} fake_cuda;

extern fake_cuda fake;

#endif

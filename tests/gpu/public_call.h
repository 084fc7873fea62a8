/* One problem on the device for programs that use the public API alone: packed, bf16, fp32 states, inputs of a cheap generator. */
#ifndef FKDA_TEST_PUBLIC_CALL_H
#define FKDA_TEST_PUBLIC_CALL_H

#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "flashkda.h"

#define MUST_CUDA(call)                                                                              \
    do {                                                                                             \
        const cudaError_t must_error = (call);                                                       \
        if (must_error != cudaSuccess) {                                                             \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(must_error));    \
            exit(2);                                                                                 \
        }                                                                                            \
    } while (0)

#define MUST_FKDA(call)                                                                              \
    do {                                                                                             \
        if ((call) != FKDA_OK) {                                                                     \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, fkda_last_error());                 \
            exit(2);                                                                                 \
        }                                                                                            \
    } while (0)

typedef struct public_call {
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    int64_t *bounds;               /* device, [N+1] */
    void *inputs[5];               /* device: q k v g beta */
    size_t input_bytes[5], out_bytes, state_bytes, workspace_bytes;
    void *workspace;
} public_call;

/* bf16 numbers of about unit size; the same for the same seed. */
static void fill_input(const public_call *c, int input, uint32_t seed)
{
    const size_t count = c->input_bytes[input] / 2;
    uint16_t *const host = malloc(c->input_bytes[input]);
    if (host == NULL) exit(2);
    uint32_t x = seed * 2654435761u + 12345u + (uint32_t)input;
    for (size_t i = 0; i < count; ++i) {
        x ^= x << 13, x ^= x >> 17, x ^= x << 5;
        host[i] = (uint16_t)((x & 0x8000u) | (0x3e00u + (x >> 16) % 0x1c0u));
    }
    MUST_CUDA(cudaMemcpy(c->inputs[input], host, c->input_bytes[input], cudaMemcpyHostToDevice));
    free(host);
}

/* N sequences, equal but for the first two, which share 2*(T/N) tokens as 1 : rest when `uneven`. */
static void set_bounds(const public_call *c, int uneven)
{
    const int64_t N = c->desc.N, each = c->desc.T / N;
    int64_t *const host = malloc((size_t)(N + 1) * sizeof *host);
    if (host == NULL) exit(2);
    for (int64_t n = 0; n <= N; ++n) host[n] = n == N ? c->desc.T : n * each;
    if (uneven && N > 1) host[1] = 1;
    MUST_CUDA(cudaMemcpy(c->bounds, host, (size_t)(N + 1) * sizeof *host, cudaMemcpyHostToDevice));
    free(host);
}

/* Allocates; the inputs are of seed 1, the bounds even. */
static inline public_call make_public_call(int64_t N, int64_t T, int64_t H)
{
    public_call c = {.desc = {.struct_size = sizeof c.desc, .backend = FKDA_BACKEND_CUDA, .memory = FKDA_MEMORY_CUDA, .B = 1, .T = T, .N = N, .H = H,
                              .K = 128, .V = 128, .cu_seqlens = FKDA_I64, .lower_bound = -5.0f, .scale = 0.08838835f,
                              .initial_state = {.dtype = FKDA_F32}, .final_state = {.dtype = FKDA_F32}}};
    c.out_bytes = (size_t)(T * H) * 256, c.state_bytes = (size_t)(N * H) * 65536;
    for (int i = 0; i < 5; ++i) {
        c.input_bytes[i] = i < 4 ? c.out_bytes : (size_t)(T * H) * 2;
        MUST_CUDA(cudaMalloc(&c.inputs[i], c.input_bytes[i]));
        fill_input(&c, i, 1);
    }
    void *initial, *bounds;
    c.args = (fkda_fwd_args){.struct_size = sizeof c.args, .q = c.inputs[0], .k = c.inputs[1], .v = c.inputs[2], .g = c.inputs[3],
                             .beta = c.inputs[4]};
    MUST_CUDA(cudaMalloc(&c.args.out, c.out_bytes));
    MUST_CUDA(cudaMalloc(&c.args.final_state, c.state_bytes));
    MUST_CUDA(cudaMalloc(&initial, c.state_bytes));
    MUST_CUDA(cudaMemset(initial, 0, c.state_bytes));
    MUST_CUDA(cudaMalloc(&bounds, (size_t)(N + 1) * sizeof(int64_t)));
    c.args.initial_state = initial, c.args.cu_seqlens = c.bounds = bounds;
    set_bounds(&c, 0);
    MUST_FKDA(fkda_fwd_workspace_size(&c.desc, &c.workspace_bytes));
    if (c.workspace_bytes > 0) MUST_CUDA(cudaMalloc(&c.workspace, c.workspace_bytes));
    return c;
}

/* 0, or 77 after a line that says why the kernels cannot run here. */
static int skip_without_gpu(const char *program)
{
    char why[256] = "";
    if (fkda_backend_status(FKDA_BACKEND_CUDA, why, sizeof why) == FKDA_OK) return 0;
    printf("%s: no GPU, skipped (%s)\n", program, why);
    return 77;
}

#endif

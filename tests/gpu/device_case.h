/* A case on the device: laid out on the host with guards and NaN gaps (case_run.h), mirrored to the device byte for byte, run through the public API,
 * mirrored back, gathered. */
#ifndef FKDA_TEST_DEVICE_CASE_H
#define FKDA_TEST_DEVICE_CASE_H

#include "harness.h"

#include <cuda_runtime_api.h>

#include "case_run.h"

#define MUST(call)                                                                          \
    do {                                                                                    \
        const cudaError_t must_error = (call);                                              \
        if (must_error != cudaSuccess) fail_msg("%s: %s", #call, cudaGetErrorString(must_error)); \
    } while (0)

enum { PITCH = 256 };    /* device copies keep the alignment that a caller's tensors have */

typedef struct device_run {
    uint8_t poison;
    int is_shifted;                   /* tensors and states begin one element behind an aligned address, and the desc says so (of fwd) */
    const int64_t *bounds, *slots;    /* in place of the case's cu_seqlens and final_slots, which are int64 then */
    uint32_t status;                  /* afterwards: bits of device_status */
} device_run;

static inline void *on_device(const void *host, size_t bytes)
{
    void *device = NULL;
    MUST(cudaMalloc(&device, bytes + PITCH));
    MUST(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    return device;
}

/* Bytes by which tensors and states lie behind an aligned address. */
static inline size_t shift_of(const case_image *m, int buffer)
{
    const int is_wide = buffer == IMAGE_INITIAL ? m->desc.initial_state.dtype == FKDA_F32 : buffer == IMAGE_FINAL ? m->desc.final_state.dtype == FKDA_F32
                        : buffer == IMAGE_CHECKPOINTS && m->desc.checkpoints.dtype == FKDA_F32;
    const int is_moved = (buffer < IMAGE_TENSORS && buffer != IMAGE_BETA) || buffer == IMAGE_INITIAL || buffer == IMAGE_FINAL || buffer == IMAGE_CHECKPOINTS;
    return is_wide ? 4 : is_moved ? 2 : 0;
}

/* Copies every buffer of the image to the device, at[] behind device[] where the case is shifted. */
static inline void to_device(const case_image *m, int is_shifted, void **device, void **at)
{
    for (int b = 0; b < IMAGE_BUFFERS; ++b) {
        device[b] = at[b] = NULL;
        if (b == IMAGE_WORKSPACE || m->buffer[b].data == NULL) continue;
        MUST(cudaMalloc(&device[b], m->buffer[b].bytes + PITCH));
        at[b] = (char *)device[b] + (is_shifted ? shift_of(m, b) : 0);
        MUST(cudaMemcpy(at[b], m->buffer[b].data, m->buffer[b].bytes, cudaMemcpyHostToDevice));
    }
}

static inline case_result run_case_on_device(const case_spec *s, const input_values *x, device_run *how)
{
    const run_setup setup = {FKDA_BACKEND_CUDA, 1, how->poison, GUARD_AT_END};
    case_image m = image_build(s, x, &setup);
    void *device[IMAGE_BUFFERS], *at[IMAGE_BUFFERS], *workspace = NULL, *bounds = NULL, *slots = NULL;
    size_t bytes = 0;
    how->status = 0;
    m.desc.memory = FKDA_MEMORY_CUDA;
    if (how->is_shifted) m.desc.unaligned = UINT32_C(0xffff);
    to_device(&m, how->is_shifted, device, at);
    fkda_fwd_args args = image_args(s, at);
    args.device_status = on_device(&how->status, sizeof how->status);
    if (how->bounds != NULL) args.cu_seqlens = bounds = on_device(how->bounds, (size_t)(s->N + 1) * sizeof *how->bounds);
    if (how->slots != NULL) args.final_slots = slots = on_device(how->slots, (size_t)s->N * sizeof *how->slots);
    fkda_status status = image_workspace_size(&m, &bytes);
    if (status == FKDA_OK) {
        MUST(cudaMalloc(&workspace, bytes + PITCH));
        MUST(cudaMemset(workspace, how->poison, bytes + PITCH));
        status = image_call(&m, &args, bytes > 0 ? workspace : NULL, bytes);
    }
    if (status != FKDA_OK && status != FKDA_ERR_UNSUPPORTED) fail_msg("%s: %s", s->name, fkda_last_error());
    MUST(cudaDeviceSynchronize());
    for (int b = 0; b < IMAGE_WORKSPACE; ++b)
        if (image_is_output(b) && m.buffer[b].data != NULL) MUST(cudaMemcpy(m.buffer[b].data, at[b], m.buffer[b].bytes, cudaMemcpyDeviceToHost));
    MUST(cudaMemcpy(&how->status, args.device_status, sizeof how->status, cudaMemcpyDeviceToHost));
    for (int b = 0; b < IMAGE_WORKSPACE; ++b) MUST(cudaFree(device[b]));
    MUST(cudaFree(workspace));
    MUST(cudaFree(bounds));
    MUST(cudaFree(slots));
    MUST(cudaFree(args.device_status));
    image_check_untouched(&m);
    const case_result result = image_gather(&m, status);
    image_free(&m);
    return result;
}

static inline case_result run_on_device(const case_spec *s, const input_values *x, uint8_t poison)
{
    device_run how = {.poison = poison};
    return run_case_on_device(s, x, &how);
}

#endif

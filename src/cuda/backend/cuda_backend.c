/*
 * The CUDA backend: checks that need the device, and the call of the kernel that the plan chose.
 *
 * A call that this thread has made before asks the runtime for two things, cudaPeekAtLastError and cudaGetDevice, and launches: the plan
 * kernel if there is one, and the prefill kernel, or the decode kernel. Tensors that lie so that no kernel takes them cost a launch before
 * and one behind it (cuda_copies.h). New memory costs a cudaPointerGetAttributes each for q,
 * out, final_state and device_status, new tensors an encoded map each for q, k, v, g and, where a block may work alone, out; another current
 * device costs two cudaSetDevice. tests/cuda holds this.
 */
#include <cuda_runtime_api.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_copies.h"
#include "cuda_copy.h"
#include "cuda_places.h"
#include "sequences.h"
#include "span_call.h"
#include "status.h"

static atomic_int loaded[FKDAI_CUDA_MAX_DEVICES];    /* the kernels are on this device */

/* On the current device. Several threads may do it at once. */
static fkda_status load_kernels(int device)
{
    if (atomic_load_explicit(&loaded[device], memory_order_acquire)) return FKDA_OK;
    for (const fkdai_cuda_kernel *const *k = fkdai_cuda_kernels; *k != NULL; ++k) {
        const int error = (*k)->runs_on(&fkdai_cuda_the_machine()->devices[device]) ? (*k)->load() : cudaSuccess;
        if (error != cudaSuccess) return fkdai_cuda_fail((*k)->name, error);
    }
    const int error = fkdai_copy_load();
    if (error != cudaSuccess) return fkdai_cuda_fail("strided_copy", error);
    const int span_error = fkdai_span_load();
    if (span_error != cudaSuccess) return fkdai_cuda_fail("spans", span_error);
    atomic_store_explicit(&loaded[device], 1, memory_order_release);
    return FKDA_OK;
}

/* The kernels of the current device are loaded here, so that a capture may follow. */
static fkda_status present(char *text, size_t size)
{
    const fkdai_cuda_machine *const m = fkdai_cuda_the_machine();
    int some = 0, current = -1;
    for (int i = 0; i < m->device_count; ++i) some = some || fkdai_cuda_has_kernel(m, i);
    if (size > 0) snprintf(text, size, "%s", m->reason);
    if (m->status != FKDA_OK) return m->status;
    if (!some) return FKDA_ERR_ARCH;
    if (cudaGetDevice(&current) != cudaSuccess || !fkdai_cuda_has_kernel(m, current)) return FKDA_OK;
    const fkda_status status = load_kernels(current);
    if (status != FKDA_OK && size > 0) snprintf(text, size, "%s", fkda_last_error());
    return status;
}

/* Tensors in host memory are refused without waking the driver: a process that woke it cannot fork() children that use the GPU. */
static const fkdai_cuda_machine *machine_for(const fkdai_plan *plan)
{
    static const fkdai_cuda_machine nothing_known = {.status = FKDA_OK};
    return plan->desc.head.memory == FKDA_MEMORY_CUDA ? fkdai_cuda_the_machine() : &nothing_known;
}

static fkda_status plan_any(fkdai_plan *plan) { return fkdai_cuda_plan(machine_for(plan), plan); }

static fkda_status suit_any(fkdai_plan *plan, const void *args, uint32_t *copies) { return fkdai_cuda_suit(machine_for(plan), plan, args, copies); }

/* ---------------------------------------------------------------- one run */

/* FKDA_FLAG_CHECK_SEQLENS: blocks. */
static fkda_status check_seqlens(const fkda_fwd_desc *d, const fkda_fwd_args *a, cudaStream_t stream)
{
    enum cudaStreamCaptureStatus capture;
    if (d->cu_seqlens == FKDA_NONE || !(d->flags & FKDA_FLAG_CHECK_SEQLENS)) return FKDA_OK;
    TRY_CUDA(cudaStreamIsCapturing(stream, &capture));
    REQUIRE(capture == cudaStreamCaptureStatusNone, FKDA_ERR_CAPTURE, "FKDA_FLAG_CHECK_SEQLENS waits for the stream, which is being captured");
    const size_t bytes = (size_t)(d->N + 1) * (d->cu_seqlens == FKDA_I64 ? 8 : 4);
    void *const copy = malloc(bytes);
    REQUIRE(copy != NULL, FKDA_ERR_NO_MEMORY, "%zu bytes for a copy of cu_seqlens", bytes);
    cudaError_t error = cudaMemcpyAsync(copy, a->cu_seqlens, bytes, cudaMemcpyDeviceToHost, stream);
    if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
    const fkda_status status = error == cudaSuccess ? fkdai_check_cu_seqlens(d, copy, "") : fkdai_cuda_fail("copy of cu_seqlens", error);
    free(copy);
    return status;
}

/* Where the first argument and everything that is written lie. */
static fkda_status check_places(const fkdai_operation *operation, const void *args, int device)
{
    for (int i = 0; i < operation->argument_count; ++i) {
        const fkdai_argument *const argument = &operation->arguments[i];
        if (i == 0 || argument->access == FKDAI_WRITE) TRY(fkdai_cuda_check_place(argument->name, fkdai_pointer(operation, args, i), device));
    }
    return FKDA_OK;
}

/* With desc.device current. */
static fkda_status run_here(const fkdai_plan *plan, const fkdai_cuda_own *own, uint32_t copies, const void *args, void *workspace,
                            cudaStream_t stream)
{
    const int device = plan->desc.head.device;
    TRY(load_kernels(device));
    TRY(check_places(plan->operation, args, device));
    if (plan->operation->id == FKDAI_OP_FWD) TRY(check_seqlens(&plan->desc.fwd, args, stream));
    return fkdai_cuda_run(plan, own, copies, args, workspace, stream);
}

static fkda_status run_any(const fkdai_plan *plan, const void *args, void *workspace, fkda_stream stream)
{
    const int device = plan->desc.head.device;
    int current = -1;
    uint32_t copies;
    fkdai_cuda_own own;
    memcpy(&own, plan->own, sizeof own);
    TRY(fkdai_cuda_choose_copies(plan, &own, args, workspace, &copies));
    const cudaError_t prior = cudaPeekAtLastError();    /* left as it is: it belongs to whoever caused it */
    REQUIRE(prior == cudaSuccess, FKDA_ERR_CUDA_PRIOR, "before this call: %s (%s)", cudaGetErrorString(prior), cudaGetErrorName(prior));
    TRY_CUDA(cudaGetDevice(&current));
    if (current == device) return run_here(plan, &own, copies, args, workspace, stream);
    TRY_CUDA(cudaSetDevice(device));
    const fkda_status status = run_here(plan, &own, copies, args, workspace, stream);
    const cudaError_t back = cudaSetDevice(current);
    if (status == FKDA_OK && back != cudaSuccess) return fkdai_cuda_fail("cudaSetDevice", back);
    return status;
}

/* The same functions for every operation that a kernel does. */
const fkdai_backend fkdai_cuda = {
    .present = present,
    .offers = {[FKDAI_OP_FWD] = {plan_any, run_any, suit_any}, [FKDAI_OP_DECODE] = {plan_any, run_any, NULL},
               [FKDAI_OP_DECODE_FUSED] = {plan_any, run_any, NULL}},
    .has_fixed_plans = 1,
};

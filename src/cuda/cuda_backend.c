/*
 * The CUDA backend: device query, checks that need the device, order of launches. No <<<>>> here.
 *
 * A call that this thread has made before asks the runtime for two things, cudaPeekAtLastError and cudaGetDevice, and launches: the plan
 * kernel if there is one, and the prefill kernel, or both where the device chooses. New memory costs a cudaPointerGetAttributes each for q,
 * out, final_state and device_status, new tensors an encoded map each for q, k, v, g and, where a block may work alone, out; another current device costs two cudaSetDevice. tests/cuda holds this.
 */
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_launch.h"
#include "cuda_plan.h"
#include "sequences.h"
#include "status.h"

_Static_assert(FKDAI_SEQLENS_BROKEN == FKDA_DEVICE_SEQLENS_BROKEN, "one bit, two names");

static fkdai_cuda_machine machine;
static pthread_once_t machine_once = PTHREAD_ONCE_INIT;
static atomic_int loaded[FKDAI_CUDA_MAX_DEVICES];    /* the kernels are on this device */

static fkda_status fail_cuda(const char *call, cudaError_t error)
{
    return fkdai_fail(FKDA_ERR_CUDA, "%s: %s (%s)", call, cudaGetErrorString(error), cudaGetErrorName(error));
}

#define TRY_CUDA(call)                                                    \
    do {                                                                  \
        const cudaError_t try_error = (call);                             \
        if (try_error != cudaSuccess) return fail_cuda(#call, try_error); \
    } while (0)

/* ---------------------------------------------------------------- the machine */

static void turn_off(fkda_status status, const char *why)
{
    machine.status = status;
    snprintf(machine.reason, sizeof machine.reason, "no usable GPU: %s", why);
}

static cudaError_t query_device(int device)
{
    fkdai_cuda_device *const to = &machine.devices[device];
    const struct { int *value; enum cudaDeviceAttr what; } wanted[] = {
        {&to->major, cudaDevAttrComputeCapabilityMajor},
        {&to->minor, cudaDevAttrComputeCapabilityMinor},
        {&to->multiprocessors, cudaDevAttrMultiProcessorCount},
        {&to->shared_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; ++i) {
        const cudaError_t error = cudaDeviceGetAttribute(wanted[i].value, wanted[i].what, device);
        if (error != cudaSuccess) return error;
    }
    snprintf(to->name, sizeof to->name, "compute capability %d.%d, %d SMs", to->major, to->minor, to->multiprocessors);
    return cudaSuccess;
}

/* Creates no context. An error of this query is an answer, so it is taken back from the runtime. */
static void query_machine(void)
{
    int count = 0, driver = 0;
    cudaError_t error = cudaDriverGetVersion(&driver);
    if (error == cudaSuccess && driver == 0) {
        turn_off(FKDA_ERR_NO_DEVICE, "no CUDA driver is installed");
        return;
    }
    if (error == cudaSuccess) error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
    machine.device_count = count < FKDAI_CUDA_MAX_DEVICES ? count : FKDAI_CUDA_MAX_DEVICES;
    for (int i = 0; error == cudaSuccess && i < machine.device_count; ++i) error = query_device(i);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        machine.device_count = 0;
        turn_off(error == cudaErrorInsufficientDriver ? FKDA_ERR_DRIVER : error == cudaErrorNoDevice ? FKDA_ERR_NO_DEVICE : FKDA_ERR_CUDA,
                 cudaGetErrorString(error));
        return;
    }
    snprintf(machine.reason, sizeof machine.reason, "%d device%s, the first: %s; kernels for sm_90", machine.device_count,
             machine.device_count == 1 ? "" : "s", machine.devices[0].name);
}

static const fkdai_cuda_machine *the_machine(void)
{
    (void)pthread_once(&machine_once, query_machine);
    return &machine;
}

static int has_kernels(const fkdai_cuda_machine *m, int device)
{
    return device >= 0 && device < m->device_count && m->devices[device].major == 9 && m->devices[device].minor == 0;
}

/* On the current device. Several threads may do it at once. */
static fkda_status load_kernels(int device)
{
    if (atomic_load_explicit(&loaded[device], memory_order_acquire)) return FKDA_OK;
    TRY_CUDA((cudaError_t)fkdai_prefill_load());
    atomic_store_explicit(&loaded[device], 1, memory_order_release);
    return FKDA_OK;
}

/* The kernels of the current device are loaded here, so that a capture may follow. */
static fkda_status present(char *text, size_t size)
{
    const fkdai_cuda_machine *const m = the_machine();
    int some = 0, current = -1;
    for (int i = 0; i < m->device_count; ++i) some = some || has_kernels(m, i);
    if (size > 0) snprintf(text, size, "%s", m->reason);
    if (m->status != FKDA_OK) return m->status;
    if (!some) return FKDA_ERR_ARCH;
    if (cudaGetDevice(&current) != cudaSuccess || !has_kernels(m, current)) return FKDA_OK;
    const fkda_status status = load_kernels(current);
    if (status != FKDA_OK && size > 0) snprintf(text, size, "%s", fkda_last_error());
    return status;
}

/* Tensors in host memory are refused without waking the driver: a process that woke it cannot fork() children that use the GPU. */
static fkda_status plan(fkdai_plan *plan)
{
    const int is_ours = plan->desc.memory == FKDA_MEMORY_CUDA;
    return fkdai_cuda_plan(is_ours ? the_machine() : &machine, plan);
}

/* ---------------------------------------------------------------- one run */

static fkda_status check_address(const char *name, const void *data, unsigned bytes)
{
    REQUIRE((uintptr_t)data % bytes == 0, FKDA_ERR_MISALIGNED, "args.%s = %p is not aligned to the %u bytes that are moved at once", name, data,
            bytes);
    return FKDA_OK;
}

static fkda_status check_addresses(const fkda_fwd_desc *d, const fkda_fwd_args *a)
{
    TRY(check_address("q", a->q, 16));
    TRY(check_address("k", a->k, 16));
    TRY(check_address("v", a->v, 16));
    TRY(check_address("g", a->g, 16));
    TRY(check_address("out", a->out, 16));
    TRY(check_address("initial_state", a->initial_state, d->initial_state.dtype == FKDA_F32 ? 8 : 4));
    TRY(check_address("final_state", a->final_state, d->final_state.dtype == FKDA_F32 ? 8 : 4));
    return FKDA_OK;
}

/* Addresses that this thread has found on a device before: asking the driver again and again where the same tensors lie is a large part
 * of a call's host time. An address that has since been freed is not noticed here, as it would not be by the driver either if other
 * memory had taken its place. */
typedef struct known_place {
    const void *data;
    int device;
} known_place;
enum { KNOWN_PLACE_BITS = 6 };
static _Thread_local known_place known_places[1 << KNOWN_PLACE_BITS];

static known_place *place_slot(const void *data)
{
    return &known_places[(uint64_t)(uintptr_t)data * UINT64_C(0x9e3779b97f4a7c15) >> (64 - KNOWN_PLACE_BITS)];
}

static fkda_status check_place(const char *name, const void *data, int device)
{
    struct cudaPointerAttributes where;
    known_place *const known = place_slot(data);
    if (data == NULL || (known->data == data && known->device == device)) return FKDA_OK;
    TRY_CUDA(cudaPointerGetAttributes(&where, data));
    REQUIRE(where.type == cudaMemoryTypeDevice || where.type == cudaMemoryTypeManaged, FKDA_ERR_DEVICE_MISMATCH,
            "args.%s = %p is not CUDA device memory", name, data);
    REQUIRE(where.type == cudaMemoryTypeManaged || where.device == device, FKDA_ERR_DEVICE_MISMATCH,
            "args.%s = %p is on device %d, but desc.device = %d", name, data, where.device, device);
    *known = (known_place){data, device};
    return FKDA_OK;
}

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
    const fkda_status status = error == cudaSuccess ? fkdai_check_cu_seqlens(d, copy, "") : fail_cuda("copy of cu_seqlens", error);
    free(copy);
    return status;
}

static fkdai_element element(fkda_dtype dtype)
{
    switch (dtype) {
    case FKDA_BF16: return FKDAI_BF16;
    case FKDA_F32: return FKDAI_F32;
    case FKDA_I32: return FKDAI_I32;
    case FKDA_I64: return FKDAI_I64;
    case FKDA_NONE: case FKDA_F16: break;
    }
    return FKDAI_ABSENT;
}

/* The stride along a dimension of size 1 is the caller's leftover; the copy engine still wants a valid one. */
static fkdai_strides strides(const fkda_fwd_desc *d, const fkda_tensor_desc *t)
{
    return (fkdai_strides){d->B > 1 ? t->batch_stride : d->K, d->T > 1 ? t->token_stride : d->K, d->H > 1 ? t->head_stride : d->K};
}

static fkdai_prefill_call make_call(const fkdai_plan *plan, const fkda_fwd_args *a, void *workspace)
{
    const fkda_fwd_desc *const d = &plan->desc;
    fkdai_cuda_own own;
    memcpy(&own, plan->own, sizeof own);
    return (fkdai_prefill_call){
        .q = {a->q, strides(d, &d->q)}, .k = {a->k, strides(d, &d->k)}, .v = {a->v, strides(d, &d->v)}, .g = {a->g, strides(d, &d->g)},
        .beta = {a->beta, strides(d, &d->beta)}, .out = a->out, .out_stride = strides(d, &d->out),
        .A_log = {a->A_log, element(d->A_log)}, .dt_bias = {a->dt_bias, element(d->dt_bias)},
        .cu_seqlens = {a->cu_seqlens, element(d->cu_seqlens)},
        .initial_state = a->initial_state, .initial_rows = {d->initial_state.row_stride, element(d->initial_state.dtype)},
        .final_state = a->final_state, .final_rows = {d->final_state.row_stride, element(d->final_state.dtype)},
        .B = d->B, .T = d->T, .N = d->N, .H = d->H, .scale = d->scale, .lower_bound = d->lower_bound,
        .grid = own.grid, .workspace = workspace, .device_status = a->device_status,
    };
}

/* With desc.device current. */
static fkda_status run_here(const fkdai_plan *plan, const fkda_fwd_args *args, void *workspace, cudaStream_t stream)
{
    const fkda_fwd_desc *const d = &plan->desc;
    TRY(load_kernels(d->device));
    TRY(check_place("q", args->q, d->device));
    TRY(check_place("out", args->out, d->device));
    TRY(check_place("final_state", args->final_state, d->device));
    TRY(check_place("device_status", args->device_status, d->device));
    TRY(check_seqlens(d, args, stream));
    const fkdai_prefill_call call = make_call(plan, args, workspace);
    TRY_CUDA((cudaError_t)fkdai_prefill_launch(&call, stream));
    return FKDA_OK;
}

static fkda_status run(const fkdai_plan *plan, const fkda_fwd_args *args, void *workspace, fkda_stream stream)
{
    const int device = plan->desc.device;
    int current = -1;
    TRY(check_addresses(&plan->desc, args));
    const cudaError_t prior = cudaPeekAtLastError();    /* left as it is: it belongs to whoever caused it */
    REQUIRE(prior == cudaSuccess, FKDA_ERR_CUDA_PRIOR, "before this call: %s (%s)", cudaGetErrorString(prior), cudaGetErrorName(prior));
    TRY_CUDA(cudaGetDevice(&current));
    if (current == device) return run_here(plan, args, workspace, stream);
    TRY_CUDA(cudaSetDevice(device));
    const fkda_status status = run_here(plan, args, workspace, stream);
    const cudaError_t back = cudaSetDevice(current);
    if (status == FKDA_OK && back != cudaSuccess) return fail_cuda("cudaSetDevice", back);
    return status;
}

const fkdai_backend fkdai_cuda = {FKDA_BACKEND_CUDA, "cuda", present, plan, run};

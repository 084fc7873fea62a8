#include "fake_cuda.h"

#include <string.h>

#include "backend.h"

fake_cuda fake;

const fkdai_backend_entry fkdai_backends[] = {{FKDA_BACKEND_CUDA, "cuda", &fkdai_cuda}, {FKDA_BACKEND_AUTO, "auto", NULL}};

static void note(const char *call)
{
    if (fake.logged < FAKE_LOG) fake.log[fake.logged++] = call;
}

static cudaError_t answer(const char *call)
{
    note(call);
    return ++fake.calls == fake.fail_at ? cudaErrorUnknown : cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error) { return error == cudaSuccess ? "no error" : "a fake error"; }
const char *cudaGetErrorName(cudaError_t error) { return error == cudaSuccess ? "cudaSuccess" : "cudaErrorFake"; }

cudaError_t cudaPeekAtLastError(void)
{
    note(__func__);
    return fake.prior;
}

cudaError_t cudaGetLastError(void) { return fake.prior; }

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = fake.driver;
    return answer(__func__);
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = fake.device_count;
    return answer(__func__);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int device)
{
    (void)device;
    *value = what == cudaDevAttrComputeCapabilityMajor   ? fake.major
             : what == cudaDevAttrComputeCapabilityMinor ? fake.minor
             : what == cudaDevAttrMultiProcessorCount    ? fake.multiprocessors
                                                         : 232448;
    return answer(__func__);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = fake.current;
    return answer(__func__);
}

cudaError_t cudaSetDevice(int device)
{
    const cudaError_t error = answer(__func__);
    if (error == cudaSuccess) fake.current = device;
    return error;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *where, const void *pointer)
{
    memset(where, 0, sizeof *where);
    where->type = pointer == NULL ? cudaMemoryTypeUnregistered : cudaMemoryTypeDevice;
    where->device = fake.place;
    return answer(__func__);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    (void)stream;
    *status = fake.is_capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return answer(__func__);
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)from, (void)kind, (void)stream;
    memcpy(to, fake.cu_seqlens, bytes);
    return answer(__func__);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    fake.synchronisations++;
    return answer(__func__);
}

/* The launchers, as prefill_launch.h, cuda_copy.h and span_call.h promise them. */
int fkdai_copy_load(void) { return answer(__func__); }
int fkdai_span_load(void) { return answer(__func__); }

int fkdai_span_set_up(const fkdai_span_setup *setup, void *stream)
{
    (void)stream;
    fake.setup = *setup;
    return answer(__func__);
}

int fkdai_span_carry_states(const fkdai_span_carry *carry, void *stream)
{
    (void)stream;
    fake.carry = *carry;
    return answer(__func__);
}

static int copy(const char *call, const fkdai_copies *copies, fkdai_copies *to)
{
    const cudaError_t error = answer(call);
    if (error == cudaSuccess) *to = *copies;
    return error;
}

int fkdai_copy_in(const fkdai_copies *copies, void *stream) { return (void)stream, copy(__func__, copies, &fake.in); }
int fkdai_copy_out(const fkdai_copies *copies, void *stream) { return (void)stream, copy(__func__, copies, &fake.out); }

int fkdai_prefill_shared_bytes(void) { return 220000; }

int fkdai_prefill_load(void)
{
    fake.loads++;
    return answer(__func__);
}

int fkdai_prefill_launch(const fkdai_prefill_call *call, void *stream)
{
    (void)stream;
    const cudaError_t error = answer(__func__);
    if (error == cudaSuccess) fake.last = *call, fake.launches++;
    return error;
}

/* The same of prefill_mma. */
int fkdai_mma_shared_bytes(void) { return FKDAI_MMA_SHARED_BYTES; }

int fkdai_mma_load(void)
{
    fake.loads++;
    return answer(__func__);
}

int fkdai_mma_launch(const fkdai_mma_call *call, void *stream)
{
    (void)stream;
    const cudaError_t error = answer(__func__);
    if (error == cudaSuccess) fake.last_mma = *call, fake.launches++;
    if (error == cudaSuccess && fake.span_launches < 4) fake.spans[fake.span_launches++] = call->spans;
    return error;
}

/* The launcher of decode, as decode_launch.h promises it. */
int fkdai_decode_load(void)
{
    fake.loads++;
    return answer(__func__);
}

int fkdai_decode_launch(const fkdai_decode_call *call, void *stream)
{
    (void)stream;
    const cudaError_t error = answer(__func__);
    if (error == cudaSuccess) fake.last_decode = *call, fake.launches++;
    return error;
}

/* The same of decode_fused. */
int fkdai_decode_fused_load(void)
{
    fake.loads++;
    return answer(__func__);
}

int fkdai_decode_fused_launch(const fkdai_fused_call *call, void *stream)
{
    (void)stream;
    const cudaError_t error = answer(__func__);
    if (error == cudaSuccess) fake.last_decode_fused = *call, fake.launches++;
    return error;
}

/* Device query. */
#include "cuda_device.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>

#include "cuda_plan.h"
#include "status.h"

static fkdai_cuda_machine machine;
static pthread_once_t machine_once = PTHREAD_ONCE_INIT;

fkda_status fkdai_cuda_fail(const char *call, int error)
{
    return fkdai_fail(FKDA_ERR_CUDA, "%s: %s (%s)", call, cudaGetErrorString((cudaError_t)error), cudaGetErrorName((cudaError_t)error));
}

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
    char architectures[64];
    fkdai_cuda_architectures(NULL, architectures, sizeof architectures);
    snprintf(machine.reason, sizeof machine.reason, "%d device%s, the first: %s; kernels: %s", machine.device_count,
             machine.device_count == 1 ? "" : "s", machine.devices[0].name, architectures);
}

const fkdai_cuda_machine *fkdai_cuda_the_machine(void)
{
    (void)pthread_once(&machine_once, query_machine);
    return &machine;
}

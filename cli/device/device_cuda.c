/* The CUDA runtime, for the command line. It is linked statically; libcuda and libnvidia-ml are looked for when they are needed. */
#include "device.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "text.h"

#define TRY_CUDA(call)                                                                                                        \
    do {                                                                                                                      \
        const cudaError_t try_error = (call);                                                                                 \
        if (try_error != cudaSuccess)                                                                                         \
            return failure(FKDA_ERR_CUDA, "%s: %s (%s)", #call, cudaGetErrorString(try_error), cudaGetErrorName(try_error)); \
    } while (0)

/* ---------------------------------------------------------------- memory */

fkda_status device_alloc(size_t bytes, void **data)
{
    char needed[TEXT_NUMBER_BYTES], there[TEXT_NUMBER_BYTES];
    size_t left;
    *data = NULL;
    TRY_CUDA(cudaSetDevice(DEVICE_ORDINAL));
    const cudaError_t error = cudaMalloc(data, bytes);
    if (error != cudaErrorMemoryAllocation) {
        TRY_CUDA(error);
        return FKDA_OK;
    }
    (void)cudaGetLastError();    /* answered here: the next call shall not find it */
    TRY(device_left(&left));
    return failure(FKDA_ERR_NO_MEMORY, "out of GPU memory: %s more are needed, %s are free", text_bytes((double)bytes, needed),
                   text_bytes((double)left, there));
}

void device_free(void *data) { (void)cudaFree(data); }

fkda_status device_left(size_t *bytes)
{
    size_t all;
    TRY_CUDA(cudaSetDevice(DEVICE_ORDINAL));
    TRY_CUDA(cudaMemGetInfo(bytes, &all));
    return FKDA_OK;
}

fkda_status device_read(void *to_host, const void *from_device, size_t bytes)
{
    TRY_CUDA(cudaMemcpy(to_host, from_device, bytes, cudaMemcpyDeviceToHost));
    return FKDA_OK;
}

fkda_status device_write(void *to_device, const void *from_host, size_t bytes)
{
    TRY_CUDA(cudaMemcpy(to_device, from_host, bytes, cudaMemcpyHostToDevice));
    return FKDA_OK;
}

fkda_status device_repeat(void *data, size_t period_bytes, size_t bytes)
{
    for (size_t filled = period_bytes; filled < bytes; filled *= 2) {
        const size_t left = bytes - filled;
        TRY_CUDA(cudaMemcpy((char *)data + filled, data, left < filled ? left : filled, cudaMemcpyDeviceToDevice));
    }
    return FKDA_OK;
}

fkda_status device_copy(void *to_device, const void *from_device, size_t bytes)
{
    TRY_CUDA(cudaMemcpy(to_device, from_device, bytes, cudaMemcpyDeviceToDevice));
    return FKDA_OK;
}

fkda_status device_wait(void)
{
    TRY_CUDA(cudaDeviceSynchronize());
    return FKDA_OK;
}

/* ---------------------------------------------------------------- facts */

/* The driver's management library, for what the CUDA runtime does not tell. Declared after its documented C interface. */
typedef int (*nvml_call)(void);
typedef int (*nvml_driver_call)(char *text, unsigned size);
typedef int (*nvml_handle_call)(const char *bus_id, void **device);
typedef int (*nvml_clock_call)(void *device, int which, unsigned *mhz);
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEMORY = 2 };

static void *symbol(void *library, const char *name, void *function, size_t size)
{
    void *const found = dlsym(library, name);
    memcpy(function, &found, size);    /* ISO C has no cast from an object to a function */
    return found;
}

static void look_with(void *library, const char *bus_id, device_facts *facts)
{
    nvml_call start, stop;
    nvml_driver_call driver;
    nvml_handle_call handle;
    nvml_clock_call clock;
    void *device = NULL;
    unsigned mhz = 0;
    if (!symbol(library, "nvmlInit_v2", &start, sizeof start) || !symbol(library, "nvmlShutdown", &stop, sizeof stop) ||
        !symbol(library, "nvmlSystemGetDriverVersion", &driver, sizeof driver) ||
        !symbol(library, "nvmlDeviceGetHandleByPciBusId_v2", &handle, sizeof handle) ||
        !symbol(library, "nvmlDeviceGetClockInfo", &clock, sizeof clock) || start() != 0)
        return;
    if (driver(facts->driver, sizeof facts->driver) != 0) snprintf(facts->driver, sizeof facts->driver, "unknown");
    if (handle(bus_id, &device) == 0) {
        if (clock(device, NVML_CLOCK_SM, &mhz) == 0) facts->sm_mhz = (int)mhz;
        if (clock(device, NVML_CLOCK_MEMORY, &mhz) == 0) facts->memory_mhz = (int)mhz;
    }
    (void)stop();
}

void device_look(device_facts *facts)
{
    struct cudaDeviceProp properties;
    char bus_id[32] = "";
    *facts = (device_facts){.sm_mhz = 0};
    snprintf(facts->gpu, sizeof facts->gpu, "unknown");
    snprintf(facts->driver, sizeof facts->driver, "unknown");
    if (cudaGetDeviceProperties(&properties, DEVICE_ORDINAL) == cudaSuccess) snprintf(facts->gpu, sizeof facts->gpu, "%.90s", properties.name);
    void *const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, DEVICE_ORDINAL) != cudaSuccess) return;
    look_with(library, bus_id, facts);    /* the library stays loaded: some drivers do not survive its unloading */
}

/* ---------------------------------------------------------------- replays */

struct device_replay {
    cudaStream_t stream;
    cudaGraphExec_t graph;
    cudaEvent_t from, to;
    void *flush;               /* as large as the L2 cache twice: writing it leaves nothing else there */
    size_t flush_bytes;
};

static fkda_status capture(device_work work, const void *what, device_replay *r)
{
    cudaGraph_t graph = NULL;
    TRY(work(what, r->stream));    /* loads whatever is loaded late, and warms up */
    TRY_CUDA(cudaStreamSynchronize(r->stream));
    TRY_CUDA(cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeGlobal));
    const fkda_status status = work(what, r->stream);
    const cudaError_t error = cudaStreamEndCapture(r->stream, &graph);
    TRY(status);
    TRY_CUDA(error);
    const cudaError_t made = cudaGraphInstantiate(&r->graph, graph, 0);
    (void)cudaGraphDestroy(graph);
    TRY_CUDA(made);
    return FKDA_OK;
}

static fkda_status record(device_work work, const void *what, device_replay *r)
{
    int l2_bytes = 0;
    TRY_CUDA(cudaSetDevice(DEVICE_ORDINAL));
    TRY_CUDA(cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, DEVICE_ORDINAL));
    TRY_CUDA(cudaStreamCreate(&r->stream));
    TRY_CUDA(cudaEventCreate(&r->from));
    TRY_CUDA(cudaEventCreate(&r->to));
    r->flush_bytes = 2 * (size_t)l2_bytes;
    if (r->flush_bytes > 0) TRY(device_alloc(r->flush_bytes, &r->flush));
    return capture(work, what, r);
}

fkda_status device_record(device_work work, const void *what, device_replay **replay)
{
    device_replay *const r = calloc(1, sizeof *r);
    CHECK(r != NULL, FKDA_ERR_NO_MEMORY, "out of memory for a replay");
    const fkda_status status = record(work, what, r);
    *replay = status == FKDA_OK ? r : NULL;
    if (status != FKDA_OK) device_forget(r);
    return status;
}

fkda_status device_time(device_replay *r, double *ms)
{
    float elapsed = 0;
    if (r->flush != NULL) TRY_CUDA(cudaMemsetAsync(r->flush, 0, r->flush_bytes, r->stream));
    TRY_CUDA(cudaEventRecord(r->from, r->stream));
    TRY_CUDA(cudaGraphLaunch(r->graph, r->stream));
    TRY_CUDA(cudaEventRecord(r->to, r->stream));
    TRY_CUDA(cudaStreamSynchronize(r->stream));
    TRY_CUDA(cudaEventElapsedTime(&elapsed, r->from, r->to));
    *ms = (double)elapsed;
    return FKDA_OK;
}

void device_forget(device_replay *r)
{
    if (r == NULL) return;
    if (r->graph != NULL) (void)cudaGraphExecDestroy(r->graph);
    if (r->from != NULL) (void)cudaEventDestroy(r->from);
    if (r->to != NULL) (void)cudaEventDestroy(r->to);
    if (r->stream != NULL) (void)cudaStreamDestroy(r->stream);
    device_free(r->flush);
    free(r);
}

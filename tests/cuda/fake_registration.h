/* What nvcc's host code calls when a program starts: a launcher's object links without a CUDA runtime, and its kernels are known by their names. */
#ifndef FAKE_REGISTRATION_H
#define FAKE_REGISTRATION_H

#include <cuda_runtime_api.h>

enum { MOST_KERNELS = 64 };

static struct { const void *stub; const char *name; } kernels[MOST_KERNELS];
static int kernel_count;

void **__cudaRegisterFatBinary(void *binary);
void __cudaRegisterFatBinaryEnd(void **handle);
void __cudaUnregisterFatBinary(void **handle);
void __cudaRegisterFunction(void **handle, const char *stub, char *device_stub, const char *name, int thread_limit, void *tid, void *bid, void *block,
                            void *grid, int *warp_size);
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void *stream);
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream);
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub);
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared_bytes, cudaStream_t stream);

void **__cudaRegisterFatBinary(void *binary)
{
    static void *handle;
    handle = binary;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void **handle) { (void)handle; }
void __cudaUnregisterFatBinary(void **handle) { (void)handle; }

void __cudaRegisterFunction(void **handle, const char *stub, char *device_stub, const char *name, int thread_limit, void *tid, void *bid, void *block,
                            void *grid, int *warp_size)
{
    (void)handle, (void)device_stub, (void)thread_limit, (void)tid, (void)bid, (void)block, (void)grid, (void)warp_size;
    if (kernel_count < MOST_KERNELS) kernels[kernel_count].stub = stub, kernels[kernel_count++].name = name;
}

/* The stubs behind <<<>>>, which the launcher does not use. */
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, void *stream)
{
    (void)grid, (void)block, (void)shared_bytes, (void)stream;
    return 1;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream)
{
    (void)grid, (void)block, (void)shared_bytes, (void)stream;
    return cudaErrorUnknown;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *stub)
{
    (void)kernel, (void)stub;
    return cudaErrorUnknown;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared_bytes, cudaStream_t stream)
{
    (void)kernel, (void)grid, (void)block, (void)args, (void)shared_bytes, (void)stream;
    return cudaErrorUnknown;
}

static const char *name_of_kernel(const void *stub)
{
    for (int i = 0; i < kernel_count; ++i)
        if (kernels[i].stub == stub) return kernels[i].name;
    return "?";
}

#endif

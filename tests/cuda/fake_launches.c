#include "harness.h"

#include "fake_launches.h"

#include <string.h>

enum { MOST_KERNELS = 64 };

fake_runtime fake;
int fake_kernel_count;
static struct { const void *stub; const char *name; } kernels[MOST_KERNELS];

void fake_reset(size_t parameter_bytes)
{
    memset(&fake, 0, sizeof fake);
    fake.parameter_bytes = parameter_bytes;
}

cudaError_t fake_answer(void) { return ++fake.calls == fake.fail_at ? cudaErrorUnknown : cudaSuccess; }

int fake_template_argument(const char *kernel, const char *word)
{
    const char *const at = strstr(kernel, word);
    return at == NULL ? -1 : at[strlen(word)] - '0';
}

/* ---------------------------------------------------------------- what nvcc's host code calls when the program starts */

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
    if (fake_kernel_count < MOST_KERNELS) kernels[fake_kernel_count].stub = stub, kernels[fake_kernel_count++].name = name;
}

/* The stubs behind <<<>>>, which launchers do not use. */
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

/* ---------------------------------------------------------------- the runtime */

static const char *name_of(const void *stub)
{
    for (int i = 0; i < fake_kernel_count; ++i)
        if (kernels[i].stub == stub) return kernels[i].name;
    return "?";
}

cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    (void)kernel;
    attributes->binaryVersion = fake.binary_version, attributes->ptxVersion = fake.ptx_version;
    fake.got++;
    return fake_answer();
}
cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute what, int value)
{
    assert_string_not_equal(name_of(kernel), "?");
    if (what == cudaFuncAttributeMaxDynamicSharedMemorySize) fake.largest_shared = value;
    fake.set++;
    return fake_answer();
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **args)
{
    assert_non_null(args);
    assert_true(config->gridDim.y == 1 && config->gridDim.z == 1 && config->blockDim.y == 1 && config->blockDim.z == 1);
    const cudaError_t error = fake_answer();
    if (error != cudaSuccess || fake.launched == FAKE_MOST_LAUNCHES) return error;
    fake_launch *const seen = &fake.launches[fake.launched++];
    *seen = (fake_launch){.kernel = name_of(kernel), .grid = config->gridDim.x, .block = config->blockDim.x, .shared_bytes = config->dynamicSmemBytes, .ranks = 1};
    for (unsigned i = 0; i < config->numAttrs; ++i) {
        const cudaLaunchAttribute *const attribute = &config->attrs[i];
        if (attribute->id == cudaLaunchAttributeClusterDimension) seen->ranks = attribute->val.clusterDim.x;
        else if (attribute->id == cudaLaunchAttributeProgrammaticStreamSerialization) seen->may_overlap = attribute->val.programmaticStreamSerializationAllowed;
        else fail_msg("launch attribute %d", (int)attribute->id);
    }
    assert_true(fake.parameter_bytes <= sizeof seen->parameter);
    memcpy(seen->parameter, args[0], fake.parameter_bytes);
    return error;
}

void fake_expect_machine_code(int (*load)(void), size_t parameter_bytes)
{
    static const struct { int binary, ptx; cudaError_t error; } all[] = {
        {80, 80, cudaSuccess}, {90, 90, cudaSuccess}, {90, 80, cudaErrorNoKernelImageForDevice}, {103, 100, cudaSuccess},
        {103, 80, cudaErrorNoKernelImageForDevice}, {110, 80, cudaSuccess}, {121, 120, cudaSuccess}, {130, 80, cudaSuccess}};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        fake_reset(parameter_bytes);
        fake.binary_version = all[i].binary, fake.ptx_version = all[i].ptx;
        assert_int_equal(load(), all[i].error);
    }
}

/* Where the caller's pointers point. */
#include "cuda_places.h"

#include <cuda_runtime_api.h>

#include "cuda_device.h"
#include "status.h"

/* Addresses that this thread has found on a device before: asking the driver again and again where the same tensors lie is a large part
 * of a call's host time. An address that has since been freed is not noticed here, as it would not be by the driver either if other
 * memory had taken its place. */
typedef struct known_place {
    const void *data;
    int device;
} known_place;
enum { KNOWN_PLACE_BITS = 8 };
static _Thread_local known_place known_places[1 << KNOWN_PLACE_BITS];

static known_place *place_slot(const void *data)
{
    return &known_places[(uint64_t)(uintptr_t)data * UINT64_C(0x9e3779b97f4a7c15) >> (64 - KNOWN_PLACE_BITS)];
}

fkda_status fkdai_cuda_check_place(const char *name, const void *data, int device)
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

/*
 * What this extension uses of DLPack 1.x, declared after the published specification (github.com/dmlc/dlpack, dlpack.h 1.2 and 1.3).
 *
 * torch.Tensor.__dlpack_c_exchange_api__ is a capsule named "dlpack_exchange_api" with a table of C functions. Through it a tensor is
 * read in about 50 ns without a Python object in between, and a Parameter that requires grad is read like any other tensor.
 */
#ifndef FKDAI_PY_DLPACK_H
#define FKDAI_PY_DLPACK_H

#include <stdint.h>

#define DL_CAPSULE_NAME "dlpack_exchange_api"
#define DL_MAJOR_VERSION 1u

enum { DL_CPU = 1, DL_CUDA = 2, DL_CUDA_HOST = 3 };    /* device types; CUDA_HOST is pinned host memory */
enum { DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_FLOAT8_FIRST = 7, DL_FLOAT8_LAST = 14 };    /* type codes */

typedef struct dl_device {
    int32_t type, id;
} dl_device;

typedef struct dl_dtype {
    uint8_t code, bits;
    uint16_t lanes;
} dl_dtype;

typedef struct dl_tensor {
    void *data;
    dl_device device;
    int32_t ndim;
    dl_dtype dtype;
    int64_t *shape, *strides;    /* [ndim], strides in elements; both may be NULL when ndim is 0 */
    uint64_t byte_offset;
} dl_tensor;

typedef struct dl_managed_tensor {    /* DLManagedTensorVersioned: owned by whoever holds it, until deleter is called */
    uint32_t major, minor;
    void *context;
    void (*deleter)(struct dl_managed_tensor *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_managed_tensor;

typedef struct dl_exchange_header {
    uint32_t major, minor;
    struct dl_exchange_header *previous;    /* the table of an older version, or NULL */
} dl_exchange_header;

/* Functions return 0, or -1 with a Python exception set (allocate: SetError called). */
typedef struct dl_exchange {
    dl_exchange_header header;
    int (*allocate)(dl_tensor *prototype, dl_managed_tensor **out, void *context,
                    void (*set_error)(void *context, const char *kind, const char *message));
    int (*to_managed)(void *object, dl_managed_tensor **out);
    int (*from_managed)(dl_managed_tensor *tensor, void **out_object);
    int (*borrow)(void *object, dl_tensor *out);    /* may be NULL; out is valid while nothing else runs */
    int (*current_stream)(int32_t device_type, int32_t device_id, void **out_stream);
} dl_exchange;

#endif

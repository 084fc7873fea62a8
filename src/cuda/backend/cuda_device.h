/* The GPUs of this machine, and how the CUDA backend's host side fails. */
#ifndef FKDAI_CUDA_DEVICE_H
#define FKDAI_CUDA_DEVICE_H

#include "flashkda.h"

#define FKDAI_CUDA_MAX_DEVICES 64

typedef struct fkdai_cuda_device {
    char name[64];
    int major, minor;              /* compute capability */
    int multiprocessors;
    int shared_bytes;              /* that one block may ask for */
} fkdai_cuda_device;

typedef struct fkdai_cuda_machine {
    fkda_status status;            /* FKDA_OK, or why there is no device to speak of */
    char reason[224];              /* one line: the devices, or why the backend is off */
    int device_count;
    fkdai_cuda_device devices[FKDAI_CUDA_MAX_DEVICES];
} fkdai_cuda_machine;

/* What the machine offers; found out by the first call. Creates no context. */
const fkdai_cuda_machine *fkdai_cuda_the_machine(void);

/* FKDA_ERR_CUDA with the call and the error's name. `error` is a cudaError_t. */
fkda_status fkdai_cuda_fail(const char *call, int error);

#define TRY_CUDA(call)                                             \
    do {                                                           \
        const int try_error = (int)(call);                         \
        if (try_error != 0) return fkdai_cuda_fail(#call, try_error); \
    } while (0)

#endif

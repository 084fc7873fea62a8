/* What the CUDA backend will do with a desc on a device. Pure: no device call, no pointer. */
#ifndef FKDAI_CUDA_PLAN_H
#define FKDAI_CUDA_PLAN_H

#include "backend.h"
#include "cuda_launch.h"

#define FKDAI_CUDA_MAX_DEVICES 64

typedef struct fkdai_cuda_device {
    char name[64];
    int major, minor;              /* compute capability */
    int multiprocessors;
    int shared_bytes;              /* that one block may ask for */
} fkdai_cuda_device;

/* What the machine offers; filled in once. */
typedef struct fkdai_cuda_machine {
    fkda_status status;            /* FKDA_OK, or why there is no device to speak of */
    char reason[160];              /* one line: the devices, or why the backend is off */
    int device_count;
    fkdai_cuda_device devices[FKDAI_CUDA_MAX_DEVICES];
} fkdai_cuda_machine;

/* plan->own of this backend. */
typedef struct fkdai_cuda_own {
    fkdai_prefill_grid grid;
} fkdai_cuda_own;
_Static_assert(sizeof(fkdai_cuda_own) <= FKDAI_PLAN_OWN_BYTES, "fkdai_plan.own is too small");

/* Fills in plan->own, workspace_bytes and choice, or refuses with one sentence. */
fkda_status fkdai_cuda_plan(const fkdai_cuda_machine *machine, fkdai_plan *plan);

#endif

/* The ordered list of backends: AUTO takes the first that accepts. */
#include "backend.h"

const fkdai_backend *const fkdai_backends[] = {
#ifdef FKDA_WITH_CUDA
    &fkdai_cuda,
#endif
    &fkdai_cpu,
    &fkdai_ref,
    NULL,
};

/* The ordered list of backends and their names: AUTO takes the first that accepts. */
#include "backend.h"

const fkdai_backend_entry fkdai_backends[] = {
#ifdef FKDA_WITH_CUDA
    {FKDA_BACKEND_CUDA, "cuda", &fkdai_cuda},
#else
    {FKDA_BACKEND_CUDA, "cuda", NULL},
#endif
    {FKDA_BACKEND_CPU, "cpu", &fkdai_cpu},
    {FKDA_BACKEND_REF, "ref", &fkdai_ref},
    {FKDA_BACKEND_AUTO, "auto", NULL},
};

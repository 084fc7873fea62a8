/* Where the caller's pointers point. */
#ifndef FKDAI_CUDA_PLACES_H
#define FKDAI_CUDA_PLACES_H

#include "flashkda.h"

/* args.<name> is NULL, or CUDA memory that `device` can use. Asks the driver about an address once a thread. */
fkda_status fkdai_cuda_check_place(const char *name, const void *data, int device);

#endif

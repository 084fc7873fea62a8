/* What src/cuda/strided_copy does, in plain loops over host memory: what its kernels are held against. */
#ifndef FKDA_TEST_PLAIN_COPIES_H
#define FKDA_TEST_PLAIN_COPIES_H

#include "cuda_copy.h"

#ifdef __cplusplus
extern "C" {
#endif

void plain_copy_in(const fkdai_copies *copies);
void plain_copy_out(const fkdai_copies *copies);

#ifdef __cplusplus
}
#endif
#endif

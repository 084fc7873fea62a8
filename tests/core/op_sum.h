/* An operation that only tests have: out[i] = in[i * step] + bias[0]. Read before every other file of its program, as a longer list of operations. */
#ifndef FKDA_TEST_OP_SUM_H
#define FKDA_TEST_OP_SUM_H

#include "flashkda.h"

#define FKDAI_OPERATIONS(X) X(FWD, fwd) X(DECODE, decode) X(DECODE_FUSED, decode_fused) X(SUM, sum)

typedef struct fkda_sum_desc {
    size_t struct_size;
    fkda_backend backend;
    fkda_memory memory;
    int32_t device, threads;
    uint32_t flags, reserved;
    int64_t count;
    int64_t step;                /* appended. 0: 1 */
} fkda_sum_desc;

typedef struct fkda_sum_args {
    size_t struct_size;
    const float *in;             /* [count * step] */
    float *out;                  /* [count]; may be in */
    const float *bias;           /* appended. Optional [1] */
} fkda_sum_args;

enum { SUM_IN, SUM_OUT, SUM_BIAS, SUM_ARGUMENTS };

/* As the first version had them. */
#define SUM_FIRST_DESC offsetof(fkda_sum_desc, step)
#define SUM_FIRST_ARGS offsetof(fkda_sum_args, bias)

#endif

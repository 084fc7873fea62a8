/* NaN and infinity in a tensor: legal, and mostly a mistake of whoever made the file. They are counted, named, and computed with. */
#ifndef CLI_NON_FINITE_H
#define CLI_NON_FINITE_H

#include "flashkda.h"

typedef struct non_finite {
    int64_t nan_count, inf_count;
    int64_t first;                   /* element, if there is one */
} non_finite;

/* Of elements [0, count), BF16 or F32, in host memory. */
non_finite non_finite_count(const void *data, fkda_dtype dtype, int64_t count);

#endif

/* How much memory a tensor or a state spans: the one place that turns shapes and strides into extents. */
#ifndef FKDAI_EXTENT_H
#define FKDAI_EXTENT_H

#include "operation.h"

typedef struct fkdai_shape {
    int64_t B, T, heads, width;
} fkdai_shape;

/* The matrices of a state: HV of them are a row. */
typedef struct fkdai_state_shape {
    int64_t rows, HV, K, V;        /* rows: without a pool */
} fkdai_state_shape;

/* Fill in the default strides of desc.<name>; refuse those that are negative, overlap or overflow. */
fkda_status fkdai_resolve_tensor(const char *name, fkda_tensor_desc *tensor, fkdai_shape shape);
fkda_status fkdai_resolve_state(const char *name, fkda_state_desc *state, fkdai_state_shape shape);

/* Of what is resolved. */
fkdai_extent fkdai_tensor_extent(const fkda_tensor_desc *tensor, fkdai_shape shape);
fkdai_extent fkdai_state_extent(const fkda_state_desc *state, fkdai_state_shape shape);
fkdai_extent fkdai_array_extent(fkda_dtype dtype, int64_t count);

#endif

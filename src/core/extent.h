/* How much memory a tensor or a state spans: the one place that turns shapes and strides into extents. */
#ifndef FKDAI_EXTENT_H
#define FKDAI_EXTENT_H

#include "flashkda.h"

#define FKDAI_TENSOR_COUNT 6

/* One of q, k, v, g, beta, out of a desc: [B,T,heads,width]. */
typedef struct fkdai_tensor_view {
    const char *name;
    const fkda_tensor_desc *desc;
    int64_t heads, width;
} fkdai_tensor_view;

/* Tensor i in [0, FKDAI_TENSOR_COUNT), in the order q, k, v, g, beta, out. */
fkdai_tensor_view fkdai_tensor_at(const fkda_fwd_desc *desc, int i);

/* Fills in the default strides and row strides; refuses those that are negative, overlap or overflow. */
fkda_status fkdai_resolve_strides(fkda_fwd_desc *desc);

/* Bytes from the first element to behind the last; 0 if there is no element. The desc is resolved. */
int64_t fkdai_tensor_bytes(const fkda_fwd_desc *desc, int i);
int64_t fkdai_state_bytes(const fkda_fwd_desc *desc, const fkda_state_desc *state, int64_t dense_rows);

#endif

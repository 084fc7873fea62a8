/*
 * A case in memory, run once through the public API.
 *
 * Every buffer lies between guard pages; inputs are read-only while the library runs and hold NaN in every gap and beside the data;
 * outputs and workspace begin as poison. Afterwards everything but the elements of the outputs must still be what it was.
 */
#ifndef FKDA_TEST_CASE_RUN_H
#define FKDA_TEST_CASE_RUN_H

#include "case_spec.h"
#include "guarded.h"
#include "input_values.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct run_setup {
    fkda_backend backend;
    int threads;
    uint8_t poison;       /* what outputs and workspace hold before */
    guard_side side;      /* which end of the buffers touches its guard page */
} run_setup;

/* Results, gathered from the caller's layout. bf16 is widened, so equal bits here are equal bits there. */
typedef struct case_result {
    fkda_status status;
    int64_t out_count, state_count, checkpoint_elems;
    float *out;           /* [rows,HV,V] */
    float *state;         /* [N,HV,K,V]; no elements without a final state; 0 where none is written */
    float *checkpoints;   /* [checkpoint_count,HV,K,V], the same */
} case_result;

enum {    /* buffers */
    IMAGE_Q, IMAGE_K, IMAGE_V, IMAGE_G, IMAGE_BETA, IMAGE_OUT, IMAGE_TENSORS,
    IMAGE_A_LOG = IMAGE_TENSORS, IMAGE_DT_BIAS, IMAGE_CU_SEQLENS, IMAGE_INITIAL, IMAGE_FINAL, IMAGE_CHECKPOINTS, IMAGE_INITIAL_SLOTS,
    IMAGE_FINAL_SLOTS, IMAGE_MASK, IMAGE_OFFSETS, IMAGE_CHECKPOINT_SLOTS, IMAGE_WORKSPACE, IMAGE_BUFFERS
};

typedef struct case_image {
    const case_spec *spec;
    fkda_fwd_desc desc;
    fkda_fwd_args args;
    guarded buffer[IMAGE_BUFFERS];
    uint8_t *before[IMAGE_BUFFERS];         /* what a written buffer held */
    fkda_tensor_desc lie[IMAGE_TENSORS];    /* the strides as they are, where desc may say 0 */
} case_image;

fkda_fwd_desc case_desc(const case_spec *spec);    /* backend AUTO, host memory */

/* The args, pointing at these buffers: the image's own, or copies of them on a device. */
fkda_fwd_args image_args(const case_spec *spec, void *const *data);
int image_is_output(int buffer);

/* The desc and args of a case of decode, from what they are as a forward pass. */
fkda_decode_desc case_decode_desc(const case_spec *spec, const fkda_fwd_desc *desc);
fkda_decode_args case_decode_args(const fkda_fwd_args *args);

/* The case's operation, with the image's desc. On plain memory it is the forward pass. */
fkda_status image_workspace_size(const case_image *image, size_t *bytes);
fkda_status image_call(const case_image *image, const fkda_fwd_args *args, void *workspace, size_t bytes);

case_image image_build(const case_spec *spec, const input_values *x, const run_setup *setup);
void image_check_untouched(const case_image *image);    /* gaps, guards, slack */
case_result image_gather(const case_image *image, fkda_status status);
void image_free(case_image *image);

/* All of the above. A status other than OK and UNSUPPORTED fails the test. */
case_result case_run(const case_spec *spec, const input_values *x, const run_setup *setup);

/* The float64 reference, on plain contiguous memory, results in fp32. */
case_result case_run_reference(const case_spec *spec, const input_values *x);

void result_free(case_result *r);
int result_same_bits(const case_result *a, const case_result *b);

#ifdef __cplusplus
}
#endif

#endif

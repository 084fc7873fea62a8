/*
 * Cases of fkda_decode_fused: drawn by number, laid out between guard pages, run by any program that can, and held against the reference.
 *
 * Inputs are read-only while the library runs, with NaN in every gap; out, states and taps begin as poison where nobody may read them. Afterwards
 * everything but the elements that the call owes must be what it was.
 */
#ifndef FKDA_TEST_FUSED_CASE_H
#define FKDA_TEST_FUSED_CASE_H

#include "flashkda.h"
#include "guarded.h"

typedef enum fused_taps { TAPS_SD, TAPS_DS, TAPS_ODD, FUSED_TAPS_COUNT } fused_taps;    /* [slot,3,C], [slot,C,3], any strides */

typedef struct fused_spec {
    uint64_t number;                 /* of the values */
    int64_t N, first, H, W;          /* sequences first ... first + N - 1 of those of the number; K = V = W */
    fkda_dtype x, g, beta, out, output_gate, conv_weight, conv_bias, norm_weight, A_log, dt_bias;
    fkda_gate gate;
    fkda_beta beta_kind;
    int32_t beta_multiplier;
    fkda_qk_norm qk_norm;
    fkda_dtype state, slots;         /* slots NONE: dense */
    fkda_state_layout layout;
    fkda_slot_null slot_null;
    int is_masked;
    fused_taps taps;
    int is_exact;                    /* out and states lie in fp32, with the values that they would have in their dtypes: what a result is held against */
    int64_t nan_sequence;            /* all inputs, state and taps of it are NaN; -1: none */
} fused_spec;

fused_spec fused_draw(uint64_t number);    /* W = 128 */

enum {
    FUSED_X, FUSED_G, FUSED_BETA, FUSED_OUTPUT_GATE, FUSED_NORM_WEIGHT, FUSED_WEIGHT, FUSED_BIAS = FUSED_WEIGHT + 3, FUSED_A_LOG = FUSED_BIAS + 3,
    FUSED_DT_BIAS, FUSED_SLOTS, FUSED_MASK, FUSED_INPUTS, FUSED_OUT = FUSED_INPUTS, FUSED_TAPS, FUSED_STATE, FUSED_BUFFERS
};

typedef struct fused_image {
    fused_spec spec;
    fkda_decode_fused_desc desc;     /* host memory, backend AUTO */
    fkda_decode_fused_args args;     /* into the buffers */
    guarded buffer[FUSED_BUFFERS];
    uint8_t *before[FUSED_BUFFERS];  /* what out, taps and states held */
} fused_image;

fused_image fused_build(const fused_spec *spec, uint8_t poison, guard_side side);
void fused_free(fused_image *image);

/* The args, with each buffer at another place. */
fkda_decode_fused_args fused_args_at(const fused_image *image, void *const *places);

fkda_dtype fused_stored(const fused_spec *spec, fkda_dtype dtype);    /* of out or states */
int64_t fused_row(const fused_spec *spec, int64_t n);    /* -1: a null slot */
int fused_is_masked(const fused_spec *spec, int64_t n);

/* Runs an image where it lies. */
typedef fkda_status fused_runner(const void *context, fused_image *image);
typedef struct fused_way {
    fused_runner *run;
    const void *context;
    const char *name;
} fused_way;
fkda_status fused_run_backend(const void *backend, fused_image *image);    /* the public API; an fkda_backend */

/* Fails the test where something was written that the call does not own. */
void fused_check_untouched(const fused_image *image);

/* fused_checks.c. Against the reference, on W = 64 too where the way takes that; false with a line for people if it is off. */
int fused_check_case(const fused_way *way, const fused_spec *spec);
void fused_check_batch(const fused_way *way);
void fused_check_poisoned_rows(const fused_way *way);
void fused_check_nan_stays(const fused_way *way);
void fused_check_tokens(const fused_way *way);    /* token after token with a plain convolution over the whole sequence beside it */

#endif

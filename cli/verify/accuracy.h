/*
 * How far an answer is from the right one. A matrix is what one (sequence, head) has: out [T,V], or a state [V,K].
 *
 *     M1  sqrt(sum err^2 / sum ref^2)                                              over everything that was added
 *     M2  worst tile of 16 rows: rms(err) / max(rms(ref tile), 0.05 usual_rms)      a tile that is all zero cannot hide
 *     M3  worst element, in units of 2^-8 max|ref row|                             about 1: one rounding to bf16
 *
 * A NaN anywhere makes all three NaN, and NaN is inside no bar.
 */
#ifndef CLI_ACCURACY_H
#define CLI_ACCURACY_H

#include "flashkda.h"

typedef struct accuracy_matrix {
    const void *got, *want;          /* element (0,0); host memory */
    fkda_dtype got_dtype, want_dtype;
    int64_t rows, width, row_stride;    /* in elements, the same for both */
    double usual_rms;                /* accuracy_rms of want, or of more that belongs to it: how large its numbers usually are */
} accuracy_matrix;

typedef struct accuracy {
    double err2, ref2;               /* sums of squares */
    double m2, m3;
} accuracy;                          /* zero: nothing added */

/* rms of [rows, width], element (0,0) at want. */
double accuracy_rms(const void *want, fkda_dtype dtype, int64_t rows, int64_t width, int64_t row_stride);

void accuracy_add(accuracy *a, const accuracy_matrix *m);
void accuracy_merge(accuracy *a, const accuracy *other);
double accuracy_m1(const accuracy *a);

/* The most that M1 may be; M2 may be accuracy_m2_factor() times that. got_dtype and want_dtype as stored;
 * count: elements compared. */
double accuracy_bar_out(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count);
double accuracy_bar_state(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count);
double accuracy_m2_factor(void);

int accuracy_is_inside(const accuracy *a, double bar);

#endif

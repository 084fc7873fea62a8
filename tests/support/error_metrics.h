/*
 * How wrong a result is, in the three numbers that bars are written in. x and ref are [rows, heads, width], contiguous.
 *
 *   M1   relative RMS:                 rms(x - ref) / rms(ref)
 *   M2   worst 16-token tile of a (sequence, head):   rms(tile error) / max(rms(ref tile), 0.05 rms(ref head)),
 *        the head taken over all sequences: a sequence of one token has no other row to say how large its numbers usually are
 *   M3   worst element, in units of 2^-8 max|ref row|
 *
 * Where the reference is 0 throughout, any error counts as infinite. A NaN on either side that the other lacks is infinite too.
 */
#ifndef FKDA_TEST_ERROR_METRICS_H
#define FKDA_TEST_ERROR_METRICS_H

#include <stdint.h>

double metric_m1(const float *x, const float *ref, int64_t count);

/* One head; sequence n has rows [bounds[n], bounds[n + 1]), and tiles do not cross a bound. */
double metric_m2_head(const float *x, const float *ref, const int64_t *bounds, int64_t N, int64_t head, int64_t heads, int64_t width);

/*
 * x holds numbers that were rounded to bf16. Each becomes the number nearest to ref among those that round to it, so that what is left
 * is the error made before the rounding, or less: a result in bf16 owes as much as one in fp32. (Judged with its rounding, a tensor of few
 * elements has no sharp bar: 64 were seen off by 2.2e-3 relative RMS where 1.66e-3 is usual and 3.9e-3 possible.)
 */
void metric_undo_bf16(float *x, const float *ref, int64_t count);

/* Of all elements. */
int metric_is_finite(const float *x, int64_t count);
int metric_is_nan(const float *x, int64_t count);

double metric_m3(const float *x, const float *ref, int64_t rows, int64_t width);

#endif

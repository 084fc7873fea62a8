/* The three measures, and the one table of bars. */
#include "accuracy.h"

#include <math.h>
#include <string.h>

enum { TILE_ROWS = 16 };
#define TILE_FLOOR 0.05    /* of the usual rms: a tile of near zeros is not held to its own size */

static double load(const void *base, fkda_dtype dtype, int64_t i)
{
    if (dtype == FKDA_F32) return (double)((const float *)base)[i];
    const uint32_t bits = (uint32_t)((const uint16_t *)base)[i] << 16;    /* bf16 is the upper half of an fp32 */
    float value;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* The larger; NaN if either is. */
static double worse(double a, double b) { return isnan(a) || a > b ? a : b; }

/* err/ref, where no error at all is 0 even of nothing. */
static double ratio(double err, double ref) { return err == 0 ? 0 : err / ref; }

/* One row: its sums go to err2 and ref2, its worst element in units of 2^-8 max|ref row| is returned. */
static double add_row(const accuracy_matrix *m, int64_t row, double *err2, double *ref2)
{
    double worst = 0, largest = 0;
    for (int64_t c = 0; c < m->width; ++c) {
        const int64_t i = row * m->row_stride + c;
        const double want = load(m->want, m->want_dtype, i), err = load(m->got, m->got_dtype, i) - want;
        *err2 += err * err;
        *ref2 += want * want;
        worst = worse(worst, fabs(err));
        largest = worse(largest, fabs(want));
    }
    return ratio(worst, largest / 256);
}

double accuracy_rms(const void *want, fkda_dtype dtype, int64_t rows, int64_t width, int64_t row_stride)
{
    double sum = 0;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < width; ++c) {
            const double value = load(want, dtype, r * row_stride + c);
            sum += value * value;
        }
    return rows == 0 || width == 0 ? 0 : sqrt(sum / (double)(rows * width));
}

void accuracy_add(accuracy *a, const accuracy_matrix *m)
{
    if (m->rows == 0 || m->width == 0) return;
    for (int64_t begin = 0; begin < m->rows; begin += TILE_ROWS) {
        const int64_t end = begin + TILE_ROWS < m->rows ? begin + TILE_ROWS : m->rows;
        double err2 = 0, ref2 = 0;
        for (int64_t r = begin; r < end; ++r) a->m3 = worse(a->m3, add_row(m, r, &err2, &ref2));
        const double count = (double)((end - begin) * m->width);
        a->m2 = worse(a->m2, ratio(sqrt(err2 / count), worse(sqrt(ref2 / count), TILE_FLOOR * m->usual_rms)));
        a->err2 += err2;
        a->ref2 += ref2;
    }
}

void accuracy_merge(accuracy *a, const accuracy *other)
{
    a->err2 += other->err2;
    a->ref2 += other->ref2;
    a->m2 = worse(a->m2, other->m2);
    a->m3 = worse(a->m3, other->m3);
}

double accuracy_m1(const accuracy *a) { return ratio(sqrt(a->err2), sqrt(a->ref2)); }

/*
 * Bars on M1. Rounding to bf16 alone is 1.66e-3 relative RMS on data whose mantissas are spread evenly: 2.2e-3 leaves a third for
 * tiles where they are not. Few elements average nothing out: there the bar is what a single rounding can be, 2^-8. The host backends are exact to fp32: 2e-6 before rounding for out, and 1e-5 for a state, which sums the
 * errors of all its tokens. The GPU multiplies in bf16 inside, so its bars are those of the best published kernels, 4.5e-3 and 3.5e-3.
 */
static const struct { double out_f32, out_bf16, state_f32, state_bf16; } bars[FKDA_BACKEND_COUNT] = {
    [FKDA_BACKEND_CUDA] = {4.5e-3, 4.5e-3, 3.5e-3, 4.5e-3},
    [FKDA_BACKEND_CPU] = {2e-6, 2.2e-3, 1e-5, 2.2e-3},
    [FKDA_BACKEND_REF] = {2e-6, 2.2e-3, 1e-5, 2.2e-3},
};
#define ANSWER_BF16 2.2e-3    /* what an answer stored as bf16 is itself off; independent, so squares add */
#define ONE_ROUNDING 0x1p-8
#define FEW_ELEMENTS 1024     /* the spread of M1 falls as 1/sqrt(elements): 12 % of 1.66e-3 for 64, 3 % for 1024 */

static double for_count(double bar, fkda_dtype dtype, int64_t count)
{
    return dtype == FKDA_BF16 && count < FEW_ELEMENTS ? fmax(bar, ONE_ROUNDING) : bar;
}

static double with_answer(double bar, fkda_dtype want_dtype, int64_t count)
{
    if (want_dtype != FKDA_BF16) return bar;
    const double answer = for_count(ANSWER_BF16, want_dtype, count);
    return sqrt(bar * bar + answer * answer);
}

double accuracy_bar_out(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count)
{
    const double bar = got_dtype == FKDA_BF16 ? bars[backend].out_bf16 : bars[backend].out_f32;
    return with_answer(for_count(bar, got_dtype, count), want_dtype, count);
}

double accuracy_bar_state(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count)
{
    const double bar = got_dtype == FKDA_BF16 ? bars[backend].state_bf16 : bars[backend].state_f32;
    return with_answer(for_count(bar, got_dtype, count), want_dtype, count);
}

int accuracy_is_inside(const accuracy *a, double bar)
{
    return accuracy_m1(a) <= bar && a->m2 <= ACCURACY_M2_FACTOR * bar;    /* false for NaN */
}

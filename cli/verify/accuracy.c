/* The three measures, and the bars of a file. */
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

/* ---------------------------------------------------------------- bars: tests/bars.def says what each is for */

#define FKDA_BAR(arithmetic, class, out, state, m2, why) static const bars_of arithmetic##_##class = {out, state, m2};
#define FKDA_BAR_NUMBER(name, value, why) static const double number_##name = value;
typedef struct bars_of {
    double out, state, m2;
} bars_of;
#include "../../tests/bars.def"
#undef FKDA_BAR
#undef FKDA_BAR_NUMBER

static double for_count(double bar, fkda_dtype dtype, int64_t count)
{
    return dtype == FKDA_BF16 && (double)count < number_few_elements ? fmax(bar, number_one_rounding) : bar;
}

/* The bar of an answer that is itself stored in bf16; independent, so squares add. */
static double with_answer(double bar, double stored, fkda_dtype want_dtype, int64_t count)
{
    return want_dtype == FKDA_BF16 ? hypot(bar, for_count(stored, want_dtype, count)) : bar;
}

static const bars_of *arithmetic_of(fkda_backend backend)
{
    return backend == FKDA_BACKEND_CUDA ? &bf16_model : backend == FKDA_BACKEND_CPU ? &f32_any : &f64_any;
}

double accuracy_bar_out(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count)
{
    const double bar = arithmetic_of(backend)->out;    /* that of bf16 includes the rounding of out */
    return with_answer(for_count(got_dtype == FKDA_BF16 ? fmax(bar, stored_bf16.out) : bar, got_dtype, count), stored_bf16.out, want_dtype, count);
}

double accuracy_bar_state(fkda_backend backend, fkda_dtype got_dtype, fkda_dtype want_dtype, int64_t count)
{
    double bar = arithmetic_of(backend)->state;
    if (got_dtype == FKDA_BF16) bar = bar < stored_bf16.state ? stored_bf16.state : hypot(bar, stored_bf16.state);
    return with_answer(for_count(bar, got_dtype, count), stored_bf16.state, want_dtype, count);
}

double accuracy_m2_factor(void) { return bf16_model.m2; }    /* the others' too */

int accuracy_is_inside(const accuracy *a, double bar)
{
    return accuracy_m1(a) <= bar && a->m2 <= accuracy_m2_factor() * bar;    /* false for NaN */
}

/* M1, M2, M3. */
#include "error_metrics.h"

#include <math.h>
#include <string.h>

enum { TILE = 16 };

/* Sums of squares of an error and of its reference. */
typedef struct energy {
    double error, ref;
    int64_t count;
} energy;

static void add_element(energy *e, float x, float ref)
{
    const double difference = isnan(x) && isnan(ref) ? 0 : (double)x == (double)ref ? 0 : (double)x - (double)ref;
    e->error += isnan(difference) ? (double)INFINITY : difference * difference;
    e->ref += isnan(ref) ? 0 : (double)ref * (double)ref;
    e->count += 1;
}

static double ratio(double error, double ref) { return error == 0 ? 0 : ref == 0 ? (double)INFINITY : sqrt(error / ref); }

double metric_m1(const float *x, const float *ref, int64_t count)
{
    energy all = {0};
    for (int64_t i = 0; i < count; ++i) add_element(&all, x[i], ref[i]);
    return ratio(all.error, all.ref);
}

static energy rows_energy(const float *x, const float *ref, int64_t begin, int64_t end, int64_t head, int64_t heads, int64_t width)
{
    energy e = {0};
    for (int64_t t = begin; t < end; ++t)
        for (int64_t i = 0; i < width; ++i) add_element(&e, x[(t * heads + head) * width + i], ref[(t * heads + head) * width + i]);
    return e;
}

double metric_m2_head(const float *x, const float *ref, const int64_t *bounds, int64_t N, int64_t head, int64_t heads, int64_t width)
{
    const energy all = rows_energy(x, ref, bounds[0], bounds[N], head, heads, width);
    const double floor_square = all.count == 0 ? 0 : 0.05 * 0.05 * all.ref / (double)all.count;
    double worst = 0;
    for (int64_t n = 0; n < N; ++n)
        for (int64_t t = bounds[n]; t < bounds[n + 1]; t += TILE) {
            const int64_t end = t + TILE < bounds[n + 1] ? t + TILE : bounds[n + 1];
            const energy tile = rows_energy(x, ref, t, end, head, heads, width);
            const double elements = (double)tile.count;
            worst = fmax(worst, ratio(tile.error / elements, fmax(tile.ref / elements, floor_square)));
        }
    return worst;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static float nearest_that_rounds_to(float x, float ref)
{
    const float size = fabsf(x), sign = copysignf(1, x);
    uint32_t bits;
    memcpy(&bits, &size, sizeof bits);
    if (!isfinite(x)) return x;
    const float low = bits == 0 ? -float_of(0x8000u) : float_of(bits - 0x8000u), high = float_of(bits + 0x8000u);    /* midpoints */
    return sign * fminf(fmaxf(sign * ref, low), high);
}

void metric_undo_bf16(float *x, const float *ref, int64_t count)
{
    for (int64_t i = 0; i < count; ++i) x[i] = nearest_that_rounds_to(x[i], ref[i]);
}

double metric_m3(const float *x, const float *ref, int64_t rows, int64_t width)
{
    double worst = 0;
    for (int64_t r = 0; r < rows; ++r) {
        double largest = 0, error = 0;
        for (int64_t i = r * width; i < (r + 1) * width; ++i) {
            largest = fmax(largest, fabs((double)ref[i]));
            error = fmax(error, isnan(x[i]) != isnan(ref[i]) ? (double)INFINITY : fabs((double)x[i] - (double)ref[i]));
        }
        if (error > 0) worst = fmax(worst, largest == 0 ? (double)INFINITY : error / (largest * 0x1p-8));
    }
    return worst;
}

int metric_is_finite(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        if (!isfinite(x[i])) return 0;
    return 1;
}

int metric_is_nan(const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; ++i)
        if (!isnan(x[i])) return 0;
    return 1;
}

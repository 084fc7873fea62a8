/* The classes of input values that cases.def names. */
#include "harness.h"

#include "input_values.h"

#include <math.h>

#include "counter_rng.h"
#include "dtype.h"

static float rounded(int dtype, double value)
{
    if (dtype == FKDA_BF16) return fkdai_bf16_to_f32(fkdai_f64_to_bf16(value));
    return (float)value;
}

/* Any finite bf16 bit pattern, one as likely as another. */
static double random_bits(uint64_t stream, uint64_t i)
{
    const uint16_t bits = (uint16_t)rng_bits(stream, i);
    return (double)fkdai_bf16_to_f32((bits & 0x7f80u) == 0x7f80u ? (uint16_t)(bits ^ 0x4000u) : bits);
}

static _Noreturn void no_such_class(const char *key, const char *word)
{
    fail_msg("cases.def: no values called %s=%s", key, word);
    abort();
}

/* -------------------------------------------------------------- q, k */

/* Channel c of the key of token t, head h. base: one vector per head. */
static double key_value(const char *word, uint64_t stream, int64_t t, int64_t h, int64_t H, int64_t c, int64_t K)
{
    const uint64_t own = (uint64_t)((t * H + h) * K + c), base = (uint64_t)(h * K + c) + (UINT64_C(1) << 60);
    if (strcmp(word, "normal") == 0) return rng_normal(stream, own);
    if (strcmp(word, "shifted") == 0) return 1 + rng_normal(stream, own);
    if (strcmp(word, "huge") == 0) return 1e20 * rng_normal(stream, own);    /* their squares overflow fp32 */
    if (strcmp(word, "uniform") == 0) return rng_uniform(stream, own);
    if (strcmp(word, "same") == 0) return rng_normal(stream, base);
    if (strcmp(word, "signs") == 0) return (t % 2 ? -1 : 1) * rng_normal(stream, base);
    if (strcmp(word, "period16") == 0) return rng_normal(stream, base + (uint64_t)(t % 16 * H * K));
    if (strcmp(word, "onehot") == 0) return rng_below(stream, (uint64_t)(t * H + h), K) == c ? 1 : 0;
    if (strcmp(word, "zero") == 0) return 0;
    if (strcmp(word, "bits") == 0) return random_bits(stream, own);
    if (strcmp(word, "rank8") == 0) {    /* in a space of eight dimensions */
        double sum = 0;
        for (int64_t j = 0; j < 8; ++j)
            sum += rng_normal(stream, base + (uint64_t)(j * H * K)) * rng_normal(stream, (uint64_t)((t * H + h) * 8 + j) + (UINT64_C(1) << 61));
        return sum / sqrt(8);
    }
    if (strncmp(word, "cos", 3) == 0) {    /* two keys of a head have this cosine */
        const double cosine = 0.01 * strtod(word + 3, NULL);
        return sqrt(cosine) * rng_normal(stream, base) + sqrt(1 - cosine) * rng_normal(stream, own);
    }
    no_such_class("keys", word);
}

static double query_value(const char *word, uint64_t stream, int64_t i)
{
    if (strcmp(word, "onehot") == 0) return (double)rng_below(stream, (uint64_t)i, 7) - 3;
    if (strcmp(word, "uniform") == 0) return rng_uniform(stream, (uint64_t)i);
    if (strcmp(word, "zero") == 0) return 0;
    if (strcmp(word, "bits") == 0) return random_bits(stream, (uint64_t)i);
    return rng_normal(stream, (uint64_t)i);
}

/* -------------------------------------------------------------- g */

/* The gate's logit of one channel. */
static double gate_logit(const char *word, uint64_t stream, int64_t i, int64_t c)
{
    const uint64_t at = (uint64_t)i;
    const double sign = rng_below(stream, at, 2) ? 1 : -1;
    if (strcmp(word, "usual") == 0) return rng_normal(stream, at);
    if (strcmp(word, "slow") == 0) return 2 * rng_normal(stream, at) - 4;
    if (strcmp(word, "weak") == 0) return rng_normal(stream, at) - 8;
    if (strcmp(word, "sweep") == 0) {
        static const double logits[] = {-12, -8, -4, 0, 8};
        return logits[rng_below(stream, at, 5)];
    }
    if (strcmp(word, "wide") == 0) return 8 * rng_normal(stream, at);
    if (strcmp(word, "open") == 0) return -12;
    if (strcmp(word, "closed") == 0) return 8;
    if (strcmp(word, "half") == 0) return c % 2 ? 8 : -12;
    if (strcmp(word, "huge") == 0) return sign * 1e30;
    if (strcmp(word, "inf") == 0) return sign * (double)INFINITY;
    if (strcmp(word, "floor") == 0) return 1e30;
    if (strcmp(word, "zero") == 0) return -1e30;
    if (strcmp(word, "steep") == 0) return 1e4;
    if (strcmp(word, "long") == 0) return -16;
    if (strcmp(word, "bits") == 0) return random_bits(stream, at);
    if (strcmp(word, "odd") == 0) return i % 3 != 0 ? random_bits(stream, at) : sign * (rng_below(stream, at / 3, 2) ? 1e30 : (double)INFINITY);
    no_such_class("gates", word);
}

/* What a caller would store in g: the logit, or log a itself. The latter may be above 0, which counts as 0. */
static double gate_value(const case_spec *spec, uint64_t stream, int64_t i, int64_t c)
{
    const double logit = gate_logit(spec->gates, stream, i, c);
    if (spec->gate != FKDA_GATE_PRECOMPUTED || isinf(logit)) return logit;
    if (strcmp(spec->gates, "zero") == 0) return 0;
    if (strcmp(spec->gates, "wide") == 0 || strcmp(spec->gates, "huge") == 0) return logit;
    return -5 / (1 + exp(-logit));
}

/* -------------------------------------------------------------- beta, v, state */

static double beta_value(const case_spec *spec, uint64_t stream, int64_t i, int is_first_token)
{
    const char *const word = spec->betas;
    const int is_logit = spec->beta == FKDA_BETA_LOGIT;
    const double normal = rng_normal(stream, (uint64_t)i);
    if (strcmp(word, "normal") == 0) return is_logit ? 1.5 * normal : 1 / (1 + exp(-normal));
    if (strcmp(word, "eight") == 0) return is_logit ? 8 : 1 / (1 + exp(-8.0));
    if (strcmp(word, "once") == 0) return is_logit ? (is_first_token ? 4 : -30) : is_first_token;
    if (strcmp(word, "dyadic") == 0) return 0.5 * (double)rng_below(stream, (uint64_t)i, 3);
    if (strcmp(word, "bits") == 0) return random_bits(stream, (uint64_t)i);
    no_such_class("betas", word);
}

static double plain_value(const char *word, uint64_t stream, int64_t i)
{
    if (strcmp(word, "normal") == 0) return rng_normal(stream, (uint64_t)i);
    if (strcmp(word, "ints") == 0) return (double)rng_below(stream, (uint64_t)i, 9) - 4;
    if (strcmp(word, "tiny") == 0) return 0x1p-30 * rng_normal(stream, (uint64_t)i);
    if (strcmp(word, "large") == 0) return 1e4 * rng_normal(stream, (uint64_t)i);
    if (strcmp(word, "vast") == 0) return 1e30 * rng_normal(stream, (uint64_t)i);
    no_such_class("values", word);
}

/* -------------------------------------------------------------- a whole case */

enum { ARRAYS = 8 };
typedef struct array_list { float **data[ARRAYS]; size_t count[ARRAYS]; } array_list;

static array_list arrays_of(input_values *x, const case_spec *s)
{
    const size_t rows = (size_t)case_rows(s), H = (size_t)s->H, HV = (size_t)s->HV, K = (size_t)s->K, V = (size_t)s->V;
    return (array_list){{&x->q, &x->k, &x->v, &x->g, &x->beta, &x->A_log, &x->dt_bias, &x->initial},
                        {rows * H * K, rows * H * K, rows * HV * V, rows * HV * K, rows * HV, HV, HV * K, (size_t)s->N * HV * K * V}};
}

input_values values_alloc(const case_spec *s)
{
    input_values x;
    const array_list all = arrays_of(&x, s);
    for (int i = 0; i < ARRAYS; ++i) *all.data[i] = must_alloc(all.count[i], sizeof(float));
    return x;
}

static input_values values_copy(const case_spec *s, input_values *from)
{
    input_values x = values_alloc(s);
    const array_list to = arrays_of(&x, s), all = arrays_of(from, s);
    for (int i = 0; i < ARRAYS; ++i) memcpy(*to.data[i], *all.data[i], all.count[i] * sizeof(float));
    return x;
}

void values_free(input_values *x)
{
    float *const all[ARRAYS] = {x->q, x->k, x->v, x->g, x->beta, x->A_log, x->dt_bias, x->initial};
    for (int i = 0; i < ARRAYS; ++i) free(all[i]);
    memset(x, 0, sizeof *x);
}

/* Keys that the library does not normalise come from a caller who did: |k| about 1. One-hot keys have that length. */
static double length_of_raw(const case_spec *s)
{
    return s->norm == FKDA_QK_NORM_NONE && strcmp(s->keys, "onehot") != 0 ? 1 / sqrt((double)s->K) : 1;
}

static void draw_tokens(const case_spec *s, input_values *x)
{
    const double length = length_of_raw(s);
    const uint64_t q = rng_stream(s->name, 0), k = rng_stream(s->name, 1), v = rng_stream(s->name, 2), g = rng_stream(s->name, 3);
    const int64_t rows = case_rows(s);
    for (int64_t t = 0; t < rows; ++t)
        for (int64_t h = 0; h < s->H; ++h)
            for (int64_t c = 0; c < s->K; ++c) {
                const int64_t i = (t * s->H + h) * s->K + c;
                x->q[i] = rounded(s->q, length * query_value(s->keys, q, i));
                x->k[i] = rounded(s->k, length * key_value(s->keys, k, t, h, s->H, c, s->K));
            }
    for (int64_t i = 0; i < rows * s->HV * s->V; ++i) x->v[i] = rounded(s->v, plain_value(s->values, v, i));
    for (int64_t i = 0; i < rows * s->HV * s->K; ++i) x->g[i] = rounded(s->g, gate_value(s, g, i, i % s->K));
    for (int64_t n = 0; n < s->N; ++n)
        for (int64_t i = s->bounds[n] * s->HV; i < s->bounds[n + 1] * s->HV; ++i)
            x->beta[i] = rounded(s->beta_dtype, beta_value(s, rng_stream(s->name, 4), i, i / s->HV == s->bounds[n]));
}

/* Of a gate, as models have them: A_log = log U(1,16), dt_bias = softplus^-1 of log-uniform(1e-3, 0.1). */
static double A_log_value(const case_spec *s, uint64_t stream, int64_t i)
{
    return s->is_unit ? 0.3 * rng_normal(stream, (uint64_t)i) : log(1 + 15 * rng_uniform(stream, (uint64_t)i));
}

static double dt_bias_value(const case_spec *s, uint64_t stream, int64_t i)
{
    return s->is_unit ? 0.5 * rng_normal(stream, (uint64_t)i) : log(expm1(1e-3 * pow(100, rng_uniform(stream, (uint64_t)i))));
}

static void make_last_nan(const case_spec *s, input_values *x)
{
    const int64_t first = s->bounds[s->N - 1], end = s->bounds[s->N];
    for (int64_t i = first * s->H * s->K; i < end * s->H * s->K; ++i) x->q[i] = x->k[i] = NAN;
    for (int64_t i = first * s->HV * s->V; i < end * s->HV * s->V; ++i) x->v[i] = NAN;
    for (int64_t i = first * s->HV * s->K; i < end * s->HV * s->K; ++i) x->g[i] = NAN;
    for (int64_t i = first * s->HV; i < end * s->HV; ++i) x->beta[i] = NAN;
}

static input_values draw(const case_spec *s)
{
    input_values x = values_alloc(s);
    draw_tokens(s, &x);
    const uint64_t A = rng_stream(s->name, 5), bias = rng_stream(s->name, 6), state = rng_stream(s->name, 7);
    for (int64_t i = 0; i < s->HV; ++i) x.A_log[i] = rounded(s->A_log, A_log_value(s, A, i));
    for (int64_t i = 0; i < s->HV * s->K; ++i) x.dt_bias[i] = rounded(s->dt_bias, dt_bias_value(s, bias, i));
    const int64_t elems = s->initial == FKDA_NONE ? 0 : s->N * case_state_elems(s);
    for (int64_t i = 0; i < elems; ++i) x.initial[i] = rounded(s->initial, (s->is_unit ? 0.1 : 1) * plain_value(s->values, state, i));
    if (s->last_is_nan) make_last_nan(s, &x);
    return x;
}

/* The last case's are kept: some tests ask for them once a run, and drawing took a fifth of the emulator's time. */
input_values values_draw(const case_spec *s)
{
    static case_spec last;
    static input_values drawn;
    if (drawn.q == NULL || memcmp(&last, s, sizeof last) != 0) {
        values_free(&drawn);
        drawn = draw(s);
        last = *s;
    }
    return values_copy(s, &drawn);
}

/* -------------------------------------------------------------- pieces of a case */

case_spec pieces_spec(const case_spec *from, const piece *pieces, int count, fkda_dtype form)
{
    assert_true(count <= CASE_MAX_SEQUENCES);
    case_spec to = *from;
    to.cu = (int)form;
    to.N = count;
    for (int n = 0; n < count; ++n) to.bounds[n + 1] = to.bounds[n] + pieces[n].count;
    to.B = form == FKDA_NONE ? count : 1;
    to.tail = 0;
    to.T = form == FKDA_NONE ? pieces[0].count : to.bounds[count];
    return to;
}

static void copy_rows(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t row_elems)
{
    memcpy(to + to_row * row_elems, from + from_row * row_elems, (size_t)(rows * row_elems) * sizeof *to);
}

input_values pieces_values(const case_spec *from, const input_values *x, const piece *pieces, const case_spec *to)
{
    input_values y = values_alloc(to);
    copy_rows(y.A_log, 0, x->A_log, 0, 1, to->HV);
    copy_rows(y.dt_bias, 0, x->dt_bias, 0, 1, to->HV * to->K);
    for (int n = 0; n < to->N; ++n) {
        const piece *const p = &pieces[n];
        const int64_t source = from->bounds[p->sequence] + p->first, target = to->bounds[n];
        copy_rows(y.q, target, x->q, source, p->count, to->H * to->K);
        copy_rows(y.k, target, x->k, source, p->count, to->H * to->K);
        copy_rows(y.v, target, x->v, source, p->count, to->HV * to->V);
        copy_rows(y.g, target, x->g, source, p->count, to->HV * to->K);
        copy_rows(y.beta, target, x->beta, source, p->count, to->HV);
        copy_rows(y.initial, n, p->initial != NULL ? p->initial : x->initial, p->initial != NULL ? 0 : p->sequence, 1, case_state_elems(to));
    }
    return y;
}

/* The formulas are those at the head of tools/train_language_model.py; nothing here is shared with examples/language_model.c. */
#include "float64_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define EPSILON 1e-6

typedef struct layer {
    double *norm, *qkv, *conv, *gate_down, *gate_up, *A_log, *dt_bias, *beta, *out_gate_down, *out_gate_up, *head_norm, *out, *mlp_norm, *mlp_in, *mlp_out;
    double state[HEADS][HEAD][HEAD];           /* [K,V] */
    double before[TAPS - 1][3 * INNER];        /* inputs of the convolution, the oldest first */
} layer;

struct float64_model {
    double *embedding, *norm, *head;
    layer layers[LAYERS];
};

double *float64_tensor(const safetensors_file *file, const char *name, int64_t count)
{
    const safetensors_tensor *const tensor = safetensors_find(file, name);
    if (tensor == NULL || tensor->dtype != FKDA_BF16 || tensor->end - tensor->begin != 2 * (uint64_t)count)
        fail_msg("tensor '%s' is not there as %lld bf16 numbers", name, (long long)count);
    uint16_t *const raw = malloc(2 * (size_t)count);
    double *const to = malloc((size_t)count * sizeof *to);
    assert_true(raw != NULL && to != NULL);
    assert_int_equal(safetensors_read(file, tensor, raw), FKDA_OK);
    for (int64_t i = 0; i < count; ++i) {
        const uint32_t bits = (uint32_t)raw[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        to[i] = (double)value;
    }
    free(raw);
    return to;
}

#define WITH_LAYER_TENSORS(X)                                                                                                           \
    X(norm, WIDTH) X(qkv, WIDTH * 3 * INNER) X(conv, TAPS * 3 * INNER) X(gate_down, WIDTH * RANK) X(gate_up, RANK * INNER) X(A_log, HEADS) \
    X(dt_bias, INNER) X(beta, WIDTH * HEADS) X(out_gate_down, WIDTH * RANK) X(out_gate_up, RANK * INNER) X(head_norm, HEAD)               \
    X(out, INNER * WIDTH) X(mlp_norm, WIDTH) X(mlp_in, WIDTH * 2 * HIDDEN) X(mlp_out, HIDDEN * WIDTH)

float64_model *float64_open(const safetensors_file *file)
{
    float64_model *const model = calloc(1, sizeof *model);
    char name[64];
    assert_non_null(model);
    model->embedding = float64_tensor(file, "embedding", BYTES * WIDTH);
    model->norm = float64_tensor(file, "norm", WIDTH);
    model->head = float64_tensor(file, "head", WIDTH * BYTES);
    for (int i = 0; i < LAYERS; ++i) {
#define READ(field, count)                                     \
    snprintf(name, sizeof name, "layers.%d." #field, i);       \
    model->layers[i].field = float64_tensor(file, name, count);
        WITH_LAYER_TENSORS(READ)
#undef READ
    }
    return model;
}

void float64_close(float64_model *model)
{
    for (int i = 0; i < LAYERS; ++i) {
#define FREE(field, count) free(model->layers[i].field);
        WITH_LAYER_TENSORS(FREE)
#undef FREE
    }
    free(model->embedding);
    free(model->norm);
    free(model->head);
    free(model);
}

/* ---------------------------------------------------------------- one token */

/* y [out] = x [in] W [in,out] */
static void product(const double *x, int in, const double *W, int out, double *y)
{
    for (int j = 0; j < out; ++j) y[j] = 0;
    for (int i = 0; i < in; ++i)
        for (int j = 0; j < out; ++j) y[j] += x[i] * W[i * out + j];
}

static void low_rank(const double *x, const double *down, const double *up, double *y)
{
    double middle[RANK];
    product(x, WIDTH, down, RANK, middle);
    product(middle, RANK, up, INNER, y);
}

static void normalize(const double *x, int width, const double *weight, double *y)
{
    double squares = 0;
    for (int i = 0; i < width; ++i) squares += x[i] * x[i];
    for (int i = 0; i < width; ++i) y[i] = x[i] / sqrt(squares / width + EPSILON) * weight[i];
}

static double sigma(double x) { return 1 / (1 + exp(-x)); }

static void short_convolution(layer *w, double *x)
{
    double mixed[3 * INNER];
    for (int c = 0; c < 3 * INNER; ++c) {
        double sum = w->conv[(TAPS - 1) * 3 * INNER + c] * x[c];
        for (int tap = 0; tap < TAPS - 1; ++tap) sum += w->conv[tap * 3 * INNER + c] * w->before[tap][c];
        mixed[c] = sum * sigma(sum);
    }
    memmove(w->before[0], w->before[1], sizeof w->before[0] * (TAPS - 2));
    memcpy(w->before[TAPS - 2], x, sizeof w->before[0]);
    memcpy(x, mixed, sizeof mixed);
}

static double inverse_length(const double *x)
{
    double squares = 0;
    for (int i = 0; i < HEAD; ++i) squares += x[i] * x[i];
    return 1 / sqrt(squares + EPSILON);
}

/* S <- Diag(a) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = S^T q^ / sqrt(K) */
static void delta_rule(double S[HEAD][HEAD], const double *q, const double *k, const double *v, const double *a, double b, double *o)
{
    const double q_factor = inverse_length(q) / sqrt(HEAD), k_factor = inverse_length(k);
    double u[HEAD];
    for (int j = 0; j < HEAD; ++j) {
        double seen = 0;
        for (int i = 0; i < HEAD; ++i) {
            S[i][j] *= a[i];
            seen += S[i][j] * k[i] * k_factor;
        }
        u[j] = b * (v[j] - seen);
        o[j] = 0;
    }
    for (int i = 0; i < HEAD; ++i)
        for (int j = 0; j < HEAD; ++j) {
            S[i][j] += k[i] * k_factor * u[j];
            o[j] += S[i][j] * q[i] * q_factor;
        }
}

/* x += attention(rmsnorm(x)) */
static void attend(layer *w, double *x)
{
    double y[WIDTH], qkv[3 * INNER], g[INNER], gate[INNER], beta[HEADS], o[INNER], a[HEAD];
    normalize(x, WIDTH, w->norm, y);
    product(y, WIDTH, w->qkv, 3 * INNER, qkv);
    short_convolution(w, qkv);
    low_rank(y, w->gate_down, w->gate_up, g);
    low_rank(y, w->out_gate_down, w->out_gate_up, gate);
    product(y, WIDTH, w->beta, HEADS, beta);
    for (int h = 0; h < HEADS; ++h) {
        const int at = h * HEAD;
        for (int i = 0; i < HEAD; ++i) a[i] = exp(-5 * sigma(exp(w->A_log[h]) * (g[at + i] + w->dt_bias[at + i])));
        delta_rule(w->state[h], qkv + at, qkv + INNER + at, qkv + 2 * INNER + at, a, sigma(beta[h]), o + at);
        normalize(o + at, HEAD, w->head_norm, o + at);
    }
    for (int i = 0; i < INNER; ++i) o[i] *= sigma(gate[i]);
    product(o, INNER, w->out, WIDTH, y);
    for (int i = 0; i < WIDTH; ++i) x[i] += y[i];
}

/* x += (silu(z W_gate) * (z W_in)) W_out, z = rmsnorm(x) */
static void feed_forward(const layer *w, double *x)
{
    double z[WIDTH], wide[2 * HIDDEN];
    normalize(x, WIDTH, w->mlp_norm, z);
    product(z, WIDTH, w->mlp_in, 2 * HIDDEN, wide);
    for (int i = 0; i < HIDDEN; ++i) wide[i] *= wide[HIDDEN + i] * sigma(wide[HIDDEN + i]);
    product(wide, HIDDEN, w->mlp_out, WIDTH, z);
    for (int i = 0; i < WIDTH; ++i) x[i] += z[i];
}

void float64_step(float64_model *model, unsigned char byte, double *logits)
{
    double x[WIDTH], y[WIDTH];
    memcpy(x, model->embedding + byte * WIDTH, sizeof x);
    for (int i = 0; i < LAYERS; ++i) {
        attend(&model->layers[i], x);
        feed_forward(&model->layers[i], x);
    }
    normalize(x, WIDTH, model->norm, y);
    product(y, WIDTH, model->head, BYTES, logits);
}

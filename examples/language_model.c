#include "language_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const fkda_state_desc STATE = {.dtype = FKDA_F32};
static const float LOWER_BOUND = -5;
#define SCALE (1.0f / sqrtf(HEAD))

static void *get(size_t bytes)
{
    void *const memory = aligned_alloc(FKDA_WORKSPACE_ALIGN, (bytes + FKDA_WORKSPACE_ALIGN) / FKDA_WORKSPACE_ALIGN * FKDA_WORKSPACE_ALIGN);
    if (memory != NULL) return memory;
    fprintf(stderr, "language_model: no memory for %zu bytes\n", bytes);
    exit(1);
}

static void must(fkda_status status)
{
    if (status == FKDA_OK) return;
    fprintf(stderr, "%s: %s\n", fkda_status_name(status), fkda_last_error());
    exit(1);
}

/* ---------------------------------------------------------------- weights: a safetensors file of bf16 tensors */

typedef struct weights_file {
    const char *path;
    unsigned char *bytes;    /* u64 length of the header, the header, the tensors */
    char *header;
    uint64_t header_bytes, data_bytes;
    float *next;             /* where the next tensor goes, as fp32 */
} weights_file;

_Noreturn static void refuse(const char *path, const char *why, const char *what)
{
    fprintf(stderr, "%s: %s%s\n", path, why, what);
    exit(1);
}

static weights_file read_file(const char *path)
{
    weights_file file = {.path = path};
    FILE *const stream = fopen(path, "rb");
    if (stream == NULL) refuse(path, "cannot be opened", "");
    fseek(stream, 0, SEEK_END);
    const long size = ftell(stream);
    rewind(stream);
    file.bytes = get(size > 0 ? (size_t)size : 1);
    if (size < 8 || fread(file.bytes, 1, (size_t)size, stream) != (size_t)size) refuse(path, "cannot be read, or is no safetensors file", "");
    fclose(stream);
    for (int i = 7; i >= 0; --i) file.header_bytes = file.header_bytes << 8 | file.bytes[i];
    if (file.header_bytes > (uint64_t)size - 8) refuse(path, "the header is longer than the file", "");
    file.data_bytes = (uint64_t)size - 8 - file.header_bytes;
    file.header = get(file.header_bytes + 1);
    memcpy(file.header, file.bytes + 8, file.header_bytes);
    file.header[file.header_bytes] = 0;
    return file;
}

/* The tensor of that name, which has `count` elements: "name":{"dtype":"BF16","shape":[...],"data_offsets":[begin,end]} */
static const float *tensor(weights_file *file, int layer, const char *name, uint64_t count)
{
    char key[64];
    if (layer < 0) snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"BF16\"", name);
    else snprintf(key, sizeof key, "\"layers.%d.%s\":{\"dtype\":\"BF16\"", layer, name);
    const char *const entry = strstr(file->header, key);
    const char *const offsets = entry == NULL ? NULL : strstr(entry, "\"data_offsets\":[");
    unsigned long long begin, end;
    if (offsets == NULL || sscanf(offsets, "\"data_offsets\":[%llu,%llu]", &begin, &end) != 2) refuse(file->path, "no bf16 tensor ", key);
    if (end > file->data_bytes || begin > end || end - begin != 2 * count) refuse(file->path, "not the size that this model has: ", key);
    const unsigned char *const from = file->bytes + 8 + file->header_bytes + begin;
    float *const to = file->next;
    for (uint64_t i = 0; i < count; ++i) {
        const uint32_t bits = (uint32_t)(from[2 * i] | from[2 * i + 1] << 8) << 16;    /* bf16: the upper half of a float */
        memcpy(&to[i], &bits, sizeof bits);
    }
    file->next += count;
    return to;
}

static model_layer read_layer(weights_file *file, int i)
{
    return (model_layer){
        .norm = tensor(file, i, "norm", WIDTH),
        .qkv = tensor(file, i, "qkv", WIDTH * 3 * INNER),
        .conv = tensor(file, i, "conv", TAPS * 3 * INNER),
        .gate_down = tensor(file, i, "gate_down", WIDTH * RANK),
        .gate_up = tensor(file, i, "gate_up", RANK * INNER),
        .A_log = tensor(file, i, "A_log", HEADS),
        .dt_bias = tensor(file, i, "dt_bias", INNER),
        .beta = tensor(file, i, "beta", WIDTH * HEADS),
        .out_gate_down = tensor(file, i, "out_gate_down", WIDTH * RANK),
        .out_gate_up = tensor(file, i, "out_gate_up", RANK * INNER),
        .head_norm = tensor(file, i, "head_norm", HEAD),
        .out = tensor(file, i, "out", INNER * WIDTH),
        .mlp_norm = tensor(file, i, "mlp_norm", WIDTH),
        .mlp_in = tensor(file, i, "mlp_in", WIDTH * 2 * HIDDEN),
        .mlp_out = tensor(file, i, "mlp_out", HIDDEN * WIDTH),
    };
}

/* ---------------------------------------------------------------- the parts of a layer that are not attention */

/* y [tokens,out] = x [tokens,in] W [in,out] */
static void multiply(int tokens, const float *restrict x, int in, const float *restrict W, int out, float *restrict y)
{
    memset(y, 0, sizeof(float) * (size_t)tokens * (size_t)out);
    for (int t = 0; t < tokens; ++t, x += in, y += out)
        for (int i = 0; i < in; ++i)
            for (int j = 0; j < out; ++j) y[j] += x[i] * W[i * out + j];
}

/* y = x / sqrt(mean x^2 + 1e-6) * weight, for each row of `width` */
static void rmsnorm(int rows, const float *x, int width, const float *weight, float *y)
{
    for (int row = 0; row < rows; ++row, x += width, y += width) {
        float squares = 0;
        for (int i = 0; i < width; ++i) squares += x[i] * x[i];
        const float factor = 1 / sqrtf(squares / (float)width + 1e-6f);
        for (int i = 0; i < width; ++i) y[i] = x[i] * factor * weight[i];
    }
}

static float sigmoid(float x) { return 1 / (1 + expf(-x)); }

/* x[t] = silu(sum over i of taps[i] x[t - 3 + i]), per channel; `last` holds the three rows before x, and then the last three. */
static void convolve(int tokens, float *x, const float *taps, float last[TAPS - 1][3 * INNER])
{
    for (int t = 0; t < tokens; ++t, x += 3 * INNER)
        for (int c = 0; c < 3 * INNER; ++c) {
            const float sum = last[0][c] * taps[c] + last[1][c] * taps[3 * INNER + c] + last[2][c] * taps[6 * INNER + c] + x[c] * taps[9 * INNER + c];
            last[0][c] = last[1][c];
            last[1][c] = last[2][c];
            last[2][c] = x[c];
            x[c] = sum * sigmoid(sum);
        }
}

/* ---------------------------------------------------------------- attention */

typedef struct attention {
    float qkv[PIECE * 3 * INNER], g[PIECE * INNER], beta[PIECE * HEADS], out[PIECE * INNER];    /* q, k and v of a token lie side by side */
} attention;

static const fkda_tensor_desc QKV = {.token_stride = 3 * INNER, .dtype = FKDA_F32}, F32 = {.dtype = FKDA_F32};

/* Many tokens. The state goes on in place, from piece to piece. */
static void attend_prompt(const model_layer *w, int tokens, attention *a, float *state)
{
    const fkda_fwd_desc desc = {.struct_size = sizeof desc, .B = 1, .T = tokens, .H = HEADS, .K = HEAD, .V = HEAD, .q = QKV, .k = QKV, .v = QKV,
                                .g = F32, .beta = F32, .out = F32, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .lower_bound = LOWER_BOUND,
                                .scale = SCALE, .initial_state = STATE, .final_state = STATE};
    const fkda_fwd_args args = {.struct_size = sizeof args, .q = a->qkv, .k = a->qkv + INNER, .v = a->qkv + 2 * INNER, .g = a->g, .beta = a->beta,
                                .out = a->out, .A_log = w->A_log, .dt_bias = w->dt_bias, .initial_state = state, .final_state = state};
    size_t bytes;
    must(fkda_fwd_workspace_size(&desc, &bytes));
    void *const workspace = bytes > 0 ? get(bytes) : NULL;
    must(fkda_fwd(&desc, &args, workspace, bytes, NULL));
    free(workspace);
}

static void plan_token(language_model *model)
{
    const fkda_decode_desc desc = {.struct_size = sizeof desc, .N = 1, .S = 1, .H = HEADS, .K = HEAD, .V = HEAD, .q = QKV, .k = QKV, .v = QKV,
                                   .g = F32, .beta = F32, .out = F32, .A_log = FKDA_F32, .dt_bias = FKDA_F32, .lower_bound = LOWER_BOUND,
                                   .scale = SCALE, .state = STATE};
    must(fkda_decode_plan(&desc, &model->decode));
    model->workspace_bytes = fkda_plan_workspace_size(&model->decode);
    model->workspace = model->workspace_bytes > 0 ? get(model->workspace_bytes) : NULL;
}

/* One token. */
static void attend_token(language_model *model, const model_layer *w, attention *a, float *state)
{
    const fkda_decode_args args = {.struct_size = sizeof args, .q = a->qkv, .k = a->qkv + INNER, .v = a->qkv + 2 * INNER, .g = a->g, .beta = a->beta,
                                   .out = a->out, .A_log = w->A_log, .dt_bias = w->dt_bias, .state = state};
    must(fkda_decode_run(&model->decode, &args, model->workspace, model->workspace_bytes, NULL));
}

/* ---------------------------------------------------------------- the model */

typedef enum model_pass { PASS_PREFILL, PASS_DECODE } model_pass;

/* x [tokens,WIDTH] through layer i */
static void run_layer(language_model *model, int i, model_memory *memory, model_pass pass, int tokens, float *x)
{
    static attention a;
    static float y[PIECE * WIDTH], low[PIECE * RANK], gate[PIECE * INNER], wide[PIECE * 2 * HIDDEN];
    const model_layer *const w = &model->layers[i];
    rmsnorm(tokens, x, WIDTH, w->norm, y);
    multiply(tokens, y, WIDTH, w->qkv, 3 * INNER, a.qkv);
    convolve(tokens, a.qkv, w->conv, memory->conv[i]);
    multiply(tokens, y, WIDTH, w->gate_down, RANK, low);
    multiply(tokens, low, RANK, w->gate_up, INNER, a.g);
    multiply(tokens, y, WIDTH, w->beta, HEADS, a.beta);
    multiply(tokens, y, WIDTH, w->out_gate_down, RANK, low);
    multiply(tokens, low, RANK, w->out_gate_up, INNER, gate);

    if (pass == PASS_PREFILL) attend_prompt(w, tokens, &a, memory->state[i]);
    else attend_token(model, w, &a, memory->state[i]);

    rmsnorm(tokens * HEADS, a.out, HEAD, w->head_norm, a.out);
    for (int j = 0; j < tokens * INNER; ++j) a.out[j] *= sigmoid(gate[j]);
    multiply(tokens, a.out, INNER, w->out, WIDTH, y);
    for (int j = 0; j < tokens * WIDTH; ++j) x[j] += y[j];

    rmsnorm(tokens, x, WIDTH, w->mlp_norm, y);
    multiply(tokens, y, WIDTH, w->mlp_in, 2 * HIDDEN, wide);
    for (int t = 0; t < tokens; ++t)
        for (int j = 0; j < HIDDEN; ++j) {
            const float in = wide[2 * t * HIDDEN + j], gated = wide[(2 * t + 1) * HIDDEN + j];
            wide[t * HIDDEN + j] = in * gated * sigmoid(gated);    /* never ahead of what is still to be read */
        }
    multiply(tokens, wide, HIDDEN, w->mlp_out, WIDTH, y);
    for (int j = 0; j < tokens * WIDTH; ++j) x[j] += y[j];
}

static void run(language_model *model, model_memory *memory, model_pass pass, const unsigned char *text, int tokens, float *logits)
{
    static float x[PIECE * WIDTH], y[PIECE * WIDTH];
    for (int t = 0; t < tokens; ++t) memcpy(x + t * WIDTH, model->embedding + text[t] * WIDTH, WIDTH * sizeof(float));
    for (int i = 0; i < LAYERS; ++i) run_layer(model, i, memory, pass, tokens, x);
    rmsnorm(tokens, x, WIDTH, model->norm, y);
    multiply(tokens, y, WIDTH, model->head, BYTES, logits);
}

void model_prefill(language_model *model, model_memory *memory, const unsigned char *text, int count, float *logits)
{
    for (int begin = 0; begin < count; begin += PIECE)
        run(model, memory, PASS_PREFILL, text + begin, count - begin < PIECE ? count - begin : PIECE, logits + (size_t)begin * BYTES);
}

void model_decode(language_model *model, model_memory *memory, unsigned char byte, float *logits)
{
    run(model, memory, PASS_DECODE, &byte, 1, logits);
}

void model_open(const char *path, language_model *model)
{
    weights_file file = read_file(path);
    model->weights = file.next = get(file.data_bytes * 2);    /* no tensor is read twice, so that all fit */
    model->embedding = tensor(&file, -1, "embedding", BYTES * WIDTH);
    for (int i = 0; i < LAYERS; ++i) model->layers[i] = read_layer(&file, i);
    model->norm = tensor(&file, -1, "norm", WIDTH);
    model->head = tensor(&file, -1, "head", WIDTH * BYTES);
    free(file.header);
    free(file.bytes);
    plan_token(model);
}

void model_close(language_model *model)
{
    free(model->weights);
    free(model->workspace);
}

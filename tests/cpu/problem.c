#include "problem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype.h"
#include "op_fwd.h"

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

double random_unit(uint64_t seed, uint64_t index)
{
    return (double)(mix(mix(seed + UINT64_C(0x9e3779b97f4a7c15)) + index * UINT64_C(0x9e3779b97f4a7c15)) >> 11) * 0x1p-53;
}

double random_normal(uint64_t seed, uint64_t index)
{
    const double radius = sqrt(-2 * log(1 - random_unit(seed, 2 * index)));
    return radius * cos(6.283185307179586 * random_unit(seed, 2 * index + 1));
}

void *test_alloc(size_t bytes)
{
    void *const memory = aligned_alloc(FKDA_WORKSPACE_ALIGN, (bytes / FKDA_WORKSPACE_ALIGN + 1) * FKDA_WORKSPACE_ALIGN);
    if (memory == NULL) abort();
    return memory;
}

static void *own(problem *p, int64_t bytes) { return p->memory[p->memory_count++] = test_alloc((size_t)bytes); }

typedef struct stream {
    uint64_t seed;
    double mean, spread;
    int is_same_for_all_tokens;
} stream;

/* Fills one of q to beta; everything between the rows is NaN. */
static void *fill_tensor(problem *p, fkda_arg i, stream s, int64_t first_token)
{
    const fkda_tensor_desc *const t = fkdai_fwd_tensor(&p->desc, i);
    const fkdai_shape shape = fkdai_fwd_shape(&p->desc, i);
    const int64_t bytes = fkdai_tensor_extent(t, shape).bytes;
    void *const data = own(p, bytes);
    memset(data, 0xff, (size_t)bytes);
    for (int64_t b = 0; b < p->desc.B; ++b)
        for (int64_t n = 0; n < p->desc.T; ++n)
            for (int64_t h = 0; h < shape.heads; ++h)
                for (int64_t c = 0; c < shape.width; ++c) {
                    const int64_t token = s.is_same_for_all_tokens ? 0 : b * p->desc.T + n + first_token;
                    const double value = s.mean + s.spread * random_normal(s.seed, (uint64_t)((token * shape.heads + h) * shape.width + c));
                    fkdai_store(data, t->dtype, b * t->batch_stride + n * t->token_stride + h * t->head_stride + c, value);
                }
    return data;
}

static void *fill_vector(problem *p, fkda_dtype dtype, int64_t count, stream s)
{
    if (dtype == FKDA_NONE) return NULL;
    void *const data = own(p, count * fkdai_dtype_bytes(dtype));
    for (int64_t i = 0; i < count; ++i) fkdai_store(data, dtype, i, s.mean + s.spread * random_normal(s.seed, (uint64_t)i));
    return data;
}

static void set_tensor(const problem_options *o, int64_t T, fkda_tensor_desc *t, int64_t heads, int64_t width, fkda_dtype dtype)
{
    t->dtype = dtype;
    if (!o->has_padding) return;
    t->head_stride = width + 3;
    t->token_stride = heads * (width + 3) + 5;
    t->batch_stride = T * t->token_stride + 7;
}

static fkda_fwd_desc make_desc(const problem_options *o)
{
    fkda_fwd_desc d = {.struct_size = sizeof d, .B = o->B ? o->B : 1, .T = o->T, .H = o->H ? o->H : 1, .K = o->K ? o->K : 128,
                       .V = o->V ? o->V : 128};
    d.HV = o->HV ? o->HV : d.H;
    const fkda_dtype input = o->input ? o->input : FKDA_BF16;
    if (o->lengths != NULL) {
        d.N = o->N;
        d.T = 0;
        for (int64_t n = 0; n < o->N; ++n) d.T += o->lengths[n];
        d.cu_seqlens = o->cu_seqlens ? o->cu_seqlens : FKDA_I64;
    }
    set_tensor(o, d.T, &d.q, d.H, d.K, input);
    set_tensor(o, d.T, &d.k, d.H, d.K, input);
    set_tensor(o, d.T, &d.v, d.HV, d.V, input);
    set_tensor(o, d.T, &d.g, d.HV, d.K, input);
    set_tensor(o, d.T, &d.beta, d.HV, 1, input);
    set_tensor(o, d.T, &d.out, d.HV, d.V, o->output ? o->output : FKDA_F32);
    d.gate = o->gate;
    d.lower_bound = o->lower_bound != 0 ? o->lower_bound : -5;
    d.beta_kind = o->beta_kind;
    d.beta_multiplier = o->beta_multiplier;
    d.qk_norm = o->qk_norm;
    d.scale = (float)(1 / sqrt((double)d.K));
    d.A_log = o->A_log;
    d.dt_bias = o->dt_bias;
    d.initial_state = (fkda_state_desc){.dtype = o->initial_state, .layout = o->state_layout};
    d.final_state = (fkda_state_desc){.dtype = o->final_state ? o->final_state : FKDA_F32, .layout = o->state_layout};
    return d;
}

static void *make_bounds(problem *p, const problem_options *o)
{
    if (o->lengths == NULL) return NULL;
    void *const bounds = own(p, (o->N + 1) * 8);
    int64_t sum = 0;
    for (int64_t n = 0; n <= o->N; ++n) {
        if (p->desc.cu_seqlens == FKDA_I32) ((int32_t *)bounds)[n] = (int32_t)sum;
        else ((int64_t *)bounds)[n] = sum;
        if (n < o->N) sum += o->lengths[n];
    }
    return bounds;
}

problem problem_make(const problem_options *o)
{
    problem p = {.desc = make_desc(o)};
    fkda_fwd_desc *const d = &p.desc;
    fkdai_desc resolved;
    if (fkdai_resolve(&fkdai_op_fwd, d, &resolved) != FKDA_OK) { fprintf(stderr, "%s\n", fkda_last_error()); abort(); }
    *d = resolved.fwd;
    const int64_t out_bytes = fkdai_tensor_extent(&d->out, fkdai_fwd_shape(d, FKDA_ARG_OUT)).bytes;
    const uint64_t seed = o->seed * 16;
    const double g_spread = o->g_spread != 0 ? (double)o->g_spread : 1;
    p.args = (fkda_fwd_args){.struct_size = sizeof p.args};
    p.args.q = fill_tensor(&p, FKDA_ARG_Q, (stream){seed, 0, 1, 0}, o->first_token);
    p.args.k = fill_tensor(&p, FKDA_ARG_K, (stream){seed + 1, 0, 1, o->has_same_keys}, o->first_token);
    p.args.v = fill_tensor(&p, FKDA_ARG_V, (stream){seed + 2, 0, 1, 0}, o->first_token);
    p.args.g = fill_tensor(&p, FKDA_ARG_G, (stream){seed + 3, (double)o->g_mean, g_spread, 0}, o->first_token);
    p.args.beta = fill_tensor(&p, FKDA_ARG_BETA, (stream){seed + 4, (double)o->beta_mean, 1, 0}, o->first_token);
    p.args.out = own(&p, out_bytes);
    p.args.A_log = fill_vector(&p, d->A_log, d->HV, (stream){seed + 5, 0.5, 0.5, 0});
    p.args.dt_bias = fill_vector(&p, d->dt_bias, d->HV * d->K, (stream){seed + 6, 0, 1, 0});
    p.args.cu_seqlens = make_bounds(&p, o);
    p.out_elems = out_bytes / fkdai_dtype_bytes(d->out.dtype);
    p.state_elems = d->N * d->HV * d->K * d->V;
    p.args.initial_state = fill_vector(&p, d->initial_state.dtype, p.state_elems, (stream){seed + 7, 0, 0.2, 0});
    p.args.final_state = own(&p, p.state_elems * fkdai_dtype_bytes(d->final_state.dtype));
    return p;
}

void problem_free(problem *p)
{
    for (int i = 0; i < p->memory_count; ++i) free(p->memory[i]);
    p->memory_count = 0;
}

fkda_status problem_run(problem *p, fkda_backend backend, int threads)
{
    fkda_plan plan;
    p->desc.backend = backend;
    p->desc.threads = threads;
    const fkda_status planned = fkda_fwd_plan(&p->desc, &plan);
    if (planned != FKDA_OK) return planned;
    const size_t bytes = fkda_plan_workspace_size(&plan);
    void *const workspace = test_alloc(bytes);
    memset(workspace, 0xff, bytes);
    memset(p->args.out, 0xff, (size_t)fkdai_tensor_extent(&p->desc.out, fkdai_fwd_shape(&p->desc, FKDA_ARG_OUT)).bytes);
    if (p->args.final_state != p->args.initial_state)
        memset(p->args.final_state, 0xff, (size_t)(p->state_elems * fkdai_dtype_bytes(p->desc.final_state.dtype)));
    const fkda_status status = fkda_fwd_run(&plan, &p->args, workspace, bytes, NULL);
    free(workspace);
    return status;
}

float problem_out(const problem *p, int64_t i) { return (float)fkdai_load(p->args.out, p->desc.out.dtype, i); }
float problem_state(const problem *p, int64_t i) { return (float)fkdai_load(p->args.final_state, p->desc.final_state.dtype, i); }

static double relative(double error, double norm) { return error == 0 ? 0 : sqrt(error / norm); }

double problem_out_error(const problem *got, const problem *want)
{
    double error = 0, norm = 0;
    const fkda_fwd_desc *const d = &want->desc;
    for (int64_t b = 0; b < d->B; ++b)
        for (int64_t t = 0; t < d->T; ++t)
            for (int64_t h = 0; h < d->HV; ++h)
                for (int64_t v = 0; v < d->V; ++v) {
                    const int64_t i = b * d->out.batch_stride + t * d->out.token_stride + h * d->out.head_stride + v;
                    const double w = (double)problem_out(want, i), e = (double)problem_out(got, i) - w;
                    error += e * e;
                    norm += w * w;
                }
    return relative(error, norm);
}

double problem_state_error(const problem *got, const problem *want)
{
    double error = 0, norm = 0;
    for (int64_t i = 0; i < want->state_elems; ++i) {
        const double w = (double)problem_state(want, i), e = (double)problem_state(got, i) - w;
        error += e * e;
        norm += w * w;
    }
    return relative(error, norm);
}

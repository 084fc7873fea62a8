/*
 * A problem for the benchmark: normal q, k, v, gate logits and beta logits in bf16, states in fp32, and gates of one family. The numbers
 * of a tensor repeat after PERIOD elements: 8209 rows of 128, a prime, so that within a head no key comes back before 8209 tokens.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "generator.h"
#include "problem.h"

enum { SEED = 20250713, PERIOD = 128 * 8209 };
#define STATE_SIZE 0.1f     /* states of trained models are small; zeros would be kinder to a CPU than life is */
#define FLOOR_LOGIT 30.0f   /* sigmoid(30) is 1 in fp32 */
#define LOG_FLOOR (-5.0f)   /* a precomputed gate's, where the bounded one has its lower bound */

const char *const problem_gates_names[] = {"slow", "random", "floor", NULL};

static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);    /* to nearest even; no NaN comes here */
}

static void fill_normal(const generator *g, fkda_dtype dtype, int64_t count, float size, void *to)
{
    for (int64_t i = 0; i < count; i += 2) {
        float normals[2];
        generator_normal_pair(g, i / 2, normals);
        for (int64_t j = i; j < count && j < i + 2; ++j) {
            if (dtype == FKDA_F32) ((float *)to)[j] = size * normals[j - i];
            else ((uint16_t *)to)[j] = to_bf16(size * normals[j - i]);
        }
    }
}

static float A_log_at(const generator *g, problem_gates gates, int64_t i)
{
    const double uniform = generator_uniform(g, i);
    return gates == PROBLEM_GATES_FLOOR ? 0 : (float)(gates == PROBLEM_GATES_RANDOM ? uniform : log(1 + 15 * uniform));
}

static float dt_bias_at(const generator *g, problem_gates gates, int64_t i)
{
    const double uniform = generator_uniform(g, i);
    return gates == PROBLEM_GATES_FLOOR ? 0 : (float)(gates == PROBLEM_GATES_RANDOM ? uniform : log(expm1(1e-3 * pow(100, uniform))));
}

/* What a gate makes of the other families' logits and parameters, as a precomputed gate has it. */
static float log_decay_at(const generator *g, problem_gates gates, int64_t i)
{
    const double first = generator_uniform(g, 2 * i), second = generator_uniform(g, 2 * i + 1);
    if (gates == PROBLEM_GATES_FLOOR) return LOG_FLOOR;
    return (float)(gates == PROBLEM_GATES_RANDOM ? -exp(first) * log1p(exp(4 * second - 1.5)) : -(1 + 15 * first) * 1e-3 * pow(100, second));
}

static void fill_log_decays(problem_gates gates, fkda_dtype dtype, int64_t count, void *to)
{
    const generator g = {.seed = SEED, .stream = PROBLEM_G};
    for (int64_t i = 0; i < count; ++i) {
        const float x = log_decay_at(&g, gates, i);
        if (dtype == FKDA_F32) ((float *)to)[i] = x;
        else ((uint16_t *)to)[i] = to_bf16(x);
    }
}

/* `count` elements of a role. */
static void fill(problem_role role, problem_gates gates, fkda_dtype dtype, int64_t count, void *to)
{
    const generator g = {.seed = SEED, .stream = (uint64_t)role};
    const int is_floor = role == PROBLEM_G && gates == PROBLEM_GATES_FLOOR;
    if (role != PROBLEM_A_LOG && role != PROBLEM_DT_BIAS && !is_floor) {
        fill_normal(&g, dtype, count, role == PROBLEM_INITIAL_STATE ? STATE_SIZE : 1.0f, to);
        return;
    }
    for (int64_t i = 0; i < count; ++i) {
        if (is_floor) ((uint16_t *)to)[i] = to_bf16(FLOOR_LOGIT);
        else ((float *)to)[i] = role == PROBLEM_A_LOG ? A_log_at(&g, gates, i) : dt_bias_at(&g, gates, i);
    }
}

static fkda_status make_input(problem *p, problem_role role, problem_gates gates, fkda_dtype dtype)
{
    memory_block period;
    TRY(problem_add(p, role, dtype));
    const memory_block *const block = &p->tensors[role].block;
    const int64_t bytes = safetensors_dtype_bytes(dtype), all = (int64_t)block->bytes / bytes, count = all < PERIOD ? all : PERIOD;
    TRY(memory_alloc(FKDA_MEMORY_HOST, (size_t)(count * bytes), &period));
    if (role == PROBLEM_G && p->desc.gate == FKDA_GATE_PRECOMPUTED) fill_log_decays(gates, dtype, count, period.data);
    else fill(role, gates, dtype, count, period.data);
    const fkda_status status = count > 0 ? memory_repeat(block, period.data, period.bytes) : FKDA_OK;
    memory_free(&period);
    return status;
}

static fkda_status make_bounds(problem *p, const int64_t *lens)
{
    p->bounds = calloc((size_t)p->desc.N + 1, sizeof *p->bounds);
    CHECK(p->bounds != NULL, FKDA_ERR_NO_MEMORY, "out of memory for %lld sequences", (long long)p->desc.N);
    for (int64_t n = 0; n < p->desc.N; ++n) p->bounds[n + 1] = p->bounds[n] + lens[n];
    TRY(problem_add(p, PROBLEM_CU_SEQLENS, FKDA_I64));
    const memory_block *const block = &p->tensors[PROBLEM_CU_SEQLENS].block;
    return memory_repeat(block, p->bounds, block->bytes);
}

/* Sequence n has slot n times a prime, modulo the slots: no two alike, and neighbours lie apart. */
static fkda_status make_slots(problem *p)
{
    const int64_t count = p->desc.initial_state.slot_count, step = count % 7919 == 0 ? 1 : 7919;
    void *data;
    TRY(problem_add(p, PROBLEM_INITIAL_SLOTS, FKDA_I32));
    const memory_block *const block = &p->tensors[PROBLEM_INITIAL_SLOTS].block;
    TRY(memory_map(block, MEMORY_WRITE, &data));
    for (int64_t n = 0; n < p->desc.N; ++n) ((int32_t *)data)[n] = (int32_t)(n * step % count);
    return memory_unmap(block, MEMORY_WRITE, data);
}

static fkda_status make(problem *p, problem_gates gates, const int64_t *lens)
{
    const int is_precomputed = p->desc.gate == FKDA_GATE_PRECOMPUTED;
    for (problem_role role = PROBLEM_Q; role <= PROBLEM_BETA; ++role)
        TRY(make_input(p, role, gates, role == PROBLEM_G && p->desc.g.dtype == FKDA_F32 ? FKDA_F32 : FKDA_BF16));
    for (problem_role role = PROBLEM_A_LOG; role <= PROBLEM_DT_BIAS && !is_precomputed; ++role) TRY(make_input(p, role, gates, FKDA_F32));
    TRY(make_input(p, PROBLEM_INITIAL_STATE, gates, FKDA_F32));
    if (lens != NULL) TRY(make_bounds(p, lens));
    if (p->desc.initial_state.slot_count > 0) TRY(make_slots(p));
    TRY(problem_add(p, PROBLEM_OUT, FKDA_BF16));
    TRY(problem_add(p, PROBLEM_FINAL_STATE, FKDA_F32));
    return problem_restore(p);
}

fkda_status problem_make(operation op, const fkda_fwd_desc *desc, problem_gates gates, const int64_t *lens, problem *p)
{
    *p = (problem){.op = op, .desc = *desc};
    const fkda_status status = make(p, gates, lens);
    if (status != FKDA_OK) problem_free(p);
    return status;
}

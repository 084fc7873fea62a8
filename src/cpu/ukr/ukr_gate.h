/* The gate of one token, and the decay of a whole chunk.
 *
 *     bounded       log2 a = lower_bound log2(e) / (1 + 2^(-rate log2(e) (g + bias)))
 *     softplus      log2 a = -rate log2(e) softplus(g + bias),   softplus(x) = max(x, 0) + log(1 + e^-|x|)
 *     precomputed   log2 a = g log2(e)
 *     all           log2 a in [-1e4 log2(e), 0];   a = 2^(log2 a);   gate_cum += log2 a
 */
#include "ukr.h"
#include "vec_math.h"

#define LOG2_E 1.44269504f

ALWAYS_INLINE vf log2_bounded(const fkdai_cpu_gate *gate, vf x)
{
    const vf t = v_max(v_set1(-126.0f), v_min(v_set1(126.0f), x * v_set1(-gate->rate_log2)));
    return v_set1(gate->lower_bound_log2) / (v_set1(1.0f) + v_exp2(t));
}

ALWAYS_INLINE vf log2_softplus(const fkdai_cpu_gate *gate, vf x)
{
    const vf t = v_max(v_set1(-126.0f), v_negative_abs(x) * v_set1(LOG2_E));
    const vf softplus = v_max(v_set1(0.0f), x) + v_log1p_unit(v_exp2(t));
    return softplus * v_set1(-gate->rate_log2);
}

ALWAYS_INLINE void gate_row(const fkdai_cpu_gate *gate, fkda_gate kind, const void *g, fkda_dtype dtype, int64_t K, float *alpha,
                            float *gate_cum)
{
    for (int64_t c = 0; c < K; c += VL) {
        const vf x = v_load_as(g, dtype, c);
        vf log2_a;
        if (kind == FKDA_GATE_BOUNDED) log2_a = log2_bounded(gate, x + v_load(gate->bias + c));
        else if (kind == FKDA_GATE_SOFTPLUS) log2_a = log2_softplus(gate, x + v_load(gate->bias + c));
        else log2_a = v_min(v_set1(0.0f), x * v_set1(LOG2_E));
        if (kind != FKDA_GATE_BOUNDED) log2_a = v_max(v_set1(FKDAI_CPU_LOG2_DECAY_MIN), log2_a);
        v_store(alpha + c, v_exp2(log2_a));
        v_store(gate_cum + c, v_load(gate_cum + c) + log2_a);
    }
}

/* kind and dtype are constants below, so that the loop has no branch. */
static void gate_any(const fkdai_cpu_gate *gate, const void *g, fkda_dtype dtype, int64_t K, float *alpha, float *gate_cum)
{
    const int is_f32 = dtype == FKDA_F32;
    if (gate->kind == FKDA_GATE_BOUNDED && is_f32) gate_row(gate, FKDA_GATE_BOUNDED, g, FKDA_F32, K, alpha, gate_cum);
    else if (gate->kind == FKDA_GATE_BOUNDED) gate_row(gate, FKDA_GATE_BOUNDED, g, FKDA_BF16, K, alpha, gate_cum);
    else if (gate->kind == FKDA_GATE_SOFTPLUS && is_f32) gate_row(gate, FKDA_GATE_SOFTPLUS, g, FKDA_F32, K, alpha, gate_cum);
    else if (gate->kind == FKDA_GATE_SOFTPLUS) gate_row(gate, FKDA_GATE_SOFTPLUS, g, FKDA_BF16, K, alpha, gate_cum);
    else if (is_f32) gate_row(gate, FKDA_GATE_PRECOMPUTED, g, FKDA_F32, K, alpha, gate_cum);
    else gate_row(gate, FKDA_GATE_PRECOMPUTED, g, FKDA_BF16, K, alpha, gate_cum);
}

/* S' = gate_last S + (gate_keep & S). Near 1, 2^gate_cum - 1 and one fma round a slow decay once, relative to what is lost: the plain product
 * would round 1 - 1e-4 the same way thousands of times. Elsewhere 2^gate_cum itself keeps the precision of what is left. */
static void close_chunk(int64_t K, fkdai_cpu_chunk *chunk)
{
    for (int64_t c = 0; c < K; c += VL) {
        const vf x = v_load(chunk->gate_cum + c), near_one = v_set1(-0.5f);
        v_store(chunk->gate_last + c, v_select_less(near_one, x, v_expm1_small(x * v_set1(0.693147181f)), v_exp2(x)));
        v_store(chunk->gate_keep + c, v_mask_less(near_one, x));
    }
}

/* beta [C] = multiplier sigmoid(beta) */
static void activate_beta(float multiplier, float *beta)
{
    for (int i = 0; i < FKDAI_CPU_CHUNK; i += VL) {
        const vf t = v_max(v_set1(-126.0f), v_min(v_set1(126.0f), v_load(beta + i) * v_set1(-LOG2_E)));
        v_store(beta + i, v_set1(multiplier) / (v_set1(1.0f) + v_exp2(t)));
    }
}

/* ukr_gate.h for NEON. */
#include "vec__neon.h"
#include "ukr_gate.h"
#include "ukr_list.h"

void ukr_gate_1x4__neon(const fkdai_cpu_gate *gate, const void *g, fkda_dtype dtype, int64_t K, float *alpha, float *gate_cum)
{
    gate_any(gate, g, dtype, K, alpha, gate_cum);
}

void ukr_close_1x4__neon(int64_t K, fkdai_cpu_chunk *chunk) { close_chunk(K, chunk); }

void ukr_sigmoid_1x4__neon(float multiplier, float *beta) { activate_beta(multiplier, beta); }

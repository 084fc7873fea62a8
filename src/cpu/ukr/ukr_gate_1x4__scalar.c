/* ukr_gate.h in C. */
#include "vec__scalar.h"
#include "ukr_gate.h"
#include "ukr_list.h"

void ukr_gate_1x4__scalar(const fkdai_cpu_gate *gate, const void *g, fkda_dtype dtype, int64_t K, float *alpha, float *gate_cum)
{
    gate_any(gate, g, dtype, K, alpha, gate_cum);
}

void ukr_close_1x4__scalar(int64_t K, fkdai_cpu_chunk *chunk) { close_chunk(K, chunk); }

void ukr_sigmoid_1x4__scalar(float multiplier, float *beta) { activate_beta(multiplier, beta); }

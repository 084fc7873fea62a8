/* ukr_gate.h for AVX2 and FMA. */
#include "vec__avx2.h"
#include "ukr_gate.h"
#include "ukr_list.h"

void ukr_gate_1x8__avx2(const fkdai_cpu_gate *gate, const void *g, fkda_dtype dtype, int64_t K, float *alpha, float *gate_cum)
{
    gate_any(gate, g, dtype, K, alpha, gate_cum);
}

void ukr_close_1x8__avx2(int64_t K, fkdai_cpu_chunk *chunk) { close_chunk(K, chunk); }

void ukr_sigmoid_1x8__avx2(float multiplier, float *beta) { activate_beta(multiplier, beta); }

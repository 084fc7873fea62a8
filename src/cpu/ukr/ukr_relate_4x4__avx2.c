/* ukr_relate.h for AVX2 and FMA. */
#include "vec__avx2.h"
#include "ukr_relate.h"
#include "ukr_list.h"

void ukr_relate_4x4__avx2(const fkdai_cpu_group *group, int b, int64_t K, fkdai_cpu_chunk *chunk) { relate_group(group, b, K, chunk); }

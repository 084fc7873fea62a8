/* ukr_relate.h for AVX-512. */
#include "vec__avx512.h"
#include "ukr_relate.h"
#include "ukr_list.h"

void ukr_relate_4x4__avx512(const fkdai_cpu_group *group, int b, int64_t K, fkdai_cpu_chunk *chunk) { relate_group(group, b, K, chunk); }

/* ukr_relate.h for NEON. */
#include "vec__neon.h"
#include "ukr_relate.h"
#include "ukr_list.h"

void ukr_relate_4x4__neon(const fkdai_cpu_group *group, int b, int64_t K, fkdai_cpu_chunk *chunk) { relate_group(group, b, K, chunk); }

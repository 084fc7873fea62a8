/* cu_seqlens: reading and checking it. */
#include "sequences.h"

#include <inttypes.h>

#include "dtype.h"
#include "status.h"

fkdai_sequence fkdai_sequence_at(const fkda_fwd_desc *desc, const void *cu_seqlens, int64_t n)
{
    if (desc->cu_seqlens == FKDA_NONE) return (fkdai_sequence){.batch = n, .begin = 0, .end = desc->T};
    return (fkdai_sequence){.batch = 0,
                            .begin = fkdai_load_index(cu_seqlens, desc->cu_seqlens, n),
                            .end = fkdai_load_index(cu_seqlens, desc->cu_seqlens, n + 1)};
}

fkda_status fkdai_check_cu_seqlens(const fkda_fwd_desc *desc, const void *cu_seqlens, const char *source)
{
    int64_t before = fkdai_load_index(cu_seqlens, desc->cu_seqlens, 0);
    REQUIRE(before == 0, FKDA_ERR_CU_SEQLENS, "cu_seqlens[0] = %" PRId64 ", but it must be 0%s", before, source);
    for (int64_t n = 1; n <= desc->N; ++n) {
        const int64_t bound = fkdai_load_index(cu_seqlens, desc->cu_seqlens, n);
        REQUIRE(bound >= before, FKDA_ERR_CU_SEQLENS, "cu_seqlens[%" PRId64 "] = %" PRId64 " is below the entry before it, %" PRId64 "%s", n,
                bound, before, source);
        REQUIRE(bound <= desc->T, FKDA_ERR_CU_SEQLENS, "cu_seqlens[%" PRId64 "] = %" PRId64 " is beyond T = %" PRId64 "%s", n, bound, desc->T,
                source);
        before = bound;
    }
    return FKDA_OK;
}

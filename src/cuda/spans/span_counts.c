/* So many entries of each kind a call can have. */
#include "backend/span_call.h"

static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }

fkdai_span_counts fkdai_span_count(int64_t N, int64_t T, int is_packed, fkdai_span_rule rule)
{
    const int64_t behind = T <= rule.first ? 0 : (T - rule.first + rule.next - 1) / rule.next;    /* the first span, of a sequence that has all tokens */
    if (behind == 0) return (fkdai_span_counts){.late = N};
    if (!is_packed) return (fkdai_span_counts){.own = N * behind, .transitions = N * (behind - 1), .late = N * behind, .cut = N};
    /* One late entry more than there can be: where cu_seqlens is broken, all checkpoints of the caller have a place among theirs. */
    return (fkdai_span_counts){.own = behind, .transitions = behind - 1, .late = N + behind, .cut = lesser(N, T / (rule.first + 1))};
}

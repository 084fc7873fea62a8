/* So many entries of each kind a call can have. */
#include "backend/span_call.h"

fkdai_span_counts fkdai_span_count(int64_t N, int64_t T, int is_packed, fkdai_span_rule rule)
{
    const int64_t behind = T <= rule.first ? 0 : (T - rule.first + rule.next - 1) / rule.next;    /* the first span, of a sequence that has all tokens */
    const int64_t may_be_cut = T / (rule.first + 1);
    if (!is_packed) return (fkdai_span_counts){.all = N + N * behind, .own = behind > 0 ? N + N * behind : 0, .transitions = behind > 0 ? N * (behind - 1) : 0,
                                                  .cut = behind > 0 ? N : 0};
    const int64_t cut = N < may_be_cut ? N : may_be_cut;
    return (fkdai_span_counts){.all = N + behind, .own = behind + cut, .transitions = behind > 0 ? behind - 1 : 0, .cut = cut};
}

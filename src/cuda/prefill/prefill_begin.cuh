// prefill_begin.cuh: what every block does before its roles: the schedule, and whether there is anything to do.
#pragma once

#include "prefill_plan.cuh"
#include "prefill_refuse.cuh"

namespace fkdai::prefill {

// Of all threads of a block: is the work of this call that of solo workers, or of pairs? Where only the device knows, both kernels are
// launched, solo first, and one of them ends here. A call with broken cu_seqlens is nobody's.
template <int threads>
__device__ __forceinline__ bool has_work(const Params &p, bool is_solo, void *scratch) {
    await_previous_kernel();
    if (p.schedule.is_own && !p.schedule.is_made) make_schedule<threads>(p, p.schedule_here(), scratch);
    if (seqlens_are_broken<threads>(p)) {
        if (!p.is_second) refuse<threads>(p);
        return false;
    }
    const Cut *const cut = p.schedule_here().cut;
    return cut == nullptr || cut->is_solo == is_solo;
}

}  // namespace fkdai::prefill

// One fused kernel, in three mappings of jobs to blocks; a job is one (sequence, head). See prefill.md.
//
//     S <- Diag(alpha) S;  u = beta (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
//
// Quad and duo: the four or two CTAs of a cluster share a job; solo: a CTA has one for itself. The same operations in the same order, so the
// same bits; who does them differs. The host chooses quad (clusters are of four then) where there are few jobs; between the others, where only
// the device knows the lengths, it chooses.
#pragma once

#include "prefill_sm90/mapping/duo_roles.cuh"
#include "device/dependent_launch.cuh"
#include "prefill_sm90/roles/refuse.cuh"
#include "schedule/make_schedule.cuh"
#include "prefill_sm90/mapping/quad_roles.cuh"
#include "prefill_sm90/mapping/solo_roles.cuh"

namespace fkdai::prefill {

static_assert(duo::kStages >= solo::kStages && duo::kStages >= quad::kOwnStages, "the stages of both begin where shared memory does: their triangles lie in the same places");

inline constexpr int kSharedBytes = (sizeof(duo::Smem) > sizeof(solo::Smem) ? sizeof(duo::Smem) : sizeof(solo::Smem)) + 1024;  // dynamic_shared

inline constexpr int kPlanThreads = 1024;

// FKDAI_SCHEDULE_ONCE: one block.
__global__ void __launch_bounds__(kPlanThreads) plan_kernel(Timeline timeline) {
    __shared__ int scratch[2 * kPlanThreads / 32];
    release_next_kernel();
    make_schedule<kChunk, kPlanThreads>(timeline, timeline.schedule, scratch);
}

// is_raw: q and k have no norm, which is rare; so only solo is compiled for it.
template <GateKind kind, bool is_raw>
__global__ void __launch_bounds__(kThreads, 1) prefill_kernel(const __grid_constant__ Params p) {
    mark_block(mark_block_begins, thread_here() == 0);
    const uint32_t base = uniform(shared_address(&dynamic_shared<solo::Smem>()));
    const duo::View duo{&dynamic_shared<duo::Smem>(), base};
    const quad::View preparer{&dynamic_shared<quad::Smem>(), base};
    const solo::View solo{&dynamic_shared<solo::Smem>(), base};
    // Maps and barriers by a warp each, side by side.
    if (thread_here() == kThreads - 64) prefetch_map(p.q), prefetch_map(p.k), prefetch_map(p.g), prefetch_map(p.v);
    clear_triangles<duo::kStages, kThreads>(duo);
    await_previous_kernel();
    mark_block(mark_block_may_read, thread_here() == 0);
    if (p.schedule.is_own) make_schedule<kChunk, kThreads>(p, p.schedule_here(), solo->akk);
    const Cut *const cut = p.schedule_here().cut;
    const bool is_solo = is_raw || uniform(cut != nullptr ? cut->kind == kSingleKind : p.mapping == FKDAI_SOLO);
    if (thread_here() == kThreads - 32) {
        if (is_solo) solo::init_barriers(solo);
        else if (p.mapping == FKDAI_QUAD) quad::init_barriers(duo, preparer);
        else duo::init_barriers(duo);
        fence_barrier_init();
    }
    if (seqlens_are_broken<kThreads>(p)) return refuse<kThreads>(p);  // all blocks do
    __syncthreads();
    mark_block(mark_block_has_barriers, thread_here() == 0);
    if (is_solo) return solo::run<kind, is_raw>(p, solo);
    if constexpr (!is_raw) {
        if ((p.mapping & FKDAI_QUAD) != 0) quad::run<kind>(p, duo, preparer);  // so written, quads' code comes first: see kernel_ledger.json
        else duo::run<kind>(p, duo);
    }
}

}  // namespace fkdai::prefill

// prefill_kernel.cuh: one fused kernel, in three mappings of (sequence, head) pairs to blocks. See prefill.md.
//
//     S <- Diag(alpha) S;  u = beta (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^        32 tokens at a time
//
// Quad and pair: the four or two CTAs of a cluster share a pair; solo: a CTA has one for itself. The same operations in the same order, so the
// same bits; who does them differs. The host chooses quad (clusters are of four then) where there are few pairs; between the others, where only
// the device knows the lengths, it chooses.
#pragma once

#include "pair_roles.cuh"
#include "prefill_plan.cuh"
#include "prefill_refuse.cuh"
#include "quad_roles.cuh"
#include "solo_roles.cuh"

namespace fkdai::prefill {

static_assert(pair::kOwnStages + pair::kReceivedStages == solo::kStages, "their triangles lie in the same places");

inline constexpr int kSharedBytes = (sizeof(pair::Smem) > sizeof(solo::Smem) ? sizeof(pair::Smem) : sizeof(solo::Smem)) + 1024;  // dynamic_shared

__global__ void __launch_bounds__(kThreads, 1) prefill_kernel(const __grid_constant__ Params p) {
    const uint32_t base = uniform(shared_address(&dynamic_shared<solo::Smem>()));
    const pair::View pair{&dynamic_shared<pair::Smem>(), base};
    const solo::View solo{&dynamic_shared<solo::Smem>(), base};
    // Maps and barriers by a warp each, side by side.
    if (thread_here() == kThreads - 64) prefetch_map(p.q), prefetch_map(p.k), prefetch_map(p.g), prefetch_map(p.v);
    clear_triangles<solo::kStages, kThreads>(solo);
    await_previous_kernel();
    if (p.schedule.is_own) make_schedule<kThreads>(p, p.schedule_here(), solo->akk);
    const Cut *const cut = p.schedule_here().cut;
    const bool is_solo = uniform(cut != nullptr ? cut->is_solo : p.workers.pair == 0);
    if (thread_here() == kThreads - 32) {
        if (is_solo) solo::init_barriers(solo);
        else if (p.relay != nullptr) quad::init_barriers(pair);
        else pair::init_barriers(pair);
        fence_barrier_init();
    }
    if (seqlens_are_broken<kThreads>(p)) return refuse<kThreads>(p);  // all blocks do
    __syncthreads();
    if (is_solo) solo::run(p, solo);
    else if (p.relay != nullptr) quad::run(p, pair);
    else pair::run(p, pair);
}

}  // namespace fkdai::prefill

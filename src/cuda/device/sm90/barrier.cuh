// mbarriers, local and across the cluster, named warpgroup barriers, and the fences between proxies.
//
// A barrier announces a fact ("the raw tiles have arrived"); its phase flips once per fact. What crosses the cluster
// is written by the copy engine, whose byte count orders it, or is the end of reading; so waits need no wider scope
// (acquire.cluster would invalidate the L1 cache at every wait).
#pragma once

#include <cstdint>

namespace fkdai {

__device__ __forceinline__ void barrier_init(uint32_t barrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

// After the last barrier_init, before any other thread or CTA may see the barriers.
__device__ __forceinline__ void fence_barrier_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// How many lanes arrive for a warp: one. Built for compute-sanitizer's racecheck all do, as it follows a barrier only from the threads
// that arrive on it, not through the __syncwarp before.
#ifdef FKDA_EVERY_LANE_ARRIVES
inline constexpr uint32_t kWarpArrivals = 32;
#else
inline constexpr uint32_t kWarpArrivals = 1;
#endif

// May some warps of a block arrive where its cluster meets, or wait there, long before others do? racecheck lets none go on before all have come.
inline constexpr bool kWarpsMeetApart = kWarpArrivals == 1;

// For all lanes of a warp, once what they did before is done.
__device__ __forceinline__ void warp_arrive(uint32_t barrier, int lane) {
    __syncwarp();
    if (kWarpArrivals > 1 || lane == 0) arrive(barrier);
}

// Arrive, and announce `bytes` that the copy engine will still deliver in this phase.
__device__ __forceinline__ void arrive_expecting(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// The same two on a barrier of another CTA of the cluster; `barrier` comes from `peer_address`. They say that reads
// are over or copies are coming; they publish no writes of their own. (With .release.cluster they would compile to
// a device-wide memory barrier, which waits for every output store in flight: 1.9 instead of 1.1 us a chunk.)
__device__ __forceinline__ void arrive_remote(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void arrive_expecting_remote(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cluster.b64 _, [%0], %1;"
                 ::"r"(barrier), "r"(bytes) : "memory");
}

// Never blocks.
__device__ __forceinline__ bool has_flipped(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n.reg .pred p;\n"
                 "mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    return done != 0;
}

__device__ __forceinline__ void wait(uint32_t barrier, uint32_t parity) {
    asm volatile("{\n.reg .pred p;\nagain:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                 "@p bra.uni done;\nbra.uni again;\ndone:\n}" ::"r"(barrier), "r"(parity) : "memory");
}

// For a whole warp of which one lane acts next: what that brings on may flip the barrier again, before a lane that looks later has seen this phase.
__device__ __forceinline__ void wait_together(uint32_t barrier, uint32_t parity) {
    wait(barrier, parity);
    __syncwarp();
}

__device__ __forceinline__ void wait_for_either(uint32_t barrier, uint32_t parity, uint32_t other, uint32_t other_parity) {
    while (!has_flipped(barrier, parity) && !has_flipped(other, other_parity)) {}
}

// Address of this CTA's `address` in the shared memory of CTA `rank` of the cluster.
__device__ __forceinline__ uint32_t peer_address(uint32_t address, uint32_t rank) {
    uint32_t remote;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
    return remote;
}

// All threads of the cluster's blocks meet. What the others are to see of this thread's writes goes before: barriers through fence_barrier_init,
// all else through fence_cluster. A release here would wait for every write to global memory on its way.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ void fence_cluster() { asm volatile("fence.acq_rel.cluster;" ::: "memory"); }

// Generic writes of this thread become visible to the copy engine and the tensor cores; and its generic reads are done
// before copies that a later arrival lets in (without it, a copy was seen to overtake an ldmatrix).
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// All threads of a block meet at a named barrier; a warp that arrives goes on, and counts as one that met.
template <int id, int threads>
__device__ __forceinline__ void block_sync() { asm volatile("bar.sync %0, %1;" ::"n"(id), "n"(threads) : "memory"); }
template <int id, int threads>
__device__ __forceinline__ void block_arrive() { asm volatile("bar.arrive %0, %1;" ::"n"(id), "n"(threads) : "memory"); }

// So many threads of a block meet, whole warps; whether it holds for one of them. Not side by side with another meeting of this number.
inline constexpr int kAnyBarrier = 15;
__device__ __forceinline__ bool block_or(int threads, bool holds) {
    uint32_t any;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.b32 p, %2, 0;\nbar.red.or.pred q, %3, %1, p;\nselp.u32 %0, 1, 0, q;\n}"
                 : "=r"(any) : "r"(threads), "r"(static_cast<uint32_t>(holds)), "n"(kAnyBarrier) : "memory");
    return any != 0;
}

// Two warps, or the four of a warpgroup, meet; `id` is 1..15 (0 is __syncthreads).
__device__ __forceinline__ void warp_pair_sync(int id) { asm volatile("bar.sync %0, 64;" ::"r"(id) : "memory"); }
__device__ __forceinline__ void warpgroup_sync(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }

// The end of a basic block, which ptxas moves no arithmetic across: a branch that is never taken, and comes back. number: never ~0.
__device__ __forceinline__ void end_block(uint32_t number) {
    asm volatile("{\n.reg .pred p;\n.reg .u32 x;\nmov.u32 x, %0;\nagain:\nsetp.ne.u32 p, x, 0xffffffff;\n@p bra.uni done;\n"
                 "mov.u32 x, %%clock;\nbra.uni again;\ndone:\n}" ::"r"(number) : "memory");
}

// They meet; whether it holds for all of them: not 0. A warp's lanes agree.
__device__ __forceinline__ uint32_t warpgroup_and(int id, bool holds) {
    uint32_t all;
    asm volatile("{\n.reg .pred p, q;\nsetp.ne.b32 p, %2, 0;\n"
                 "bar.red.and.pred q, %1, 128, p;\nselp.u32 %0, 1, 0, q;\n}" : "=r"(all) : "r"(id), "r"(static_cast<uint32_t>(holds)) : "memory");
    return all;
}
// The same, and the compiler knows that they agree.
__device__ __forceinline__ bool warpgroup_all(int id, bool holds) { return __any_sync(~0u, warpgroup_and(id, holds)); }

}  // namespace fkdai

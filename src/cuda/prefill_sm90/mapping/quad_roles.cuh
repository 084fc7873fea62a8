// Quad: a cluster of four CTAs works on a job. Two run the recurrence and make O, for one half of V each; two prepare alternate chunks and send them
// to both. Octet: a cluster of eight, of which two run the recurrence, two follow and make O, four prepare.
#pragma once

#include "device/sm90/registers.cuh"
#include "prefill_sm90/mapping/duo_load.cuh"
#include "prefill_sm90/mapping/duo_norms.cuh"
#include "prefill_sm90/mapping/duo_operands.cuh"
#include "prefill_sm90/mapping/duo_roles.cuh"
#include "prefill_sm90/mapping/octet_chain.cuh"
#include "prefill_sm90/mapping/octet_out.cuh"
#include "prefill_sm90/mapping/quad_chain.cuh"
#include "prefill_sm90/mapping/quad_copy.cuh"
#include "prefill_sm90/mapping/quad_send.cuh"
#include "prefill_sm90/mapping/quad_store.cuh"
#include "prefill_sm90/mapping/quad_values.cuh"
#include "prefill_sm90/roles/find_segments.cuh"

namespace fkdai::prefill::quad {

// What a launch gives each thread may be less than a role wants, or more.
template <class Shape, int registers>
__device__ __forceinline__ void set_registers() {
    if constexpr (registers > Warps<Shape>::kLaunchRegisters) grow_registers<registers>();
    else shrink_registers<registers>();
}

// What a rank is.
template <class Shape>
struct Part {
    int rank;
    static constexpr bool has_outs = Shape::kOuts > 0;
    __device__ __forceinline__ bool is_chain() const { return rank < kChains; }
    __device__ __forceinline__ bool is_preparer() const { return rank >= kReceivers<Shape>; }
    __device__ __forceinline__ bool makes_out() const { return !has_outs || !is_chain(); }  // of a receiver
    __device__ __forceinline__ int half() const { return rank % kHalves; }                  // likewise
    __device__ __forceinline__ int preparer() const { return rank - kReceivers<Shape>; }
};

template <class Shape>
__device__ __forceinline__ void init_receiver(const Params &p, const ChainView<Shape> &s, Part<Shape> part) {
    const ChainBarriers<Shape> &b = s->barriers;
    for (int i = 0; i < Shape::kStages; i++) {
        barrier_init(s.at(b.chunk_ready[i]), 3 + (part.makes_out() ? kWarpArrivals : 0));
        barrier_init(s.at(b.chunk_done[i]), 4 * kWarpArrivals);
    }
    for (int i = 0; i < kOutStages; i++) barrier_init(s.at(b.out_ready[i]), 4 * kWarpArrivals);
    barrier_init(s.at(b.follower_begun), 4 * kWarpArrivals);
    barrier_init(s.at(b.checkpoint_ready), 4 * kWarpArrivals);
    barrier_init(s.at(b.checkpoint_free), kWarpArrivals);
    init_segment_queue(s, 4 + 1 + checkpoints_are_copied<Shape>(p));
}
template <class Shape>
__device__ __forceinline__ void init_preparer(const View<Shape> &s) {
    const Barriers<Shape> &b = s->barriers;
    for (int i = 0; i < kOwnStages; i++) {
        barrier_init(s.at(b.norms_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.operands_ready[i]), 4 * kWarpArrivals);
        barrier_init(s.at(b.stage_free[i]), 1 + (Shape::kSolvesAside ? 0 : kWarpArrivals));
    }
    for (int i = 0; i < kMostScores; i++) {
        barrier_init(s.at(b.scores_ready[i]), 2 * kWarpArrivals);
        barrier_init(s.at(b.scores_free[i]), kWarpArrivals);
    }
    for (int i = 0; i < kReleases; i++) barrier_init(s.at(b.stage_released[i]), kReceivers<Shape>);
    if (Warps<Shape>::kLoadsApart) init_segment_queue(s, 1);
}
template <class Shape>
__device__ __forceinline__ void init_barriers(const Params &p, const ChainView<Shape> &receiver, const View<Shape> &preparer, Part<Shape> part) {
    if (part.is_preparer()) init_preparer<Shape>(preparer);
    else init_receiver<Shape>(p, receiver, part);
}

template <GateKind kind, class Shape>
using Loads = duo::LoadRole<Smem<Shape>, kind, false>;

template <GateKind kind, class Shape>
__device__ __forceinline__ GateRequest request_only_gate(const Params &p, Part<Shape> part) {
    if (!Shape::kIsLone || !part.is_preparer() || thread_here() >= 32 * Warps<Shape>::kFirst) return {};
    return prefill::request_only_gate<kind>(p, blockIdx.x / kRanks<Shape>, thread_here() / 32);
}

// The warpgroup that holds the state.
template <class Shape>
__device__ __forceinline__ void run_state(const Params &p, const ChainView<Shape> &s, Part<Shape> part, int cluster, int warp, int lane) {
    if constexpr (!part.has_outs) return ChainRole<Shape>{{p, s, part.half(), cluster, warp, lane}}.run();
    else if (part.is_chain()) return OctetChainRole<Shape>{{p, s, part.half(), cluster, warp, lane}}.run();
    else return OutRole<Shape>{{p, s, part.half(), cluster, warp, lane}}.run();
}

// The single warps of a CTA that chunks are sent to.
template <class Shape>
__device__ __forceinline__ void run_receiver_singles(const Params &p, const ChainView<Shape> &s, Part<Shape> part, int cluster, int warp, int lane) {
    const bool may_copy = Shape::kCopies > 0 && warp >= Warps<Shape>::kFirstNorm;
    if (warp < Warps<Shape>::kValue || (!may_copy && warp >= Warps<Shape>::kFirstNorm)) return shrink_registers<duo::kIdleRegisters>();
    set_registers<Shape, kReceiverRegisters>();
    if (warp == Warps<Shape>::kValue) {
        if (part.is_chain()) ValueRole<Shape, true>{p, s, part.half(), lane}.run();
        else if (part.has_outs) ValueRole<Shape, false>{p, s, part.half(), lane}.run();
    } else if (warp == Warps<Shape>::kRelease) {
        ReleaseRole<Shape>{p, s, lane}.run();
    } else if (warp == Warps<Shape>::kStore) {
        if (part.makes_out()) StoreRole<Shape>{{p, s, part.half(), lane}}.run();
    } else if (warp == Warps<Shape>::kFind) {
        FindRole<ChainSmem<Shape>>{{p, s, cluster, part.half(), 1}}.run();
    } else if (Shape::kCopies > 0 && warp == Warps<Shape>::kCopy && checkpoints_are_copied<Shape>(p)) {
        CopyRole<Shape>{p, s, part.half(), cluster, part.is_chain(), lane}.run();
    }
}

template <class Shape>
__device__ __forceinline__ void run_receiver(const Params &p, const ChainView<Shape> &s, Part<Shape> part, int cluster, int warp, int lane) {
    if (warp >= 4) return run_receiver_singles(p, s, part, cluster, warp, lane);
    grow_registers<kChainRegisters>();
    run_state(p, s, part, cluster, warp, lane);
}

// Loads that have a warpgroup of their own, with few registers: segments are found by another warp then. All of them meet the cluster in one place, as
// in duo::run.
template <GateKind kind, class Shape>
__device__ __forceinline__ void run_loads_apart(const Params &p, const View<Shape> &s, int preparer, int cluster, int warp, int lane) {
    using W = Warps<Shape>;
    const Loads<kind, Shape> load{p, s, preparer, cluster, lane};
    shrink_registers<duo::kFindRegisters>();
    if (warp == W::kLoad && !may_ask_first(p)) load.run_early();
    cluster_wait();
    if (warp == W::kLoad) load.run(ChunkIterator<QueueReader<Smem<Shape>>>{{s}});
    else if (warp == W::kLoad + 1) FindRole<Smem<Shape>, false>{{p, s, cluster, 0, 0}}.run();
}

// The single warps of a preparer.
template <GateKind kind, class Shape>
__device__ __forceinline__ void run_singles(const Params &p, const View<Shape> &s, int preparer, int cluster, int warp, int lane) {
    using W = Warps<Shape>;
    const Loads<kind, Shape> load{p, s, preparer, cluster, lane};
    const bool loads = !W::kLoadsApart && warp == W::kLoad;
    set_registers<Shape, Shape::kSingleRegisters>();
    if (loads && !may_ask_first(p)) load.run_early();
    cluster_wait();
    mark_block(mark_block_has_met, warp == W::kSend && lane == 0);
    if (loads) return load.run(ChunkIterator<OwnSegments<Smem<Shape>>>{{{p, s, cluster, 0, 0}}});
    if (warp == W::kSend) return SendRole<Shape>{p, s, preparer, cluster, lane}.run();
    SolveRole<Shape>{{p, s, warp - W::kFirstSolve, preparer, lane}}.run();
}

// Registers first: the last operand group waits for those that all other warps give back, and it has the first chunk. Then the cluster meets. Of code
// that ends with a return ptxas puts what follows in front, so the operands come first, then norms, T, the send warp: a launch prefetches 64 KB.
template <GateKind kind, class Shape>
__device__ __forceinline__ void run_preparer(const Params &p, const View<Shape> &s, int preparer, int cluster, int warp, int lane, const GateRequest &gate) {
    using W = Warps<Shape>;
    constexpr bool is_ahead = Shape::kFours == 1 && (!Shape::kHolds || kind == GateKind::Bounded);  // other gates leave too few registers
    constexpr Pace pace{Shape::kFours, Shape::kTurn, Shape::kHolds, is_ahead, true};
    if (warp >= W::kFirst) {
        if constexpr (W::kLoadsApart)
            if (warp >= W::kLoad) return run_loads_apart<kind>(p, s, preparer, cluster, warp, lane);
        if (warp < W::kFirstNorm) return run_singles<kind>(p, s, preparer, cluster, warp, lane);
        shrink_registers<Shape::kNormRegisters>();
        cluster_wait();
        return duo::NormRole<Smem<Shape>>{p, s, preparer, warp - W::kFirstNorm, lane}.run();
    }
    grow_registers<Shape::kGroupRegisters>();
    if (!kWarpsMeetApart) cluster_wait();  // else late, as operand warps touch no other CTA
    duo::OperandRole<Smem<Shape>, kind, pace, false>{p, s, warp / 4, preparer, cluster, warp % 4, lane}.run(gate);
    if (kWarpsMeetApart) cluster_wait();
}

// What a block does once its barriers stand; the cluster meets as in duo, but for preparers, which take their registers before.
template <GateKind kind, class Shape>
__device__ __forceinline__ void run(const Params &p, const ChainView<Shape> &receiver, const View<Shape> &preparer, Part<Shape> part, const GateRequest &gate) {
    const int warp = __shfl_sync(~0u, thread_here() / 32, 0);
    const int lane = Shape::kKeepsLane ? static_cast<int>(kept(lane_here(), lane_here())) : lane_here();
    const int cluster = blockIdx.x / kRanks<Shape>;
    bool has_left = false;
    cluster_arrive();
    if (part.is_preparer()) {
        run_preparer<kind, Shape>(p, preparer, part.preparer(), cluster, warp, lane, gate);
    } else {
        cluster_wait();
        mark_block(mark_block_has_met, thread_here() == 0);
        run_receiver<Shape>(p, receiver, part, cluster, warp, lane);
        has_left = leaves_early<ChainSmem<Shape>> && warp < 4 && part.is_chain();
    }
    __syncwarp();
    // Whoever arrives in another CTA, unless all such arrivals have been waited for there. It waits for stores: not the find role, whose last segment's
    // state has just left.
    if (!has_the_only<ChainSmem<Shape>> && (part.is_preparer() ? warp >= Warps<Shape>::kSend : warp == Warps<Shape>::kRelease)) fence_cluster();
    mark_block(mark_block_ends, thread_here() == 0);
    if (!has_left) cluster_arrive();
    cluster_wait();
    mark_block(mark_block_has_parted, thread_here() == 0);
}

}  // namespace fkdai::prefill::quad

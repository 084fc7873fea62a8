// Host stand-in for src/cuda/device/barrier.cuh.
#pragma once
#include "emulator.h"

namespace fkdai {

inline void barrier_init(uint32_t barrier, uint32_t arrivals) {
    emulator::mbarrier(barrier) = {static_cast<int16_t>(arrivals), static_cast<int16_t>(arrivals), 0, 0};
}
inline void fence_barrier_init() {}
inline void arrive(uint32_t barrier) {
    emulator::Mbarrier &b = emulator::mbarrier(barrier);
    b.pending--;
    b.settle();
}
inline constexpr uint32_t kWarpArrivals = 1;
inline constexpr bool kWarpsMeetApart = true;
inline constexpr int kAnyBarrier = 15;
inline void warp_arrive(uint32_t barrier, int lane) {
    __syncwarp();
    if (lane == 0) arrive(barrier);
}
inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
    emulator::mbarrier(barrier).expect(bytes);
    arrive(barrier);
}
inline void arrive_remote(uint32_t barrier) { arrive(barrier); }
inline void arrive_expecting_remote(uint32_t barrier, uint32_t bytes) { arrive_expecting(barrier, bytes); }
inline bool has_flipped(uint32_t barrier, uint32_t parity) { return emulator::mbarrier(barrier).phase != parity; }
inline void wait(uint32_t barrier, uint32_t parity) {
    emulator::Mbarrier &b = emulator::mbarrier(barrier);
    emulator::block_until([&b, parity] { return b.phase != parity; });
}
inline void wait_together(uint32_t barrier, uint32_t parity) {
    wait(barrier, parity);
    __syncwarp();
}
inline void wait_for_either(uint32_t barrier, uint32_t parity, uint32_t other, uint32_t other_parity) {
    emulator::block_until([=] { return has_flipped(barrier, parity) || has_flipped(other, other_parity); });
}
inline uint32_t peer_address(uint32_t address, uint32_t rank) { return (address & emulator::kInBlock) | rank << emulator::kRankShift; }
inline void cluster_arrive() { emulator::arrive_at_cluster(); }
inline void cluster_wait() { emulator::wait_for_cluster(); }
inline void fence_cluster() {}
inline void fence_async_proxy() {}
inline void warpgroup_sync(int id) {
    emulator::Thread &t = emulator::self();
    emulator::meet(t.own().named[id], t.thread.x % 128, nullptr, [](void **) {});
}
inline void warp_pair_sync(int id) {
    emulator::Thread &t = emulator::self();
    t.own().named[id].expected = 64;
    emulator::meet(t.own().named[id], t.thread.x % 64, nullptr, [](void **) {});
}
template <int id, int threads>
emulator::Meeting &block_meeting() {
    emulator::Meeting &m = emulator::self().own().blocks[id];
    m.expected = threads;
    return m;
}
template <int id, int threads>
void block_sync() { emulator::meet(block_meeting<id, threads>(), emulator::self().thread.x, nullptr, [](void **) {}); }
template <int id, int threads>
void block_arrive() { emulator::arrive(block_meeting<id, threads>()); }
inline bool block_or(int threads, bool holds) { return emulator::block_or(static_cast<unsigned>(threads), holds); }
inline void end_block(uint32_t) {}
inline uint32_t warpgroup_and(int id, bool holds) {
    emulator::Thread &t = emulator::self();
    emulator::meet(t.own().named[id], t.thread.x % 128, &holds, [](void **each) {
        bool all = true;
        for (int i = 0; i < 128; i++) all = all && *static_cast<bool *>(each[i]);
        for (int i = 0; i < 128; i++) *static_cast<bool *>(each[i]) = all;
    });
    return holds;
}
inline bool warpgroup_all(int id, bool holds) { return warpgroup_and(id, holds) != 0; }

}  // namespace fkdai

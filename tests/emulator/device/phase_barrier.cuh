// Host stand-in for src/cuda/device/phase_barrier.cuh.
#pragma once
#include "emulator.h"

namespace fkdai {

struct PhaseBarrier {
    uint32_t address;

    void init(uint32_t arrivals) const { emulator::mbarrier(address) = {static_cast<int16_t>(arrivals), static_cast<int16_t>(arrivals), 0, 0}; }
    void arrive(int lane) const {
        __syncwarp();
        if (lane != 0) return;
        emulator::Mbarrier &b = emulator::mbarrier(address);
        b.pending--;
        b.settle();
    }
    void wait(uint32_t parity) const {
        emulator::Mbarrier &b = emulator::mbarrier(address);
        emulator::block_until([&b, parity] { return b.phase != parity; });
        __syncwarp();
    }
};

template <int threads>
void warps_meet(int id) {
    emulator::Thread &t = emulator::self();
    emulator::Meeting &m = t.own().named[id];
    if (m.expected != threads) m = emulator::Meeting(threads);
    emulator::meet(m, t.thread.x % threads, nullptr, [](void **) {});
}

}  // namespace fkdai

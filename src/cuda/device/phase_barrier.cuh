// Barriers inside a block that every GPU since sm_80 has: mbarriers that announce a fact, and meetings of some of the block's warps.
//
// A PhaseBarrier flips once its arrivals are there; a wait names the parity of the phase that is to end.
#pragma once

#include <cstdint>

namespace fkdai {

struct PhaseBarrier {
    // Of an arriving warp: one. Built for compute-sanitizer's racecheck all arrive, as it follows a barrier only from the threads that do.
#ifdef FKDA_EVERY_LANE_ARRIVES
    static constexpr uint32_t kArrivals = 32;
#else
    static constexpr uint32_t kArrivals = 1;
#endif

    uint32_t address;  // of 8 bytes of shared memory

    // warps: that arrive in a phase.
    __device__ __forceinline__ void init(uint32_t warps) const {
        asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(address), "r"(warps * kArrivals) : "memory");
    }
    // For all lanes of a warp, once what they did before is done.
    __device__ __forceinline__ void arrive(int lane) const {
        __syncwarp();
        if (kArrivals > 1 || lane == 0) asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(address) : "memory");
    }
    __device__ __forceinline__ void wait(uint32_t parity) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
        asm volatile("{\n.reg .pred p;\nagain:\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
                     "@p bra.uni done;\nbra.uni again;\ndone:\n}" ::"r"(address), "r"(parity) : "memory");
#else
        uint32_t done;
        do {
            asm volatile("{\n.reg .pred p;\n"
                         "mbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n"
                         "selp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(address), "r"(parity) : "memory");
        } while (done == 0);
#endif
        __syncwarp();
    }
};

// Whole warps, `threads` in all, meet; `id` is 1..15 (0 is __syncthreads).
template <int threads>
__device__ __forceinline__ void warps_meet(int id) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "n"(threads) : "memory");
}

}  // namespace fkdai

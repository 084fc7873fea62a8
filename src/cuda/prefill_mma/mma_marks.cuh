// Clock marks of a step's moments, for tests/gpu/mma_marks, which builds the kernel with FKDA_MARKS. Otherwise nothing.
#pragma once

#include "device/scalar_math.cuh"

namespace fkdai::portable {

enum Mark : int {
#define FKDA_MARK(role, name) mark_##role##_##name,
#include "prefill_mma/mma_marks.def"
#undef FKDA_MARK
    kMarks
};

#ifdef FKDA_MARKS
inline constexpr int kMarkedSteps = 256;               // the first of the first block
__device__ unsigned marked_clock[kMarks][kMarkedSteps];
// By whole warps; the first lane of a role's first warp reads the clock.
__device__ __forceinline__ void mark(Mark moment, int step, bool is_reader) {
    if (blockIdx.x != 0 || step >= kMarkedSteps || !is_reader || lane_here() != 0) return;
    unsigned clock;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(clock)::"memory");
    marked_clock[moment][step] = clock;
}
#else
__device__ __forceinline__ void mark(Mark, int, bool) {}
#endif

}  // namespace fkdai::portable

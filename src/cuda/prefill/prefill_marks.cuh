// Clock marks of a chunk's moments, for tests/gpu/prefill_marks, which builds the kernel with FKDA_MARKS. Otherwise nothing.
#pragma once

#include <cstdint>

namespace fkdai::prefill {

enum Mark : int {
#define FKDA_MARK(role, name) mark_##role##_##name,
#include "prefill_marks.def"
#undef FKDA_MARK
    kMarks
};

#ifdef FKDA_MARKS
inline constexpr uint32_t kFirstMarked = 96, kMarkedChunks = 64;  // on the line of the first cluster: far from both ends
__device__ unsigned marked_clock[kMarks][kMarkedChunks];          // of the first CTA
__device__ __forceinline__ void mark(Mark moment, uint32_t chunk, bool is_reader) {
    if (blockIdx.x != 0 || chunk - kFirstMarked >= kMarkedChunks || !is_reader) return;
    unsigned clock;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(clock)::"memory");
    marked_clock[moment][chunk - kFirstMarked] = clock;
}
#else
__device__ __forceinline__ void mark(Mark, uint32_t, bool) {}
#endif

}  // namespace fkdai::prefill

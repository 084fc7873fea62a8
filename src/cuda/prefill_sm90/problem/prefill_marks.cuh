// Clock marks of a chunk's moments, for tests/gpu/prefill_marks, which builds the kernel with FKDA_MARKS. Otherwise nothing.
#pragma once

#include <cstdint>

namespace fkdai::prefill {

enum Mark : int {
#define FKDA_MARK(role, name) mark_##role##_##name,
#include "prefill_sm90/problem/prefill_marks.def"
#undef FKDA_MARK
    kMarks
};

#ifdef FKDA_MARKS
inline constexpr uint32_t kMarkedChunks = 256;            // the first on the timeline of the first cluster
__device__ unsigned marked_clock[kMarks][kMarkedChunks];  // of the first CTA of a cluster that has the role
__device__ unsigned long long marked_ns[kMarks][8];       // of the first eight blocks
__device__ __forceinline__ unsigned marked_block(Mark moment) {
    unsigned ranks;
    asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(ranks));
    if (moment < mark_state_begins) return ranks == 2 ? 0 : ranks == 8 ? 4 : 2;  // preparers come last
    return ranks == 8 && moment >= mark_out_waits ? 2 : 0;
}
__device__ __forceinline__ void mark_clock(Mark moment, uint32_t place) {
    unsigned clock;
    asm volatile("mov.u32 %0, %%clock;" : "=r"(clock)::"memory");
    marked_clock[moment][place] = clock;
}
__device__ __forceinline__ void mark(Mark moment, uint32_t chunk, bool is_reader) {
    if (blockIdx.x == marked_block(moment) && chunk < kMarkedChunks && is_reader) mark_clock(moment, chunk);
}
// Of the first eight blocks, each in a place of its own.
__device__ __forceinline__ void mark_block(Mark moment, bool is_reader) {
    if (blockIdx.x >= 8 || !is_reader) return;
    mark_clock(moment, blockIdx.x);
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(marked_ns[moment][blockIdx.x])::"memory");
}
#else
__device__ __forceinline__ void mark(Mark, uint32_t, bool) {}
__device__ __forceinline__ void mark_block(Mark, bool) {}
#endif

}  // namespace fkdai::prefill

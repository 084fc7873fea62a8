// The schedule of a call with many sequences, made once before its kernel (FKDAI_SCHEDULE_ONCE).
#pragma once

#include "schedule/make_schedule.cuh"
#include "prefill_sm90/problem/params.cuh"
#include "device/dependent_launch.cuh"

namespace fkdai::prefill {

inline constexpr int kPlanThreads = 1024;

// One block.
__global__ void __launch_bounds__(kPlanThreads, 1) plan_kernel(Timeline timeline) {
    __shared__ int scratch[2 * kPlanThreads / 32];
    release_next_kernel();
    make_schedule<kChunk, kPlanThreads>(timeline, timeline.schedule, scratch);
}

}  // namespace fkdai::prefill

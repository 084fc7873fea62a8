// emulated_kernels.h: the prefill kernels, compiled for the host once, whoever runs them.
#pragma once

#include "prefill_sm90/plan_kernel.cuh"
#include "prefill_sm90/prefill_kernel.cuh"

namespace emulated {

// One thread of the kernel that a launch with these parameters takes.
void prefill_thread(fkdai::GateKind kind, const fkdai::prefill::Params &p);

}  // namespace emulated

// emulated_kernels.h: the prefill kernels, compiled for the host once, whoever runs them.
#pragma once

#include "prefill_sm90/prefill_kernel.cuh"

namespace emulated {

// One thread of prefill_kernel<kind, p.is_raw>.
void prefill_thread(fkdai::prefill::GateKind kind, const fkdai::prefill::Params &p);

}  // namespace emulated

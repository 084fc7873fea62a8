// The kernels of a log-decay in bf16.
#include "prefill_sm90/prefill_kernels.cuh"

namespace fkdai::prefill {

const Kernels kPrecomputedKernels = kKernelsOf<GateKind::Precomputed>;

}  // namespace fkdai::prefill

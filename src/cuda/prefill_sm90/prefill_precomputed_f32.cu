// The kernels of a log-decay in fp32.
#include "prefill_sm90/prefill_kernels.cuh"

namespace fkdai::prefill {

const Kernels kPrecomputedF32Kernels = kKernelsOf<GateKind::PrecomputedF32>;

}  // namespace fkdai::prefill

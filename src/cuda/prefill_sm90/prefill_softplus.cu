// The kernels of the softplus gate.
#include "prefill_sm90/prefill_kernels.cuh"

namespace fkdai::prefill {

const Kernels kSoftplusKernels = kKernelsOf<GateKind::Softplus>;

}  // namespace fkdai::prefill

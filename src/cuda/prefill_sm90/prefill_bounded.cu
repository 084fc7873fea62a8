// The kernels of the bounded gate.
#include "prefill_sm90/prefill_kernels.cuh"

namespace fkdai::prefill {

const Kernels kBoundedKernels = kKernelsOf<GateKind::Bounded>;

}  // namespace fkdai::prefill

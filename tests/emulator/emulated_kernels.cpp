// emulated_kernels.cpp: all instances of the prefill kernel. Most of the time of a build of tests/emulator goes here.
#include "emulated_kernels.h"

namespace emulated {

using namespace fkdai;
using namespace fkdai::prefill;

namespace {

template <GateKind kind>
void run(const Params &p) {
    if (p.is_raw) prefill_kernel<kind, true>(p);
    else if (p.mapping == FKDAI_OCTET) prefill_cluster_kernel<kind, quad::Octet>(p);
    else if (p.mapping == FKDAI_QUINT) prefill_cluster_kernel<kind, quad::Quint>(p);
    else if (p.mapping == FKDAI_QUAD) prefill_cluster_kernel<kind, quad::QuadOf<kind>>(p);
    else prefill_kernel<kind, false>(p);
}

}  // namespace

void prefill_thread(GateKind kind, const Params &p) {
    switch (kind) {
        case GateKind::Bounded: return run<GateKind::Bounded>(p);
        case GateKind::Softplus: return run<GateKind::Softplus>(p);
        case GateKind::Precomputed: return run<GateKind::Precomputed>(p);
        case GateKind::PrecomputedF32: return run<GateKind::PrecomputedF32>(p);
    }
}

}  // namespace emulated

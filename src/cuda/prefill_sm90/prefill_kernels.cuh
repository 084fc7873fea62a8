// The kernels of each gate. Each gate is a source file of its own, as they take minutes to compile.
#pragma once

#include "prefill_sm90/prefill_kernel.cuh"

namespace fkdai::prefill {

struct Kernel {
    void (*function)(Params);
    int threads;
};
struct ClusterKernels {
    Kernel quad, quint, sextet, octet;
};
struct Kernels {
    Kernel any, raw;  // duo and solo; q and k without norm
    ClusterKernels cluster;
    // For plain calls (segments.cuh).
    Kernel plain_any, plain_duos, plain_duo, plain_solo;  // the latter two where each worker has one job; duos: of other gates any
    ClusterKernels plain_cluster;
};
extern const Kernels kBoundedKernels, kSoftplusKernels, kPrecomputedKernels, kPrecomputedF32Kernels;

template <GateKind kind, class Shape>
constexpr Kernel kClusterKernel{prefill_cluster_kernel<kind, Shape>, quad::Warps<Shape>::kThreads};
template <GateKind kind>
constexpr Kernels kKernelsOf{{prefill_kernel<kind, false>, kThreads},
                             {prefill_kernel<kind, true>, kThreads},
                             {kClusterKernel<kind, quad::QuadOf<kind>>, kClusterKernel<kind, quad::Quint>, kClusterKernel<kind, quad::Sextet>,
                              kClusterKernel<kind, quad::Octet>},
                             {prefill_plain_kernel<kind, PlainAny>, kThreads},
                             {prefill_plain_kernel<kind, std::conditional_t<kind == GateKind::Bounded, PlainDuos, PlainAny>>, kThreads},
                             {prefill_plain_kernel<kind, PlainDuo>, kThreads},
                             {prefill_plain_kernel<kind, PlainSolo>, kThreads},
                             {kClusterKernel<kind, quad::PlainQuadOf<kind>>, kClusterKernel<kind, quad::PlainQuint>,
                              kClusterKernel<kind, quad::PlainSextet>, kClusterKernel<kind, quad::PlainOctet>}};

}  // namespace fkdai::prefill

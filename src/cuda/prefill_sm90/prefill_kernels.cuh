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
    // For plain calls (segments.cuh): duo and solo, of sequences that are short or long on average; duos; the last three where each worker has one job. Of
    // other gates than the bounded one all with more jobs than workers are one kernel, and both solos are.
    Kernel plain_short, plain_long, plain_duos, plain_duo, plain_solo, plain_long_solo;
    ClusterKernels plain_cluster;
};
extern const Kernels kBoundedKernels, kSoftplusKernels, kPrecomputedKernels, kPrecomputedF32Kernels;

template <GateKind kind, class Shape>
constexpr Kernel kClusterKernel{prefill_cluster_kernel<kind, Shape>, quad::Warps<Shape>::kThreads};
template <GateKind kind, class Of>
constexpr Kernel kPlainKernel{prefill_plain_kernel<kind, Of>, kThreads};
template <GateKind kind>
constexpr Kernels kKernelsOf{{prefill_kernel<kind, false>, kThreads},
                             {prefill_kernel<kind, true>, kThreads},
                             {kClusterKernel<kind, quad::QuadOf<kind>>, kClusterKernel<kind, quad::Quint>, kClusterKernel<kind, quad::Sextet>,
                              kClusterKernel<kind, quad::Octet>},
                             kPlainKernel<kind, ByGate<kind, PlainShort, PlainAny>>,
                             kPlainKernel<kind, ByGate<kind, PlainLong, PlainAny>>,
                             kPlainKernel<kind, ByGate<kind, PlainDuos, PlainAny>>,
                             kPlainKernel<kind, PlainDuo>,
                             kPlainKernel<kind, PlainSolo>,
                             kPlainKernel<kind, ByGate<kind, PlainLongSolo, PlainSolo>>,
                             {kClusterKernel<kind, quad::PlainQuadOf<kind>>, kClusterKernel<kind, quad::PlainQuint>,
                              kClusterKernel<kind, quad::PlainSextet>, kClusterKernel<kind, quad::PlainOctet>}};

}  // namespace fkdai::prefill

// emulated_kernels.cpp: all instances of the prefill kernel. Most of the time of a build of tests/emulator goes here.
#include "emulated_kernels.h"

#include "prefill_sm90/problem/workspace.cuh"

namespace emulated {

using namespace fkdai;
using namespace fkdai::prefill;

namespace {

template <GateKind kind, class Quad, class Quint, class Sextet, class Octet>
void run_clusters(const Params &p) {
    if (p.mapping == FKDAI_OCTET) prefill_cluster_kernel<kind, Octet>(p);
    else if (p.mapping == FKDAI_SEXTET) prefill_cluster_kernel<kind, Sextet>(p);
    else if (p.mapping == FKDAI_QUINT) prefill_cluster_kernel<kind, Quint>(p);
    else prefill_cluster_kernel<kind, Quad>(p);
}

constexpr int kLongTokens = 60;  // FKDAI_LONG_TOKENS on a GPU, where sequences are longer

// As kernel_of (prefill_launch.cu).
template <GateKind kind>
void run(const Params &p) {
    const bool are_clusters = (p.mapping & (FKDAI_OCTET | FKDAI_SEXTET | FKDAI_QUINT | FKDAI_QUAD)) != 0;
    if (p.is_raw) prefill_kernel<kind, true>(p);
    else if (are_clusters && is_plain(p)) run_clusters<kind, quad::PlainQuadOf<kind>, quad::PlainQuint, quad::PlainSextet, quad::PlainOctet>(p);
    else if (are_clusters) run_clusters<kind, quad::QuadOf<kind>, quad::Quint, quad::Sextet, quad::Octet>(p);
    else if (!is_plain(p)) prefill_kernel<kind, false>(p);
    else if (are_many_duos(p)) prefill_plain_kernel<kind, ByGate<kind, PlainDuos, PlainAny>>(p);
    else if ((!is_lone(p) || p.mapping == FKDAI_EITHER) && mean_tokens(p) >= kLongTokens) prefill_plain_kernel<kind, ByGate<kind, PlainLong, PlainAny>>(p);
    else if (!is_lone(p) || p.mapping == FKDAI_EITHER) prefill_plain_kernel<kind, ByGate<kind, PlainShort, PlainAny>>(p);
    else if (p.mapping == FKDAI_DUO) prefill_plain_kernel<kind, PlainDuo>(p);
    else if (mean_tokens(p) >= kLongTokens) prefill_plain_kernel<kind, ByGate<kind, PlainLongSolo, PlainSolo>>(p);
    else prefill_plain_kernel<kind, PlainSolo>(p);
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

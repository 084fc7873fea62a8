// quad_config.cuh: what differs from the pair where four CTAs share a (sequence, head): two run the recurrence, two prepare.
#pragma once

#include "pair_config.cuh"

namespace fkdai::prefill::quad {

using pair::OwnChunk;
using pair::Smem;
using pair::View;

inline constexpr int kRanks = 4;      // CTAs of a cluster: ranks 0 and 1 are the chains, one half of V each; 2 and 3 prepare every second chunk each
inline constexpr int kChains = kHalves, kPreparers = 2;
static_assert(kChains + kPreparers == kRanks && kPreparers == pair::kRanks, "the roles of the pair count chunks by its ranks");
inline constexpr uint16_t kChainRanks = (1 << kChains) - 1;

// In a chain CTA all stages are received ones, chunk n in n % kStages: so each preparer has kSlots of them in turn. Barriers there: own_early and
// those behind it, own_solved likewise (the preparer of the chunk + copy engine).
inline constexpr int kSlots = pair::kStages / kPreparers;

// In a preparer: own_free is raised by the send warp (the stage but for T has been copied) and the solve warp (T has been made), slot_free by the
// store warps of both chain CTAs: chunk done, the stage there may be overwritten.
//
// Between the two a stage passes through L2, in `Params::relay`: memory of each preparer's own, a place for each of its stages.
inline constexpr uint32_t kRelayBytes = pair::kEarlyBytes;
inline constexpr int64_t kRelayBytesOfCluster = int64_t{kPreparers} * pair::kOwnStages * kRelayBytes;

enum Warp : int { kSendWarp = pair::kStoreWarp };

// Where the i-th chunk of a preparer goes.
struct Slot {
    uint32_t stage, index, parity;  // in the chain CTAs; of its slot_free here
    __device__ __forceinline__ Slot(OwnChunk own, int preparer)
        : stage(own.index % kSlots * kPreparers + preparer), index(own.index % kSlots), parity((own.index / kSlots) & 1) {}
};

}  // namespace fkdai::prefill::quad

// Quad: what differs from duo where four CTAs share a job: two run the recurrence, two prepare.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"

namespace fkdai::prefill::quad {

using duo::own_slot;
using duo::Smem;
using duo::View;

inline constexpr int kRanks = 4;      // CTAs of a cluster: ranks 0 and 1 are the chains, one half of V each; 2 and 3 prepare every second chunk each
inline constexpr int kChains = kHalves, kPreparers = 2;
static_assert(kChains + kPreparers == kRanks && kPreparers == duo::kRanks, "the roles of duo count chunks by its ranks");
inline constexpr uint16_t kChainRanks = (1 << kChains) - 1;

// In a chain CTA all stages are received ones, chunk n in n % kStages: so each preparer has kSlots of them in turn. Barriers there: operands_ready
// and solve_ready (the preparer of the chunk + copy engine).
inline constexpr int kSlots = duo::kStages / kPreparers;

// In a preparer the warps that have no part in duo make the norms. stage_free is raised by the send warp (the stage but for T has been copied) and
// the solve warp (T has been made), slot_free by the store warps of both chain CTAs: chunk done, the stage there may be overwritten.
//
// Between the two a stage passes through L2, in `Params::relay`: memory of each preparer's own, a place for each of its stages.
inline constexpr uint32_t kRelayBytes = 27 * 1024;  // of a place: at least duo::kOperandBytes
static_assert(kRelayBytes >= duo::kOperandBytes);
inline constexpr int64_t kRelayBytesOfCluster = int64_t{kPreparers} * duo::kOwnStages * kRelayBytes;

enum Warp : int { kSendWarp = duo::kStoreWarp, kFirstNormWarp = duo::kWarps };
enum Registers : int { kPrepareRegisters = 128, kNormRegisters = 40 };

// Where the i-th chunk of a preparer goes: its stage in the chain CTAs, and the slot whose slot_free says here that it may.
struct Target {
    uint32_t stage;
    RingSlot slot;
    __device__ __forceinline__ Target(uint32_t i, int preparer) : stage(i % kSlots * kPreparers + preparer), slot(ring_slot<kSlots>(i)) {}
};

}  // namespace fkdai::prefill::quad

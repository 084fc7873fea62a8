// Quad: what differs from duo where four CTAs share a job: two run the recurrence, two prepare.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"

namespace fkdai::prefill::quad {

inline constexpr int kRanks = 4;      // CTAs of a cluster: ranks 0 and 1 are the chains, one half of V each; 2 and 3 prepare every second chunk each
inline constexpr int kChains = kHalves, kPreparers = 2;
static_assert(kChains + kPreparers == kRanks && kPreparers == duo::kRanks, "the roles of duo count chunks by its ranks");
inline constexpr uint16_t kChainRanks = (1 << kChains) - 1;

// In a chain CTA all stages are received ones, chunk n in n % kStages: so each preparer has kSlots of them in turn. Barriers there: operands_ready
// and solve_ready (the preparer of the chunk + copy engine).
inline constexpr int kSlots = duo::kStages / kPreparers;

// Of a preparer. Warps 0 to 11: three groups that make operands, every third chunk of the CTA each; then single-warp roles as in duo; the warps that
// have no part there make the norms.
inline constexpr int kOwnStages = 6, kPrepareGroups = 3, kChunkInfos = 32;
static_assert(kChunkInfos > kPreparers * (kOwnStages + kPrepareGroups));

// Who flips a barrier of a preparer, and what it announces.
struct Barriers {
    uint64_t raw_ready[kOwnStages];       // as in duo
    uint64_t norms_ready[kOwnStages];     // 4 norm warps
    uint64_t scores_ready[kOwnStages];    // as in duo
    uint64_t operands_ready[kOwnStages];  // 4 operand warps: the stage but for T
    uint64_t stage_free[kOwnStages];      // send warp: the stage but for T has been copied; solve warp: T has been made
    uint64_t slot_free[kSlots];           // store warps of both chain CTAs: chunk done, the stage there may be overwritten
};

struct Smem {
    static constexpr int kOwnStages = quad::kOwnStages, kPrepareGroups = quad::kPrepareGroups, kChunkInfos = quad::kChunkInfos;
    // fp32 gates wait in registers, which the operand warps have here, while their group waits for the other tiles of a chunk: this many chunks of
    // the timeline lie between two of a group. 0: they are read by fours of tokens once the tiles are there.
    static constexpr int kGatesAhead = kPreparers * kPrepareGroups;
    Stage stages[kOwnStages];
    alignas(1024) uint8_t score_keys[kPrepareGroups][kHalves][4096];  // as in duo, and so on
    alignas(128) float akk[kOwnStages][16][kAkkPitch];
    float beta[kOwnStages][kChunk];
    TokenSize token_sizes[kOwnStages][kChunk];
    ChunkInfo chunk_infos[kChunkInfos];
    alignas(8) Barriers barriers;
};
static_assert(sizeof(Smem) <= sizeof(duo::Smem), "one size for all blocks");

using View = SharedView<Smem>;
using duo::own_slot;

// Between preparer and chains a stage passes through L2, in `Params::relay`: memory of each preparer's own, a place for each of its stages.
inline constexpr uint32_t kRelayBytes = 27 * 1024;  // of a place: at least duo::kOperandBytes
static_assert(kRelayBytes >= duo::kOperandBytes);
inline constexpr int64_t kRelayBytesOfCluster = int64_t{kPreparers} * kOwnStages * kRelayBytes;

enum Warp : int { kSendWarp = duo::kStoreWarp, kFirstNormWarp = duo::kWarps };
enum Registers : int { kPrepareRegisters = 120, kNormRegisters = 40 };

// Where the i-th chunk of a preparer goes: its stage in the chain CTAs, and the slot whose slot_free says here that it may.
struct Target {
    uint32_t stage;
    RingSlot slot;
    __device__ __forceinline__ Target(uint32_t i, int preparer) : stage(i % kSlots * kPreparers + preparer), slot(ring_slot<kSlots>(i)) {}
};

// What a preparer knows of a chain CTA's shared memory: where the stage lies that it sends to.
__device__ __forceinline__ duo::View chain_view(const View &here) { return {reinterpret_cast<duo::Smem *>(here.memory), here.base}; }

}  // namespace fkdai::prefill::quad

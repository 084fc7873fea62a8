// Duo: roles, shared memory and barriers where two CTAs share a job.
#pragma once

#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill::duo {

inline constexpr int kRanks = kHalves;  // CTAs of a cluster: each has half of V, and prepares every second chunk

inline constexpr int kOwnStages = 4;       // chunks that a CTA prepares, raw tiles arriving to last use
inline constexpr int kReceivedStages = 2;  // chunks that the peer prepared
inline constexpr int kStages = kOwnStages + kReceivedStages;
inline constexpr int kValueStages = 3;
inline constexpr int kOutStages = 2;
inline constexpr int kDoneStages = 4;      // > kOutStages + 1, which bounds how far the chain runs ahead of the store warp
inline constexpr int kChunkInfos = 12;
inline constexpr int kValueLag = kOwnStages + 1;  // chunks that the raw tiles run ahead of the values

// Warps: one warpgroup runs the recurrence, two prepare operands, then come four single-warp roles, and one that finds segments. The last three
// of a block have no part.
inline constexpr int kPrepareGroups = 2;
enum Warp : int { kLoadWarp = 12, kStoreWarp = 13, kFirstSolveWarp = 14, kFindWarp = 16 };
enum Registers : int { kChainRegisters = 208, kPrepareRegisters = 80, kSingleRegisters = 80, kFindRegisters = 32, kIdleRegisters = 24,
                       kChainBesideNormsRegisters = 200, kNormRegisters = 40 };  // the last two: kNormsAside
enum NamedBarrier : int { kChainBarrier = 1, kFirstPrepareBarrier = 2, kFirstPairBarrier = 6 };

inline constexpr uint32_t kOperandBytes = offsetof(Stage, range);  // of a stage: final before the solve starts

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kOwnStages];         // load warp + copy engine: raw tiles and ChunkInfo are there
    uint64_t norms_ready[kOwnStages];       // kNormsAside: kNormWarps
    uint64_t scores_ready[kOwnStages];      // 2 operand warps: akk
    uint64_t operands_ready[kStages];       // the stage but for T. Own: 4 operand warps; received: the peer's solve warp + copy engine
    uint64_t solve_ready[kStages];          // T. Own: solve warp; received: the peer's solve warp + copy engine
    uint64_t stage_free[kStages];           // own: store warps of both CTAs, this chain has used it and the peer has got its copy;
                                            // received: store warp of the *peer*, whose stage of that index may be overwritten
    uint64_t value_ready[kValueStages];     // copy engine
    uint64_t value_free[kValueStages];      // 4 chain warps
    uint64_t chunk_done[kDoneStages];       // 4 chain warps: the operands of a chunk have been used
    uint64_t out_ready[kOutStages];         // 4 chain warps
    uint64_t out_free[kOutStages];          // store warp
};

struct Smem {
    static constexpr bool kIsLone = false, kIsPlain = false;  // segments.cuh
    static constexpr bool kAsksFirst = false;                 // begin_block
    static constexpr bool kAsksSchedule = false;              // the load warp asks it for its first chunks
    static constexpr bool kValuesFirst = false;               // V of these is asked for before tiles of later ones
    static constexpr bool kExchangesStates = false;           // state_io.cuh
    static constexpr bool kAnnouncesFirst = false;            // as in solo
    static constexpr bool kStateBehindTiles = false;          // the first state is asked for when the first tiles are there
    static constexpr int kPreparers = kRanks;  // CTAs that prepare chunks in turns
    static constexpr int kOwnStages = duo::kOwnStages, kPrepareGroups = duo::kPrepareGroups, kChunkInfos = duo::kChunkInfos;
    static constexpr int kAkks = kOwnStages, kSteps = kOwnStages;
    static constexpr int kGatesAhead = 0, kSolvers = 2;
    static constexpr bool kNormsAside = false;       // by warps that have no other part
    static constexpr int kNormWarps = 4;             // then
    static constexpr bool kKeepsLane = false;        // operand warps keep the lane's number, where registers allow
    static constexpr bool kPrefetchesTiles = false;  // into L2, until there is a stage for them, which is what such a duo waits for
    static constexpr bool kSolvesAside = false, kFirstAhead = false, kLoadsApart = false;  // quad_config.cuh
    static constexpr bool kTakesRaw = false;                          // q and k without norm?
    static constexpr bool kSolvesRareApart = false;                   // quad_config.cuh
    static_assert(kChunkInfos > kValueLag + kValueStages + kOutStages);
    Stage stages[kStages];                                   // own, then received
    alignas(1024) uint8_t value[kValueStages][kValueBytes];  // V [32][64 of this CTA], 128-byte swizzle
    union {
        alignas(1024) uint8_t out[kOutStages][kValueBytes];  // O [32][64 of this CTA], 128-byte swizzle
        StateStaging state_rows[4];                          // of each chain warp, between pieces: when `out` is free
    };
    alignas(1024) uint8_t score_keys[kPrepareGroups][kHalves][4096];  // KI: [2 x 64 channels][32 rows] bf16, 128-byte swizzle
    alignas(128) float akk[kOwnStages][16][kAkkPitch];       // akk/beta of a chunk
    float beta[kSteps][kChunk];                              // b of a chunk
    ChunkInfo chunk_infos[kChunkInfos];  // of chunk n in n % kChunkInfos
    SegmentQueue<4> segment_queue;
    alignas(8) Barriers barriers;
};
// The same, for plain calls, for those of them that duos alone do, and for those where each worker has one job.
struct PlainSmem : Smem {
    static constexpr bool kIsPlain = true, kExchangesStates = true;
};
// With the bounded gate; other gates lose 1 to 2 % by it.
struct EarlySmem : PlainSmem {
    static constexpr bool kAsksSchedule = true, kValuesFirst = true, kStateBehindTiles = true;
};
struct ManySmem : EarlySmem {
    static constexpr bool kNormsAside = true, kPrefetchesTiles = true, kExchangesStates = false;
    static constexpr int kNormWarps = 3;  // the fourth finds segments
};
struct LoneSmem : PlainSmem {
    static constexpr bool kKeepsLane = true, kIsLone = true, kAsksFirst = true, kStateBehindTiles = true, kNormsAside = true, kPrefetchesTiles = true;
};

static_assert(sizeof(Stage) % 1024 == 0 && sizeof(Smem) + 1024 <= 232448);

using View = SharedView<Smem>;

// The stage of the i-th chunk that a CTA prepares: its own, and the peer's received one.
template <class Memory = Smem>
__device__ __forceinline__ RingSlot own_slot(uint32_t i) { return ring_slot<Memory::kOwnStages>(i); }
__device__ __forceinline__ RingSlot received_slot(uint32_t i) { return {kOwnStages + i % kReceivedStages, (i / kReceivedStages) & 1}; }

}  // namespace fkdai::prefill::duo

// pair_config.cuh: roles, shared memory and barriers where two CTAs share a (sequence, head).
#pragma once

#include "prefill_walk.cuh"

namespace fkdai::prefill::pair {

inline constexpr int kRanks = kHalves;  // CTAs of a cluster: each has half of V, and prepares every second chunk

inline constexpr int kOwnStages = 4;       // chunks that a CTA prepares, raw tiles arriving to last use
inline constexpr int kReceivedStages = 2;  // chunks that the peer prepared
inline constexpr int kStages = kOwnStages + kReceivedStages;
inline constexpr int kValueStages = 3;
inline constexpr int kOutStages = 2;
inline constexpr int kDoneStages = 4;      // > kOutStages + 1, which bounds how far the chain runs ahead of the store warp
inline constexpr int kNotes = 12;
inline constexpr int kValueLag = kOwnStages + 1;  // chunks that the raw tiles run ahead of the values
static_assert(kNotes > kValueLag + kValueStages + kOutStages);

// Warps: one warpgroup runs the recurrence, two prepare operands, then come four single-warp roles. The last four of a block
// have no part.
inline constexpr int kPrepareGroups = 2;
enum Warp : int { kLoadWarp = 12, kStoreWarp = 13, kFirstSolveWarp = 14, kWarps = 16 };
enum Registers : int { kChainRegisters = 208, kPrepareRegisters = 80, kSingleRegisters = 80, kIdleRegisters = 24 };
enum NamedBarrier : int { kChainBarrier = 1, kFirstPrepareBarrier = 2 };

inline constexpr uint32_t kEarlyBytes = offsetof(Stage, solve);  // of a stage: final before the solve starts

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kOwnStages];         // load warp + copy engine: raw tiles and note are there
    uint64_t own_early[kOwnStages];         // 4 operand warps: akk, and the stage but for T
    uint64_t received_early[kReceivedStages];  // the peer's solve warp + copy engine: the stage but for T
    uint64_t own_solved[kOwnStages];        // solve warp: T
    uint64_t received_solved[kReceivedStages]; // the peer's solve warp + copy engine: T
    uint64_t own_free[kOwnStages];          // store warps of both CTAs: this one's chain has used the stage, the peer has got its copy
    uint64_t received_free[kReceivedStages];   // store warp of the *peer*: its received stage may be overwritten
    uint64_t slot_free[kStages / kHalves];  // of a quad's preparer (quad_config.cuh)
    uint64_t value_ready[kValueStages];     // copy engine
    uint64_t value_free[kValueStages];      // 4 chain warps
    uint64_t chunk_done[kDoneStages];       // 4 chain warps: the operands of a chunk have been used
    uint64_t out_ready[kOutStages];         // 4 chain warps
    uint64_t out_free[kOutStages];          // store warp
};

struct Smem {
    Stage own[kOwnStages];
    Stage received[kReceivedStages];
    alignas(1024) uint8_t value[kValueStages][kValueBytes];  // V [32][64 of this CTA], 128-byte swizzle
    alignas(1024) uint8_t out[kOutStages][kValueBytes];      // O [32][64 of this CTA], 128-byte swizzle
    alignas(128) float akk[kOwnStages][16][kAkkPitch];       // akk/beta of a chunk
    StateStaging state_rows[4];                              // of each chain warp
    float beta[kOwnStages][kChunk];                          // sigmoid(beta)
    Note notes[kNotes];  // of chunk n in n % kNotes
    Route routes[4];
    alignas(8) Barriers barriers;
};
static_assert(sizeof(Stage) % 1024 == 0 && sizeof(Smem) + 1024 <= 232448);
static_assert(offsetof(Smem, received) == offsetof(Smem, own) + kOwnStages * sizeof(Stage) &&
              offsetof(Barriers, received_early) == offsetof(Barriers, own_early) + kOwnStages * sizeof(uint64_t) &&
              offsetof(Barriers, received_solved) == offsetof(Barriers, own_solved) + kOwnStages * sizeof(uint64_t),
              "the chain counts both kinds of stages through");

using View = SharedView<Smem>;

// Where a chain finds its chunks: those of this CTA and the peer's; or all received (quad_config.cuh).
enum class Places { Pair, Quad };

// Position of the i-th chunk that this CTA prepares: its stage, and the parity of the stage's barriers.
struct OwnChunk {
    uint32_t index;
    __device__ __forceinline__ uint32_t stage() const { return index % kOwnStages; }
    __device__ __forceinline__ uint32_t parity() const { return (index / kOwnStages) & 1; }
    __device__ __forceinline__ uint32_t received_slot() const { return index % kReceivedStages; }
    __device__ __forceinline__ uint32_t received_parity() const { return (index / kReceivedStages) & 1; }
};

}  // namespace fkdai::prefill::pair

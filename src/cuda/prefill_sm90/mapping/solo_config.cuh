// Solo: roles, shared memory and barriers where a CTA has a job for itself.
#pragma once

#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill::solo {

inline constexpr int kTurns = 2;        // operand groups
inline constexpr int kSolvers = 2;      // warps that solve
inline constexpr int kStages = 5;       // chunks, raw tiles arriving to last use
inline constexpr int kValueStages = 3;
inline constexpr int kAkks = 3;
inline constexpr int kChunkInfos = 12;
inline constexpr int kValueLag = kValueStages;  // chunks that the raw tiles run ahead of the values
static_assert(kValueLag + kValueStages >= kStages && kChunkInfos > kStages + kSolvers);

// Warps: two warpgroups run the recurrence, one for each half of V; two prepare operands, every second chunk each. Then come a warp that
// loads, two that solve, every second chunk each, and one that makes the norms or finds segments.
inline constexpr int kChainWarps = 8;
enum Warp : int { kLoadWarp = 16, kFirstSolveWarp = 17, kLastWarp = 19 };
enum Registers : int { kChainRegisters = 160, kPrepareRegisters = 64, kSingleRegisters = 32,
                       kPrepareBesideNormsRegisters = 56, kSingleBesideNormsRegisters = 48 };  // kNormsAside
enum NamedBarrier : int { kFirstChainBarrier = 1, kFirstPrepareBarrier = 3, kFirstPairBarrier = 5 };  // four of the last

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kStages];      // load warp + copy engine: raw tiles and ChunkInfo are there
    uint64_t norms_ready[kStages];    // kNormsAside: the last warp
    uint64_t scores_ready[kStages];   // 2 operand warps: akk
    uint64_t operands_ready[kStages]; // 4 operand warps: the stage but for T
    uint64_t solve_ready[kStages];    // solve warp: T
    uint64_t chunk_done[kStages];     // 8 chain warps: operands and values of a chunk have been used
    uint64_t value_ready[kValueStages];  // copy engine
    uint64_t first_done;              // 8 chain warps: the first segment, once and for all
};

// Of one chain warp: a state on its way out or in between pieces, O of a chunk within them.
union Staging {
    StateStaging state;
    uint8_t out[kChunk * 32];  // [32][16 of V], 32-byte swizzle
};

struct Smem {
    static constexpr bool kIsLone = false, kIsPlain = false;  // segments.cuh
    static constexpr bool kAsksFirst = false;                 // begin_block
    static constexpr bool kAsksSchedule = false;              // the load warp asks it for its first chunks
    static constexpr bool kValuesFirst = false;               // V of these is asked for before tiles of later ones
    static constexpr bool kExchangesStates = false;           // state_io.cuh
    static constexpr bool kStateBehindTiles = false;          // the first state is asked for when the first tiles are there
    static constexpr bool kAnnouncesFirst = false;            // the chain announces that the first segment is done, for the norm warp
    static constexpr bool kNormsAside = false;  // by the last warp, which else finds segments: then the load warp does, or with one job each a solve warp
    static constexpr int kGatesAhead = 0;
    static constexpr bool kTakesRaw = true, kKeepsLane = true, kSolvesRareApart = false;
    Stage stages[kStages];
    alignas(1024) uint8_t value[kValueStages][kHalves][kValueBytes];  // V [2 x 64][32], 128-byte swizzle
    alignas(1024) uint8_t score_keys[kTurns][kHalves][4096];  // KI: [2 x 64 channels][32 rows] bf16, 128-byte swizzle
    Staging staging[kChainWarps];
    alignas(128) float akk[kAkks][16][kAkkPitch];  // akk/beta of a chunk
    float beta[kSolvers][kChunk];  // b of its chunk, of each solving warp
    TokenSize token_sizes[kStages][kChunk];
    ChunkInfo chunk_infos[kChunkInfos];  // of chunk n in n % kChunkInfos
    SegmentQueue<4> segment_queue;
    alignas(8) Barriers barriers;
};
// The same, for plain calls, and for those of them where each worker has one job.
struct PlainSmem : Smem {
    static constexpr bool kIsPlain = true, kExchangesStates = true;
};
// With the bounded gate; other gates lose 1 to 2 % by it.
struct EarlySmem : PlainSmem {
    static constexpr bool kAsksSchedule = true, kValuesFirst = true, kStateBehindTiles = true;
};
struct LoneSmem : PlainSmem {
    static constexpr bool kIsLone = true, kAsksFirst = true, kStateBehindTiles = true;
};
// And with norms aside.
template <class Base>
struct NormsAside : Base {
    static constexpr bool kNormsAside = true, kAnnouncesFirst = !Base::kIsLone;
};

static_assert(sizeof(Smem) + 1024 <= 232448);

using View = SharedView<Smem>;

// Chunk n stands in stage n % kStages.
__device__ __forceinline__ RingSlot stage_slot(uint32_t number) { return {uniform(number % kStages), (number / kStages) & 1}; }

// Read in one access, by its 32-bit address.
__device__ __forceinline__ ChunkInfo chunk_info_at(const View &s, uint32_t place) {
    const uint4 words = load_uint4(s.at(s->chunk_infos[place]));
    return {static_cast<int>(words.x), static_cast<int>(words.y), static_cast<int>(words.z), static_cast<uint8_t>(words.w), (words.w & 0xff00) != 0};
}
__device__ __forceinline__ ChunkInfo chunk_info_of(const View &s, uint32_t number) { return chunk_info_at(s, number % kChunkInfos); }

}  // namespace fkdai::prefill::solo

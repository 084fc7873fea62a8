// solo_config.cuh: roles, shared memory and barriers of the kernel in which a CTA has a (sequence, head) for itself.
#pragma once

#include "prefill_walk.cuh"

namespace fkdai::prefill::solo {

inline constexpr int kStages = 6;       // chunks, raw tiles arriving to last use
inline constexpr int kValueStages = 3;
inline constexpr int kLead = 2;         // chunks between the one that a group prepares and the one whose tiles it asks for: its next
inline constexpr int kRawBarriers = 4;  // two of each group: a warp may still look for one chunk when the tiles of the next arrive
inline constexpr int kBetas = 8;        // four of each group: while one is asked for, the one two before is being solved
inline constexpr int kNotes = 12;
static_assert(kNotes > kStages + kLead);

// Warps: two warpgroups run the recurrence, one for each half of V; two prepare operands, and of each one warp asks for tiles, one
// solves, two measure rows. (A fifth warp on a sub-partition would have 32 registers.)
inline constexpr int kThreads = 512;
inline constexpr int kChainWarps = 8;
inline constexpr int kPrepareGroups = 2;
enum Registers : int { kChainRegisters = 176, kPrepareRegisters = 80 };
enum NamedBarrier : int { kFirstChainBarrier = 1, kFirstPrepareBarrier = 3 };

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kRawBarriers];    // asking warp of the group + copy engine: raw tiles and note are there
    uint64_t norms_ready[kPrepareGroups];  // 2 operand warps
    uint64_t akk_ready[kPrepareGroups];  // the 2 operand warps that store akk
    uint64_t own_ready[kStages];         // the 2 operand warps that store mqk, the solving warp: the stage is complete
    uint64_t chunk_done[kStages];        // 8 chain warps: operands and values of a chunk have been used
    uint64_t value_ready[kValueStages];  // copy engine
};

// Of one chain warp: a state on its way out or in between pieces, O of a chunk within them.
union Staging {
    StateStaging state;
    uint8_t out[kChunk * 32];  // [32][16 of V], 32-byte swizzle
};

struct Smem {
    Stage own[kStages];
    alignas(1024) uint8_t value[kValueStages][kHalves][kValueBytes];  // V [2 x 64][32], 128-byte swizzle
    alignas(128) float akk[kPrepareGroups][16][kAkkPitch];           // akk/beta of a chunk, until the group begins its next scores
    Staging staging[kChainWarps];
    alignas(128) Norms norms[kPrepareGroups];
    float beta[kBetas][kChunk];  // sigmoid(beta)
    Note notes[kNotes];  // of chunk n in n % kNotes
    Route routes[kChainWarps];
    ChunkWalk<false> walks[kPrepareGroups];  // of each operand group: one lane walks, what it knows waits here
    alignas(8) Barriers barriers;
};
static_assert(sizeof(Smem) + 1024 <= 232448);

using View = SharedView<Smem>;

// Chunk n stands in stage n % kStages; the parity there of what happens once a chunk.
__device__ __forceinline__ uint32_t stage_of(uint32_t number) { return uniform(number % kStages); }
__device__ __forceinline__ uint32_t parity_of(uint32_t number) { return (number / kStages) & 1; }

// Read in one access, by its 32-bit address.
__device__ __forceinline__ Note note_of(const View &s, uint32_t number) {
    const uint4 words = load_uint4(s.at(s->notes[number % kNotes]));
    return {static_cast<int>(words.x), static_cast<int>(words.y), static_cast<int>(words.z), static_cast<uint8_t>(words.w), (words.w & 0xff00) != 0};
}

}  // namespace fkdai::prefill::solo

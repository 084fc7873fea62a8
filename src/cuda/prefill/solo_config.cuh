// solo_config.cuh: roles, shared memory and barriers of the kernel in which a CTA has a (sequence, head) for itself.
#pragma once

#include "prefill_walk.cuh"

namespace fkdai::prefill::solo {

inline constexpr int kStages = 5;       // chunks, raw tiles arriving to last use
inline constexpr int kValueStages = 3;
inline constexpr int kLead = 2;         // chunks between the one that a group prepares and the one whose tiles it asks for: its next
inline constexpr int kRawBarriers = 4;  // two of each group: a warp may still look for one chunk when the tiles of the next arrive
inline constexpr int kNotes = 12;
static_assert(kStages - kLead == kValueStages, "a stage and a tile of values are free at the same time");
static_assert(kNotes > kStages + kLead);

// Warps: two warpgroups run the recurrence, one for each half of V; two prepare operands. Of these the first warp asks for tiles, the
// last solves. (A fifth warp on a sub-partition would have 32 registers.)
inline constexpr int kThreads = 512;
inline constexpr int kChainWarps = 8;
inline constexpr int kPrepareGroups = 2;
enum Warp : int { kAskingWarp = 0, kSolvingWarp = 3 };  // of an operand group; the two between measure rows
enum Registers : int { kChainRegisters = 176, kPrepareRegisters = 80 };
enum NamedBarrier : int { kFirstChainBarrier = 1, kFirstPrepareBarrier = 3 };

// Who flips a barrier, and what it announces.
struct Barriers {
    uint64_t raw_ready[kRawBarriers];    // asking warp of the group + copy engine: raw tiles and note of chunk n % kRawBarriers are there
    uint64_t akk_ready[kPrepareGroups];  // 4 operand warps: akk, mqk, operand tiles, decays are final
    uint64_t own_ready[kStages];         // solving warp: the stage is complete
    uint64_t chunk_done[kStages];        // 8 chain warps: operands and values of a chunk have been used
    uint64_t value_ready[kValueStages];  // copy engine
};

// Of one chain warp: a state on its way out between pieces, O of a chunk within them.
union alignas(256) Staging {
    StateStaging state;
    uint8_t out[kChunk * 32];  // [32][16 of V], 32-byte swizzle
};

// Where an operand group stands on the line: one lane walks, and what it knows waits here.
struct Walk {
    PieceWalk<kChunk> pieces;
    Piece piece;
    int chunk;  // inside the sequence
    bool valid;

    __device__ void open(const Params &p) {
        do valid = pieces.next(p, piece);
        while (valid && piece.begin == piece.end);
        chunk = valid ? piece.begin : 0;
    }
    __device__ void advance(const Params &p) {
        if (valid && ++chunk == piece.end) open(p);
    }
    __device__ Note note() const {
        const int left = piece.sequence.length - chunk * kChunk;
        return {static_cast<int>(piece.sequence.start) + chunk * kChunk, piece.head, piece.sequence.batch,
                static_cast<uint8_t>(!valid ? 0 : left < kChunk ? left : kChunk), false};
    }
};

struct Smem {
    Stage own[kStages];
    alignas(1024) uint8_t value[kValueStages][kHalves][kValueBytes];  // V [2 x 64][32], 128-byte swizzle
    alignas(128) float akk[kPrepareGroups][16][kAkkPitch];           // akk/beta of a chunk, until the group begins its next scores
    Staging staging[kChainWarps];
    alignas(128) Norms norms[kPrepareGroups];
    Note notes[kNotes];  // of chunk n in n % kNotes
    Route routes[kChainWarps];
    Walk walks[kPrepareGroups];
    alignas(8) Barriers barriers;
};
static_assert(sizeof(Smem) + 1024 <= 232448);

using View = SharedView<Smem>;

// A place in a ring, and the parity of the barriers there.
template <int size>
struct Ring {
    uint32_t slot = 0, parity = 0;
    __device__ __forceinline__ void advance(uint32_t by) {
        slot += by;
        if (slot >= size) slot -= size, parity ^= 1;
    }
    __device__ __forceinline__ Ring ahead(uint32_t by) const {
        Ring there = *this;
        there.advance(by);
        return there;
    }
};

}  // namespace fkdai::prefill::solo

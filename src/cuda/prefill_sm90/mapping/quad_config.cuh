// Quad and octet: what differs from duo where four or eight CTAs share a job: two run the recurrence, others prepare, in an octet two make O.
#pragma once

#include <type_traits>

#include "prefill_sm90/mapping/duo_config.cuh"

namespace fkdai::prefill::quad {

// The first ranks of a cluster are the chains, one half of V each; then come the CTAs that make O, one half each, if the chains do not do it
// themselves; then the preparers, which have the chunks in turns.
//
// kStages: chunks that wait in a CTA that they are sent to, chunk n in n % kStages. kGroups: of four operand warps in a preparer, with so many
// registers a lane; then its single warps and norm warps. kSolvesAside: a stage of a preparer is free once it has been sent but for T; an octet,
// whose preparers are not what limits it, is slower so. kQueued: places for segments that have been found; an octet has one job, and its chain is 1 %
// faster with two. kForks: a checkpoint inside a chunk is made on a copy of the state (fork.cuh). A quad parks the state instead, as its preparers lose
// 8 % where the kernel has that code too; an octet has no such checkpoints. kCopies: checkpoints leave by the copy engine (quad_copy.cuh); else the
// chain stores them.
// kSolvers: warps that make T, in turns; a third one leaves the load warp no place among the single warps (kLoadsApart). kScores: places for scores.
//
// kFours, kTurn, kHolds: as in Pace. A quad's preparers move as much in shared memory as it can take, so what can be held in registers is. One four of
// tokens under way is less code, which comes faster the first time, and leaves registers to ask for the next one ahead. kFirstAhead: what the first
// chunk waits for is done first (OperandRole, LoadRole). kKeepsLane: ptxas would read the lane anew in each turn of the solve and norm loops; in a
// quad it does not. kIsLone, kIsPlain: are_lone, are_plain (segments.cuh); an octet, a sextet or a quint has one job, whatever the call is.
inline constexpr int kChains = kHalves;
struct Quad {
    static constexpr int kOuts = 0, kPreparers = 2, kQueued = 4, kStages = 6, kGroups = 4, kFours = 1, kTurn = 2, kScores = 4, kSolvers = 3;
    static constexpr int kGroupRegisters = 88, kSingleRegisters = 80, kNormRegisters = 40;
    static constexpr bool kIsLone = false, kIsPlain = false;
    static constexpr bool kHolds = true, kSolvesAside = true, kForks = false, kFirstAhead = true, kKeepsLane = false;
    static constexpr int kCopies = 0;
};
struct WideQuad : Quad {
    static constexpr bool kHolds = false;
    static constexpr int kGroups = 3, kFours = 2, kScores = 6, kSolvers = 2, kGroupRegisters = 120, kNormRegisters = 40;
};
// fp32 gates wait in registers of the operand warps: there are enough for three groups.
template <GateKind kind>
using QuadOf = std::conditional_t<kind == GateKind::PrecomputedF32, WideQuad, Quad>;
struct Quint : Quad {
    static constexpr int kPreparers = 3, kGroups = 3, kFours = 1, kTurn = 1, kScores = 6, kSolvers = 2;
    static constexpr int kGroupRegisters = 112, kSingleRegisters = 96, kNormRegisters = 40;
    static constexpr bool kIsLone = true, kIsPlain = false;
    static constexpr bool kHolds = false, kForks = true, kFirstAhead = true, kKeepsLane = true;
};
struct Sextet : Quint {  // one more: the fourth chunk, and so on, is made beside the first
    static constexpr int kPreparers = 4;
};
struct Octet {
    static constexpr int kOuts = 2, kPreparers = 4, kQueued = 2, kStages = 6, kGroups = 3, kFours = 1, kTurn = 1, kScores = 6, kSolvers = 2;
    static constexpr int kGroupRegisters = 112, kSingleRegisters = 96, kNormRegisters = 40;
    static constexpr bool kIsLone = true, kIsPlain = false;
    static constexpr bool kHolds = false, kSolvesAside = false, kForks = false, kFirstAhead = true, kKeepsLane = true;
    static constexpr int kCopies = 1;
};
// For plain calls (are_plain).
struct PlainQuad : Quad {
    static constexpr bool kIsPlain = true;
};
struct PlainWideQuad : WideQuad {
    static constexpr bool kIsPlain = true;
};
template <GateKind kind>
using PlainQuadOf = std::conditional_t<kind == GateKind::PrecomputedF32, PlainWideQuad, PlainQuad>;
struct PlainQuint : Quint {
    static constexpr bool kIsPlain = true, kForks = false;
};
struct PlainSextet : Sextet {
    static constexpr bool kIsPlain = true, kForks = false;
};
struct PlainOctet : Octet {
    static constexpr bool kIsPlain = true;
    static constexpr int kCopies = 0;
};
template <class Shape>
inline constexpr int kReceivers = kChains + Shape::kOuts;
template <class Shape>
inline constexpr int kRanks = kReceivers<Shape> + Shape::kPreparers;
// Of a CTA that chunks are sent to.
inline constexpr int kOutStages = 2;
// Of a preparer the operand warps come first, of a receiver its chain or out warps; the single warps and the norm warps are a warpgroup each.
template <class Shape>
struct Warps {
    static constexpr int kFirst = 4 * Shape::kGroups, kFirstNorm = kFirst + 4;
    static constexpr bool kLoadsApart = Shape::kSolvers > 2;
    static constexpr int kLoad = kLoadsApart ? kFirstNorm + 4 : kFirst, kSend = kFirst + !kLoadsApart, kFirstSolve = kSend + 1;
    static constexpr int kValue = kFirst, kRelease = kFirst + 1, kStore = kFirst + 2, kFind = kFirst + 3, kCopy = kFirstNorm;  // of a receiver
    static constexpr int kThreads = 32 * (kFirstNorm + 4 + 4 * kLoadsApart);
    static constexpr int kLaunchRegisters = 65536 / kThreads / 8 * 8;
};
enum ReceiverRegisters : int { kChainRegisters = 240, kReceiverRegisters = 80 };
enum NamedBarrier : int { kChainBarrier = duo::kChainBarrier };

// Who flips a barrier there, and what it announces.
template <class Shape>
struct ChainBarriers {
    // All that a chunk wants here: operands (send warp of its preparer + copy engine), T, or its factors alone (solve warp of its preparer + copy
    // engine); what the chunk is, and its values (value warp + copy engine); where O is made, a tile for it (store warp). Of an out CTA: and the
    // chain's U, whose stores count themselves; what it is has been said before it comes, as operands are sent once all receivers have room for them.
    uint64_t chunk_ready[Shape::kStages];
    uint64_t chunk_done[Shape::kStages];    // 4 warps of the chain or out role: the chunk's operands, values, update have been used
    uint64_t out_ready[kOutStages];         // the same 4 warps, where O is made
    uint64_t follower_begun;                // of a chain: 4 warps of the out CTA that has the same half of V, behind their first chunk
    uint64_t checkpoint_ready;              // kCopies: 4 warps of the chain or out role: this CTA's rows of a checkpoint lie in copied_rows
    uint64_t checkpoint_free;               // copy warp: they have been read
};

inline constexpr uint32_t kUpdateBytes = 4 * 32 * (2 * 16 + 4);  // U of 4 warps in fp16, as operands, and the factors of its rows (range_guard.cuh)

// kCopies: rows of a checkpoint that a warp of the chain leaves, and of the CTA that follows it. Rows r and r + 4 stand side by side, and 32 bytes between
// two such pairs, so that four rows are stored in different banks.
inline constexpr uint32_t kCopiedRows = 8, kRowBytes = kWidth * sizeof(float), kRowPairBytes = 2 * kRowBytes + 32;
inline constexpr uint32_t kCopiedBytes = kCopiedRows / 2 * kRowPairBytes - 32;

template <class Shape>
struct ChainSmem {
    static constexpr bool kIsLone = Shape::kIsLone, kIsPlain = Shape::kIsPlain;
    static constexpr bool kStateBehindTiles = false, kExchangesStates = false, kAnnouncesFirst = false;
    static constexpr int kChunkInfos = 12;
    static_assert(kChunkInfos > Shape::kStages + kOutStages + 1, "values are asked for kStages ahead, O leaves kOutStages + 1 behind");
    Stage stages[Shape::kStages];
    union {
        alignas(1024) uint8_t value[Shape::kStages][kValueBytes];  // of a chain: V [32][64 of this CTA], 128-byte swizzle
        uint32_t update[Shape::kStages][4][2][32][4];               // of an out CTA: U of each warp, 16 bytes of a lane at a time
    };
    alignas(1024) uint8_t out[kOutStages][kValueBytes];  // O [32][64 of this CTA], 128-byte swizzle
    union {
        StateStaging state_rows[4];                                         // of each chain or out warp
        uint8_t copied_rows[4][Shape::kCopies * (kCopiedBytes - 32) + 32];  // likewise, on their way to a checkpoint
    };
    uint32_t factors[Shape::kStages][4][32];             // of an out CTA; 0: U is as it is
    ChunkInfo chunk_infos[kChunkInfos];                  // of chunk n in n % kChunkInfos
    SegmentQueue<Shape::kQueued, Shape::kIsLone> segment_queue;
    alignas(8) ChainBarriers<Shape> barriers;
};
// One size for all blocks.
inline constexpr size_t kBlockBytes = sizeof(ChainSmem<Octet>);
static_assert(sizeof(ChainSmem<Quad>) <= kBlockBytes && sizeof(duo::Smem) <= kBlockBytes);

template <class Shape>
using ChainView = SharedView<ChainSmem<Shape>>;

inline constexpr int kOwnStages = 6, kMostScores = 6;  // of a preparer
inline constexpr int kReleases = 3;  // turns: its send and solve warps may be two chunks apart

// Who flips a barrier of a preparer, and what it announces.
template <class Shape>
struct Barriers {
    uint64_t raw_ready[kOwnStages];       // as in duo
    uint64_t norms_ready[kOwnStages];     // 4 norm warps
    uint64_t scores_ready[kMostScores];   // 2 operand warps: akk of chunk i in i % kAkks; kSolvesAside: or that there is no more
    uint64_t operands_ready[kOwnStages];  // 4 operand warps: the stage but for T
    uint64_t scores_free[kMostScores];    // solve warp, kSolvesAside: T has been made
    uint64_t stage_free[kOwnStages];      // send warp: the stage but for T has been copied; unless kSolvesAside, solve warp: T has been made
    uint64_t stage_released[kReleases];   // release warps of all receivers: the chunk before it there is done, so a chunk may be sent
};

template <class Shape>
struct Smem {
    static constexpr bool kIsLone = Shape::kIsLone, kIsPlain = Shape::kIsPlain, kAsksFirst = true, kAsksSchedule = false, kValuesFirst = false;
    static constexpr bool kStateBehindTiles = false, kPrefetchesTiles = false;
    static constexpr bool kKeepsLane = Shape::kPreparers == 2;  // in the others it gained nothing
    static constexpr int kPreparers = Shape::kPreparers, kNormWarps = 4;
    static constexpr int kOwnStages = quad::kOwnStages, kPrepareGroups = Shape::kGroups, kChunkInfos = 32 * kPreparers / 2;
    static constexpr int kSolvers = Shape::kSolvers;
    // The code of rare chunks lies behind all roles, and leaves the first 64 KB, which a launch brings along, to what every chunk wants. Quads and duos are
    // up to 4 % slower so, sextets are where the caches have the code.
    static constexpr bool kSolvesRareApart = Shape::kOuts > 0;
    static constexpr bool kSolvesAside = Shape::kSolvesAside, kFirstAhead = Shape::kFirstAhead, kLoadsApart = Warps<Shape>::kLoadsApart, kTakesRaw = false;
    // kSolvesAside: then scores and b wait longer than their stage, b being made beside the norms.
    // A place for scores has one group, which waits there for one phase after the other. A solve warp may have places that others have, too, if it
    // waits until these are free (await_scores).
    static constexpr int kAkks = Shape::kScores, kSteps = kSolvesAside ? 2 * kOwnStages : kOwnStages;
    static_assert(kChunkInfos > kPreparers * 2 * kOwnStages && kAkks % kPrepareGroups == 0 && kAkks <= kMostScores);
    // fp32 gates wait in registers, which the operand warps have here, while their group waits for the other tiles of a chunk: this many chunks of
    // the timeline lie between two of a group. 0: they are read by fours of tokens once the tiles are there.
    static constexpr int kGatesAhead = kPreparers * kPrepareGroups;
    Stage stages[kOwnStages];
    alignas(1024) uint8_t score_keys[kPrepareGroups][kHalves][4096];  // as in duo, and so on
    alignas(128) float akk[kAkks][16][kAkkPitch];
    float beta[kSteps][kChunk];
    ChunkInfo chunk_infos[kChunkInfos];
    SegmentQueue<2, Shape::kIsLone> segment_queue;  // of the load warp alone
    alignas(8) Barriers<Shape> barriers;
};
static_assert(sizeof(ChainSmem<Quint>) <= kBlockBytes && sizeof(Smem<Quint>) <= kBlockBytes && sizeof(Smem<Sextet>) <= kBlockBytes);
static_assert(sizeof(Smem<Quad>) <= kBlockBytes && sizeof(Smem<Octet>) <= kBlockBytes);

template <class Shape>
using View = SharedView<Smem<Shape>>;

// Between preparer and receivers a stage passes through L2, in `Params::relay`: memory of each preparer's own, a place for each of its stages.
inline constexpr uint32_t kRelayBytes = 27 * 1024;  // of a place: at least duo::kOperandBytes
static_assert(kRelayBytes >= duo::kOperandBytes);
inline constexpr int64_t kRelayBytesOfPreparer = int64_t{kOwnStages} * kRelayBytes;

// The number on the timeline of the i-th chunk that a preparer has, and its stage in the receivers.
template <class Shape>
__device__ __forceinline__ uint32_t number_of(uint32_t i, int preparer) { return i * Shape::kPreparers + preparer; }
template <class Shape>
__device__ __forceinline__ uint32_t receiver_stage(uint32_t number) { return number % Shape::kStages; }

// The turn of stage_released, at the chunk's preparer, that says that a chunk may be sent: the receivers have released the one before it in their
// stage. The first ones in each stage wait for nobody, and have no turn.
template <class Shape>
__device__ __forceinline__ RingSlot release_of(uint32_t number) {
    const uint32_t preparer = number % Shape::kPreparers, first = (Shape::kStages - preparer + Shape::kPreparers - 1) / Shape::kPreparers;
    return ring_slot<kReleases>(number / Shape::kPreparers - first);
}

// Of a preparer, a whole warp.
template <class Shape>
__device__ __forceinline__ void await_release(const View<Shape> &s, uint32_t number) {
    const RingSlot release = release_of<Shape>(number);
    if (number >= Shape::kStages) wait(s.at(s->barriers.stage_released[release.index]), release.phase);
    __syncwarp();
}

// What one CTA of the cluster knows of another's shared memory: where things lie.
template <class Shape>
__device__ __forceinline__ ChainView<Shape> chain_view(const View<Shape> &here) {
    return {reinterpret_cast<ChainSmem<Shape> *>(here.memory), here.base};
}
template <class Shape>
__device__ __forceinline__ View<Shape> preparer_view(const ChainView<Shape> &here) {
    return {reinterpret_cast<Smem<Shape> *>(here.memory), here.base};
}

}  // namespace fkdai::prefill::quad

// The kernel's variants, how a state lies on the threads of its block, and what they share.
#pragma once

#include "decode_fused/decode_fused_launch.h"
#include "decode_fused/decode_fused_tuning.h"
#include "device/state_rows.cuh"

namespace fkdai::decode_fused {

inline constexpr int kWidth = 128;  // K and V

template <Stored stored, Axes axes>
struct Config {
    static constexpr Stored kStored = stored;
    static constexpr Axes kAxes = axes;
    static constexpr int kLanes = stored == Stored::F32 ? FKDAI_FUSED_F32_LANES : FKDAI_FUSED_BF16_LANES;
    static constexpr int kThreads = 32 * FKDAI_FUSED_WARPS;
    static constexpr int kRows = 4;                      // of a group of lanes in one turn: neighbours
    static constexpr int kFours = 32 / kLanes;           // of a row, in one lane: fours of neighbouring channels
    static constexpr int kTurnRows = kThreads / kLanes * kRows;
    static constexpr int kTurns = kWidth / kTurnRows;
    static constexpr int kMinBlocks = stored == Stored::F32 ? FKDAI_FUSED_F32_BLOCKS : FKDAI_FUSED_BF16_BLOCKS;
    static_assert(kTurns * kTurnRows == kWidth && (kFours == 1 || kFours == 2));

    // Two fours of bf16 of a [V,K] state are 16 bytes that are moved at once; everything else is moved by fours.
    static constexpr bool kPairs = stored == Stored::BF16 && axes == Axes::VK && kFours == 2;
    static constexpr int kPieces = kPairs ? kRows : kRows * kFours;    // of a thread in a turn

    // The first channel of a lane's four.
    __device__ __forceinline__ static int channel(int lane, int four) {
        constexpr bool kNeighbours = stored == Stored::BF16 && axes == Axes::VK;
        return 4 * (kNeighbours ? lane * kFours + four : four * kLanes + lane);
    }
};

template <bool pairs, Stored stored>
struct PieceOf {
    using Type = typename Four<stored>::Type;
};
template <Stored stored>
struct PieceOf<true, stored> {
    using Type = uint4;
};

// A block's shared memory. A thread reads from `pieces` what it has copied there itself.
template <class Config>
struct Shared {
    using Piece = typename PieceOf<Config::kPairs, Config::kStored>::Type;
    alignas(16) Piece pieces[Config::kTurns][Config::kPieces][Config::kThreads];   // the state, as it lies
    alignas(16) float q[kWidth], k[kWidth];                                        // scale q^, k^
    alignas(16) float decay[kWidth];                                               // see decayed()
    alignas(16) float v[kWidth];
    alignas(16) float factor[kWidth];                                              // norm_weight sigmoid(output_gate)
    alignas(16) float out[kWidth];                                                 // o
    float beta;                                                                    // b
};

// What a block does: the state of one head of one sequence.
struct Job {
    int n, h;
};

}  // namespace fkdai::decode_fused

// The kernel's variants, how a block lies on rows and lanes, and what it shares.
#pragma once

#include "decode/decode_launch.h"
#include "decode/decode_tuning.h"
#include "device/state_rows.cuh"

namespace fkdai::decode {

inline constexpr int kWidth = 128;  // K and V

template <fkdai_decode_shape shape, Stored stored, Axes axes>
struct Config {
    static constexpr bool kIsOne = shape == FKDAI_DECODE_ONE;
    static constexpr Stored kStored = stored;
    static constexpr Axes kAxes = axes;
    static constexpr int kTokens = kIsOne ? 1 : FKDAI_DECODE_MAX_TOKENS;
    static constexpr int of(int some, int one_f32, int one_bf16) { return !kIsOne ? some : stored == Stored::F32 ? one_f32 : one_bf16; }
    static constexpr int kLanes = of(FKDAI_DECODE_SOME_LANES, FKDAI_DECODE_ONE_F32_LANES, FKDAI_DECODE_ONE_BF16_LANES);
    static constexpr int kWarps = of(FKDAI_DECODE_SOME_WARPS, FKDAI_DECODE_ONE_F32_WARPS, FKDAI_DECODE_ONE_BF16_WARPS);
    static constexpr int kThreads = 32 * kWarps;
    static constexpr int kRows = FKDAI_DECODE_ROWS;      // of a group of lanes: neighbours
    static constexpr int kFours = 32 / kLanes;           // of a row, in one lane: fours of neighbouring channels
    static constexpr int kBlockRows = kWarps * (32 / kLanes) * kRows;
    static constexpr int kBlocksPerState = kWidth / kBlockRows;
    static constexpr int kMinBlocks = of(FKDAI_DECODE_SOME_BLOCKS, FKDAI_DECODE_ONE_F32_BLOCKS, FKDAI_DECODE_ONE_BF16_BLOCKS);
    static_assert(kFours == 1 || kFours == 2, "sums of a row are those of 32 lanes with one four each, in any shape");
    static_assert(stored == Stored::F32 || kLanes == FKDAI_DECODE_SOME_LANES, "sums of bf16 rows are those of so many lanes, in any shape");
    static_assert(kRows == 4 && kBlocksPerState * kBlockRows == kWidth);

    // The first channel of a lane's four. Two fours of bf16 are 16 bytes that are moved at once.
    __device__ __forceinline__ static int channel(int lane, int four) {
        constexpr bool kNeighbours = stored == Stored::BF16 && axes == Axes::VK;
        return 4 * (kNeighbours ? lane * kFours + four : four * kLanes + lane);
    }
};

// What a block knows of its tokens, in fp32.
template <class Config>
struct Tokens {
    alignas(16) float q[Config::kTokens][kWidth];      // scale q^
    alignas(16) float k[Config::kTokens][kWidth];      // k^
    alignas(16) float decay[Config::kTokens][kWidth];  // see decayed()
    float v[Config::kTokens][Config::kBlockRows];      // of the block's rows
    float beta[Config::kTokens];                       // b
    float kq[Config::kTokens];                         // k^ . scale q^
};

// What a block does: some rows of the state of one value head of one sequence.
struct Job {
    int n, hv;
    int first_row;
    int batch, count;   // token i of the sequence is row begin + i of this batch; count <= 0: nothing to do
    int64_t begin;
};

}  // namespace fkdai::decode

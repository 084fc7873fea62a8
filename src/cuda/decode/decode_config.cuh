// The kernel's variants, how a block lies on rows and lanes, and what it shares.
#pragma once

#include "decode/decode_launch.h"
#include "decode/decode_tuning.h"
#include "device/state_rows.cuh"

namespace fkdai::decode {

inline constexpr int kWidth = 128;  // K and V

enum class Inputs { BF16, ANY };    // fkdai_decode_grid.has_plain_input

// How a block begins (decode_kernel.cuh): fkdai_decode_grid.is_early. Known when the kernel is compiled: a test of it where the kernel runs becomes
// predicated instructions that wait for the slot, whether they do anything or not.
enum class Start { LATE, EARLY };

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ == 1000
inline constexpr int kSpillsOften = 1;    // with the registers that suffice elsewhere
#else
inline constexpr int kSpillsOften = 0;
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
inline constexpr int kSpillsChunk = 1;
#else
inline constexpr int kSpillsChunk = 0;
#endif

// On devices of this generation.
template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs, Start start>
constexpr bool is_built_for(int major) {
    return fkdai_decode_is_built(shape, stored == Stored::BF16, axes == Axes::KV, inputs == Inputs::BF16, start == Start::EARLY, major);
}

template <fkdai_decode_shape shape, Stored stored, Axes axes, Inputs inputs, Start start>
struct Config {
    static constexpr bool kIsOneSmall = shape == FKDAI_DECODE_ONE_SMALL, kIsOneSome = shape == FKDAI_DECODE_ONE_SOME;
    static constexpr bool kIsOne = shape == FKDAI_DECODE_ONE || kIsOneSmall || kIsOneSome;
    static constexpr bool kIsEarly = start == Start::EARLY;
    static constexpr bool kIsShort = kIsOne && kIsEarly;    // no loop, and the slot is checked while inputs are on their way: late blocks lose by it
    static constexpr bool kIsPersistent = shape == FKDAI_DECODE_PERSISTENT, kWritesSteps = shape == FKDAI_DECODE_STEPS;
    static constexpr bool kIsChunkHalf = shape == FKDAI_DECODE_CHUNK_HALF;
    static constexpr bool kIsChunk = shape == FKDAI_DECODE_CHUNK || kIsChunkHalf || kIsPersistent;    // takes tokens together
    static constexpr Stored kStored = stored;
    static constexpr Axes kAxes = axes;
    static constexpr Inputs kInputs = inputs;
#ifdef __CUDA_ARCH__
    static constexpr bool kHasCode = is_built_for<shape, stored, axes, inputs, start>(__CUDA_ARCH__ / 100);    // elsewhere no plan chooses it
#else
    static constexpr bool kHasCode = true;
#endif
    static constexpr int kTokens = kIsOne ? 1 : FKDAI_DECODE_MAX_TOKENS;
    static constexpr int of(int one_f32, int one_bf16, int few, int many, int chunk, int steps) {
        return shape == FKDAI_DECODE_FEW ? few : shape == FKDAI_DECODE_MANY || kIsOneSome ? many : kIsChunk ? chunk : kWritesSteps ? steps :
               stored == Stored::F32 ? one_f32 : one_bf16;
    }
    static constexpr int kLanes = of(FKDAI_DECODE_ONE_F32_LANES, FKDAI_DECODE_ONE_BF16_LANES, FKDAI_DECODE_FEW_LANES, FKDAI_DECODE_MANY_LANES,
                                     FKDAI_DECODE_CHUNK_LANES, FKDAI_DECODE_STEPS_LANES);
    static constexpr int kWarps = of(kIsOneSmall ? FKDAI_DECODE_ONE_SMALL_WARPS : FKDAI_DECODE_ONE_F32_WARPS,
                                     FKDAI_DECODE_ONE_BF16_WARPS, FKDAI_DECODE_FEW_WARPS, FKDAI_DECODE_MANY_WARPS,
                                     FKDAI_DECODE_CHUNK_WARPS, FKDAI_DECODE_STEPS_WARPS);
    // The rare ones would spill with as many blocks as the others.
    static constexpr int kChunkBlocks = FKDAI_DECODE_CHUNK_BLOCKS - (kSpillsChunk || (inputs == Inputs::ANY && axes == Axes::KV));
    static constexpr int kMinBlocks = of(kIsOneSmall ? FKDAI_DECODE_ONE_SMALL_BLOCKS : FKDAI_DECODE_ONE_F32_BLOCKS,
                                         FKDAI_DECODE_ONE_BF16_BLOCKS - kSpillsOften,
                                         FKDAI_DECODE_FEW_BLOCKS - (kSpillsOften || (inputs == Inputs::ANY && !kIsEarly)),
                                         FKDAI_DECODE_MANY_BLOCKS - (inputs == Inputs::ANY), kIsPersistent ? 1 : kChunkBlocks, FKDAI_DECODE_STEPS_BLOCKS);
    static constexpr int kRowWarps = kIsChunkHalf ? FKDAI_DECODE_CHUNK_HALF_ROW_WARPS : kWarps;    // the first ones; all prepare tokens
    static constexpr int kThreads = 32 * kWarps;         // of PERSISTENT those that prepare tokens; as many have rows of states
    static constexpr int kBlockThreads = kIsPersistent ? 2 * kThreads : kThreads;
    static constexpr int kRows = kIsChunk ? FKDAI_DECODE_CHUNK_ROWS : FKDAI_DECODE_ROWS;      // of a group of lanes: neighbours
    static constexpr int kFours = 32 / kLanes;           // of a row, in one lane: fours of channels
    static constexpr int kBlockRows = kRowWarps * (32 / kLanes) * kRows;
    static constexpr int kBlocksPerState = kWidth / kBlockRows;
    static_assert(kBlocksPerState * kBlockRows == kWidth);
    static_assert(kWarps % 2 == 0 && kThreads % kBlockRows == 0);

    // The first channel of a lane's four, counted from that of its first. A row's sum is that of 32 partial sums of a four each, over pairs of fours,
    // pairs of pairs and so on, in one order whatever the shape: a lane's own pairs are those that more lanes would add first. In [V,K] two fours of
    // bf16 are 16 bytes that are moved at once, so there the first pairs are neighbours.
    static constexpr bool kPairsTouch = stored == Stored::BF16 && axes == Axes::VK && !kIsChunk;
    static_assert(kIsChunk || kFours == 2 || kFours == 4 || (kFours == 1 && !kPairsTouch));
    __device__ __forceinline__ static constexpr int channel_of(int four) {
        return kIsChunk ? four * 16 : kPairsTouch ? four % 2 * 4 + four / 2 * 64 : four % 2 * 64 + four / 2 * 32;
    }
    __device__ __forceinline__ static int channel(int lane, int four) { return lane * (kPairsTouch ? 8 : 4) + channel_of(four); }
};

// What CHUNK makes of all tokens together (decode_chunk.cuh).
struct Related {
    static constexpr int kTokens = FKDAI_DECODE_MAX_TOKENS, kPitch = kWidth + 16;    // lanes of a quarter warp meet no bank twice
    static constexpr int kGateWarps = 4;
    alignas(16) float k_decayed[kTokens][kPitch], q_decayed[kTokens][kPitch];    // k^ and scale q^ times the decays up to their token
    alignas(16) float scores[kTokens][kTokens / 2][4];                           // [s][t / 2]: -A, -A, M, M of tokens t and s

    // Where a state is written. From all tokens to the state behind the last: S whole + S rest are S times their decays; whole is 0 or 1.
    alignas(16) float whole[kWidth], rest[kWidth];
    alignas(16) float log2_kept[kGateWarps][kWidth];    // a warp's sum of log2 a over its tokens

    int64_t begin;    // of PERSISTENT, for the threads that have rows: as in Job
    int n, hv, count;
};
struct Unrelated {};

// What a block knows of its tokens, in fp32.
template <class Config>
struct Tokens : std::conditional_t<Config::kIsChunk, Related, Unrelated> {
    alignas(16) float q[Config::kTokens][kWidth];      // scale q^; of CHUNK later k^ times the decays behind its token (carried_at)
    alignas(16) float k[Config::kTokens][kWidth];      // k^
    alignas(16) float decay[Config::kTokens][kWidth];  // see decayed(); of CHUNK a itself
    float v[Config::kTokens][Config::kBlockRows];      // of the block's rows
    float beta[Config::kTokens];                       // b
    float kq[Config::kTokens];                         // k^ . scale q^
    uint32_t unread;
};

// Four channels of a row of numbers.
__device__ __forceinline__ float4 &four_at(float *row, int four) { return reinterpret_cast<float4 *>(row)[four]; }
__device__ __forceinline__ const float4 &four_at(const float *row, int four) { return reinterpret_cast<const float4 *>(row)[four]; }

__device__ __forceinline__ unsigned unsigned_thread() { return static_cast<unsigned>(thread_here()); }    // divisions by powers of two are shifts

// What a block does: some rows of the state of one value head of one sequence.
struct Job {
    int n, hv;
    int first_row;
    int count;       // tokens; <= 0: nothing to do
    int64_t begin;   // the first of them, packed; 0 otherwise
};

}  // namespace fkdai::decode

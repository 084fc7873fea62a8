// What the parts of the preparation share: which tokens and channels a warp and a lane have, and how warps meet.
#pragma once

#include "prefill_mma/mma_steps.cuh"

namespace fkdai::portable {

inline constexpr int kPrepareMeets = 1, kPairMeets = 2;    // of the named barriers; of the two warps that share eight tokens, the first

// A lane's channels of eight tokens: q and k as they came; gamma inside the eight tokens.
struct Lane {
    uint32_t k[8], q[8];
    float gamma[2][8];
};
// The same as operands: -K 2^-m, Q 2^-m.
struct LaneOperands {
    uint32_t k[8], q[8];
};

struct PrepareWarp {
    const Params &p;
    View s;
    const Work &work;
    int warp, lane;

    __device__ __forceinline__ static PrepareWarp of(const Params &p, const View &s, int warp) { return {p, s, s->work, uniform(warp), lane_here()}; }

    __device__ __forceinline__ static void meet() { warps_meet<kPrepareThreads>(kPrepareMeets); }
    __device__ __forceinline__ void meet_pair() const { warps_meet<64>(kPairMeets + group()); }

    // Eight tokens and half of the channels; a lane has two of them.
    __device__ __forceinline__ int half() const { return warp & 1; }
    __device__ __forceinline__ int group() const { return warp >> 1; }
    __device__ __forceinline__ int channel() const { return 64 * half() + 2 * lane; }
    __device__ __forceinline__ int channel_here() const { return 64 * half() + 2 * lane_here(); }    // anew: registers are few
    // This lane's pair of channels of token 8 group + t in a tile.
    __device__ __forceinline__ uint32_t pair(int t) const { return tile_offset(8 * group() + t, 8 * half() + (lane >> 2)) + (lane & 3) * 4; }

    // Where the sums of an eight of tokens stand, of this lane's channels.
    __device__ __forceinline__ uint32_t sums(int eight) const { return s.at(s->sums[eight]) + channel() * 4; }

    // The block of 16 x 16 scores that a warp makes: of keys or of queries, by keys.
    __device__ __forceinline__ bool scores_queries() const { return warp >= 4; }
    __device__ __forceinline__ int score_row() const { return warp >> 1 & 1; }
    __device__ __forceinline__ int score_column() const { return warp & 1; }
};

}  // namespace fkdai::portable

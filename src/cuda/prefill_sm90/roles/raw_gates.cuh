// g as a warp of the operands reads it: from the stage, where it has come as bf16; in fp32 from memory.
#pragma once

#include <type_traits>

#include "device/requests.cuh"
#include "device/sm90/store_matrices.cuh"
#include "prefill_sm90/roles/loads.cuh"

namespace fkdai::prefill {

// Warp = 64 channels x 16 tokens, block `block` of the chunk's two; lane = channels `channel` and the one after it.
template <class Smem, GateKind kind>
struct RawGates {
    const Params &p;
    int block, channel, lane;

    // Of this lane's channels, four tokens.
    struct Bf16 {
        uint32_t pair[4];
        __device__ __forceinline__ float first(int t) const { return low_bf16(pair[t]); }
        __device__ __forceinline__ float second(int t) const { return high_bf16(pair[t]); }
    };
    struct F32 {
        float2 pair[4];
        __device__ __forceinline__ float first(int t) const { return pair[t].x; }
        __device__ __forceinline__ float second(int t) const { return pair[t].y; }
    };
    using Four = std::conditional_t<kind == GateKind::PrecomputedF32, F32, Bf16>;

    // In memory: this lane's channels of the first token of its block, `chunks` chunks on.
    __device__ __forceinline__ const float *first_of(const ChunkInfo &info, int chunks) const {
        if (kind != GateKind::PrecomputedF32) return nullptr;
        return p.g_f32 + p.g_strides.offset(info.batch, info.token + chunks * kChunk + 16 * block, info.head) + channel;
    }
    // Four tokens, `row` on from the first of the block; `left` tokens of the block are in the sequence. at: in the stage.
    __device__ __forceinline__ void load(Bf16 &g, uint32_t at, const float *, int, int) const { load_matrices(g.pair, at); }
    __device__ __forceinline__ void load(F32 &g, uint32_t, const float *first, int row, int left) const {
        const float *from = first + row * p.g_strides.token;
#pragma unroll
        for (int t = 0; t < 4; t++, from += p.g_strides.token)
            g.pair[t] = row + t < left ? *reinterpret_cast<const float2 *>(from) : make_float2(0.f, 0.f);
    }

    // Those of the group's next chunk, where keeps_gates says so (else empty): asked for in L2 when a chunk begins, in registers when it has been made.
    // Not before: the fences inside wait for every load that is on its way.
    static constexpr bool kAreKept = keeps_gates<Smem, kind>;
    struct Kept {
        Four g[kAreKept ? 4 : 1];
        bool is_there = false;
    };
    __device__ __forceinline__ void prefetch_next(const ChunkInfo &info) const {
        const int row = lane >> 3, left = info.rows_ahead - 16 * block;
        const float *from = first_of(info, Smem::kGatesAhead) + row * p.g_strides.token + (lane & 7) * 8 - 2 * lane;  // 32 bytes of a row
#pragma unroll
        for (int t = 0; t < 16; t += 4, from += 4 * p.g_strides.token)
            if (row + t < left) prefetch_line(from);
    }
    __device__ __forceinline__ void keep(Kept &kept, const ChunkInfo &info, int chunks, int rows) const {
        const float *const first = first_of(info, chunks);
#pragma unroll
        for (int n = 0; n < 4; n++) load(kept.g[n], 0, first, 4 * n, rows - 16 * block);
    }
    __device__ __forceinline__ void keep_next(Kept &kept, const ChunkInfo &info) const {
        if constexpr (kAreKept) {
            kept.is_there = info.rows_ahead > 0;
            if (kept.is_there) keep(kept, info, Smem::kGatesAhead, info.rows_ahead);
        }
    }
};

}  // namespace fkdai::prefill

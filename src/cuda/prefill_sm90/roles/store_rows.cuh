// O of a CTA's half of V on its way out.
#pragma once

#include "device/requests.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// One warp: eight lanes write one token's 128 bytes of this CTA's half of V. Plain stores: rows past a sequence belong
// to the next one.
template <class Memory>
struct StoreRows {
    const Params &p;
    SharedView<Memory> s;
    int rank, lane;

    // This lane's 16 bytes in a tile, of the first four tokens.
    __device__ __forceinline__ uint32_t unit() const { return kept(((lane >> 3) * 128) + ((lane & 7) ^ (lane >> 3)) * 16, lane); }

    // The rows of a chunk whose O lies in tile `slot`.
    __device__ __forceinline__ void store(uint32_t slot, uint32_t unit, const ChunkInfo &at) const {
        store_rows(slot, unit, at.rows_out, p.out + p.out_strides.offset_of(at.batch, at.token + (lane >> 3), at.head) + rank * kHalf + (lane & 7) * 8);
    }

    // unit: this lane's 16 bytes in the tile; row: where they go, of the first four tokens.
    __device__ __forceinline__ void store_rows(uint32_t slot, uint32_t unit, int rows, __nv_bfloat16 *row) const {
        uint32_t from = s.at(s->out[slot]) + unit;
        int left = rows - (lane >> 3);
#pragma unroll 1
        for (int half = 0; half < 2; half++) {
            uint4 x[4];
#pragma unroll
            for (int i = 0; i < 4; i++) x[i] = load_uint4((from ^ (i & 1) * 64) + i * 512);
#pragma unroll
            for (int i = 0; i < 4; i++, row += 4 * p.out_strides.token)
                store_16(row, x[i], left > 4 * i);
            from += 4 * 512, left -= 16;
        }
    }
};

}  // namespace fkdai::prefill

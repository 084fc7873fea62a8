// The loop of a chain that is one warpgroup of its CTA: chunk after chunk of a segment, and the rare ones whose R does not fit.
#pragma once

#include "prefill_sm90/roles/range_guard.cuh"

namespace fkdai::prefill {

// What a chunk leaves between its products.
struct Chunk {
    TokensBf16 v_bf16;  // of the next chunk, once this one's are used
    TokenRows r;
    TokensF16 r_f16;
    StateBf16 state_bf16;
    Decays decays;      // for a chain that asks for them before its products
    TokenRows o;        // Q S, for a chain that makes it beside K S
    RingSlot slot;      // of its stage, where slots are counted on (quad_parts.cuh)
    uint32_t stage;     // address
    uint32_t range;     // of R
};

// `rows` of the tokens left belong to the sequence; another chunk follows while more than `last` are left. Chunks whose R does not fit leave the
// loop in the middle: instructions that are jumped over cost as much as those that run.
//
// chain.begin(number, chunk, state): to R. chain.finish<is_scaled>(number, rows, has_more, factors, chunk, state): from R on; false if R does not
// fit, and then nothing but U has been made.
template <class Chain>
__device__ __forceinline__ void run_part(const Chain &chain, int left, int last, int &rows, uint32_t &number, Chunk &chunk, StateRows &state) {
    while (left > 0) {
        bool fits = true;
        for (; left > 0; rows -= kChunk, number++, left--) {
            chain.begin(number, chunk, state);
            fits = chain.template finish<false>(number, rows, left > last, 0, chunk, state);
            if (!fits) break;
        }
        if (fits) break;
        const uint32_t factors = scale_into_range(chunk.stage, chain.lane, chunk.r, chunk.r_f16, state, chunk.state_bf16);
        chain.template finish<true>(number, rows, left > last, factors, chunk, state);
        rows -= kChunk, number++, left--;
    }
}

// The next part's first chunk has been awaited when the state leaves between two. chain.await_chunk(number, rows, chunk): until stage and values of
// the first one are there.
template <class Chain, class LeaveCheckpoint>
__device__ __forceinline__ void run_parts(const Chain &chain, const SegmentParts &parts, uint32_t &number, StateRows &state,
                                          const LeaveCheckpoint &leave_checkpoint) {
    Chunk chunk;
    int rows = parts.rows;
    chain.await_chunk(number, rows, chunk);
    for (int part = 1;; part++) {
        const bool is_last = part == parts.count;
        run_part(chain, parts.chunks, is_last ? 1 : 0, rows, number, chunk, state);
        if (is_last) return;
        leave_checkpoint(part, state);
    }
}

}  // namespace fkdai::prefill

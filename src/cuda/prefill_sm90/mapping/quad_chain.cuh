// The chain role of quad: the recurrence over all chunks and O, for the 64 rows of V that are this CTA's.
#pragma once

#include "prefill_sm90/mapping/quad_parts.cuh"

namespace fkdai::prefill::quad {

struct ChainRole : StateParts<Quad> {
    uint32_t minus_zero = kept(0x80000000u, lane);

    __device__ __forceinline__ void run() const {
        uint32_t number = 0;  // of the chunk, on the cluster's timeline
        run_segments<true>([&](const SegmentParts &parts, StateRows &state, const auto &leave_checkpoint) {
            run_parts(*this, parts, number, state, leave_checkpoint);
        });
    }

    // One chunk, to R. K and Q stand behind each other in a tile, so one product adds -K S to V and gives Q S.
    __device__ __forceinline__ void begin(uint32_t number, Chunk &chunk, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        float x[32];
        mark(mark_chain_begins, number, is_reader);
        round_state(state, chunk.state_bf16);
        begin_with_values(chunk.v_bf16, x);
#pragma unroll
        for (int i = 16; i < 32; i++) x[i] = 0.f;
        multiply_both(chunk.stage, chunk.state_bf16, x, state);   // R = V - K S, Q S                    [64,64]
        mark(mark_chain_has_issued_k, number, is_reader);
        chunk.range = load_range(chunk.stage);
        mark(mark_chain_has_solve, number, is_reader);
        mma_wait<0>();
        pin(x);
        // Adding -0 changes nothing. But the accumulators of M U must be registers of their own, or ptxas serialises all products (C7511).
#pragma unroll
        for (int i = 0; i < 16; i++) chunk.r[i] = x[i], chunk.o[i] = x[16 + i] + __uint_as_float(minus_zero);
        mark(mark_chain_has_k, number, is_reader);
        as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    }

    // Meanwhile S <- Diag(2^gamma_C) S, 16 channels behind each part of the product: the compiler would put all of it behind the first.
    __device__ __forceinline__ void multiply_both(uint32_t stage, const StateBf16 &state_bf16, float (&x)[32], StateRows &state) const {
        float4 factors;
        pin(x);
#pragma unroll
        for (int k = 0; k < 8; k++) {
            if (k > 0) decay_eight(factors, k - 1, state);
            mma_begin();  // at each part: what decays between two counts as a use of registers (C7519)
            mma<MmaN64>(state_bf16[k], tokens_of(stage + offsetof(Stage, kq), k), x);
            factors = load_decay(stage, quarter, k);
        }
        mma_commit();
        decay_eight(factors, 7, state);
    }

    // From R on; not scaled, false if R does not fit, which is known while U is made: then nothing but that has happened. In the end v_bf16 and stage
    // are those of the next chunk, if the segment has more: what belongs to it is awaited behind the last product.
    // factors: bf16, of the rows of O and S.
    template <bool is_scaled>
    __device__ __forceinline__ bool finish(uint32_t number, int rows, bool has_more, uint32_t factors, Chunk &chunk, StateRows &state) const {
        TokenRows u;
        TokensF16 u_f16;
        TokenRows &o = chunk.o;
        const uint32_t stage = chunk.stage;
        const bool is_reader = warp == 0 && lane == 0;
        solve_update(stage, chunk.r_f16, u);                      // U = T R                             [32,64]
        if (is_scaled) multiply_state(stage + offsetof(Stage, kq) + kQueryRows, chunk.state_bf16, o);
        const bool fits = is_scaled || warpgroup_all(kChainBarrier, is_in_range(chunk.r_f16, chunk.range));
        mma_wait<0>();
        pin(u), pin(o);
        if (!fits) return false;
        mark(mark_chain_has_u, number, is_reader);
        as_operand<Type16::F16>(u_f16, u);
        mma_begin();
        read_recent(stage, u_f16, o);                             // O = Q S + M U                       [32,64]
        mma_commit();
        pin(state);
        add_update(stage, u_f16, state);                          // S += Kr U                           [64,128]
        mma_commit();
        mark(mark_chain_has_issued_the_last_products, number, is_reader);
        const RingSlot done = chunk.slot;
        chunk.slot = next_slot(done);
        if (has_more) await_chunk(rows - kChunk, chunk);
        mark(mark_chain_has_the_next_operands, number, is_reader);
        mma_wait<1>();
        pin(o);
        if (is_scaled) scale_out(p, stage, lane, factors, o);
        hand_out(number, o);
        mark(mark_chain_has_handed_out, number, is_reader);
        mma_wait<0>();
        pin(state);
        if (is_scaled) multiply_rows(state, factors);
        finish_chunk(done);  // the products are done; decays and values came before them
        mark(mark_chain_has_the_state, number, is_reader);
        return true;
    }
};

}  // namespace fkdai::prefill::quad

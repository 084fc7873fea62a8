// The chain role of quad: the recurrence over all chunks and O, for the 64 rows of V that are this CTA's.
#pragma once

#include "prefill_sm90/mapping/quad_parts.cuh"

namespace fkdai::prefill::quad {

// Shape: Quad, Quint or Sextet.
template <class Shape>
struct ChainRole : StateParts<Shape> {
    using Parts = StateParts<Shape>;
    using Parts::p, Parts::warp, Parts::lane, Parts::quarter;
    // Added to O, which changes no bit, it gives O registers of its own; ptxas would serialise all products (C7511) if one of them had R's and O's, and
    // another O's alone.
    uint32_t minus_zero = kept(0x80000000u, lane);

    __device__ __forceinline__ void run() const {
        uint32_t number = 0;  // of the chunk, on the cluster's timeline
        const auto work = [&](const SegmentParts &parts, StateRows &state, const auto &leave_checkpoint) {
            run_parts(*this, parts, number, state, leave_checkpoint);
        };
        const auto fork = [&](int rows, StateRows &state, const auto &leave) { fork_state(*this, number++, rows, state, leave); };
        if constexpr (Shape::kForks) this->template run_segments<true>(work, fork);
        else this->template run_segments<true>(work);
    }

    // Of fork_state.
    __device__ __forceinline__ static void update(uint32_t stage, const TokensF16 &u_f16, StateRows &state) {
        add_update_halves(stage, u_f16, state);
    }

    // One chunk, to R.
    __device__ __forceinline__ void begin(uint32_t number, Chunk &chunk, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        mark(mark_chain_begins, number, is_reader);
        load_decays(chunk.stage, quarter, chunk.decays);
        round_state(state, chunk.state_bf16);
        ResidualAndOut both;
        begin_residual_and_out(chunk.stage, chunk.v_bf16, chunk.state_bf16, both);  // R = V - K S; Q S      [32,64] each
        this->template decay_meanwhile<0, 8>(number, chunk.decays, state);          // S <- Diag(2^gamma_C) S   [64,128]
        mark(mark_chain_has_issued_k, number, is_reader);
        chunk.range = load_range(chunk.stage);
        mark(mark_chain_has_solve, number, is_reader);
        mma_wait<0>();
        pin(both);
        mark(mark_chain_has_k, number, is_reader);
#pragma unroll
        for (int i = 0; i < 16; i++) chunk.r[i] = both[i], chunk.o[i] = both[16 + i] + __uint_as_float(minus_zero);
        as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    }

    // From R on; not scaled, false if R does not fit, which is known while U is made: then nothing but that has happened. In the end v_bf16 and stage
    // are those of the next chunk, if the segment has more: what belongs to it is awaited behind the last product.
    // factors: bf16, of the rows of O and S.
    template <bool is_scaled>
    __device__ __forceinline__ bool finish(uint32_t number, int rows, bool has_more, uint32_t factors, Chunk &chunk, StateRows &state) const {
        TokenRows u;
        TokenRows &o = chunk.o;
        TokensF16 u_f16;
        const uint32_t stage = chunk.stage;
        const bool is_reader = warp == 0 && lane == 0;
        const bool fits_here = is_scaled || is_in_range(chunk.r_f16, chunk.range);
        solve_update(stage, chunk.r_f16, u);                      // U = T R                             [32,64]
        const uint32_t all_fit = is_scaled ? 1 : warpgroup_and(kChainBarrier, fits_here);
        if (is_scaled) multiply_state(stage + offsetof(Stage, kq) + kQueryRows, chunk.state_bf16, o);
        const bool fits = is_scaled || __any_sync(~0u, all_fit);
        mma_wait<0>();
        pin(u), pin(o);
        as_operand<Type16::F16>(u_f16, u);
        if (!fits) return false;
        mark(mark_chain_has_u, number, is_reader);
        mma_begin();
        read_recent(stage, u_f16, o);                             // O = Q S + M U                       [32,64]
        mma_commit();
        pin(state);
        add_update_halves(stage, u_f16, state);                          // S += Kr U                           [64,128]
        mma_commit();
        mark(mark_chain_has_issued_the_last_products, number, is_reader);
        const RingSlot done = chunk.slot;
        chunk.slot = this->next_slot(done);
        if (has_more) this->await_chunk(rows - kChunk, chunk);
        mark(mark_chain_has_the_next_operands, number, is_reader);
        mma_wait<1>();
        pin(o);
        if (is_scaled) scale_out(p, stage, lane, factors, o);
        this->hand_out(number, o);
        mark(mark_chain_has_handed_out, number, is_reader);
        mma_wait<0>();
        pin(state);
        if (is_scaled) multiply_rows(state, factors);
        this->finish_chunk(done);  // the products are done; decays and values came before them
        mark(mark_chain_has_the_state, number, is_reader);
        return true;
    }
};

}  // namespace fkdai::prefill::quad

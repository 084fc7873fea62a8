// The chain role of octet: the recurrence over all chunks, for the 64 rows of V that are this CTA's, and nothing else. U of each chunk goes to the
// CTA that makes O, which follows the state with it (octet_out.cuh).
#pragma once

#include "prefill_sm90/mapping/quad_copy.cuh"
#include "prefill_sm90/mapping/quad_parts.cuh"

namespace fkdai::prefill::quad {

template <class Shape>
struct OctetChainRole : StateParts<Shape> {
    using Parts = StateParts<Shape>;
    using Parts::p, Parts::s, Parts::half, Parts::warp, Parts::lane, Parts::quarter;
    // In the out CTA: where this lane's part of U lies in the first stage, where its factors lie, and the barrier that counts both.
    uint32_t peer_update = kept(there(s.at(s->update[0][warp][0][lane])), lane);
    uint32_t peer_factors = kept(there(s.at(s->factors[0][warp][lane])), lane);
    uint32_t peer_ready = kept(there(s.at(s->barriers.chunk_ready[0])), lane);

    __device__ __forceinline__ uint32_t there(uint32_t address) const { return peer_address(address, kChains + half); }

    __device__ __forceinline__ void run() const {
        uint32_t number = 0, copied = 0;  // of the chunk, on the cluster's timeline; of checkpoints
        this->template run_segments<true>([&](const SegmentParts &parts, StateRows &state, const auto &leave_checkpoint) {
            run_parts(*this, parts, number, state, [&](int before, const StateRows &x) {
                if (checkpoints_are_copied<Shape>(p)) CopiedRows<Shape, 0>{s, warp, lane}.leave(copied++, x);
                else await_follower(), leave_checkpoint(before, x);
            });
            await_follower();
        });
    }

    // States may be left where the first one was: the out CTA has read it. Its barrier flips once.
    __device__ __forceinline__ void await_follower() const { wait(s.at(s->barriers.follower_begun), 0); }

    // One chunk, to R.
    __device__ __forceinline__ void begin(uint32_t number, Chunk &chunk, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        mark(mark_chain_begins, number, is_reader);
        load_decays(chunk.stage, quarter, chunk.decays);
        round_state(state, chunk.state_bf16);
        begin_residual(chunk.stage, chunk.v_bf16, chunk.state_bf16, chunk.r);  // R = V - K S                [32,64]
        this->template decay_meanwhile<0, 4>(number, chunk.decays, state);       // S <- Diag(2^gamma_C) S              [64,128]
        mark(mark_chain_has_issued_k, number, is_reader);
        chunk.range = load_range(chunk.stage);
        mark(mark_chain_has_solve, number, is_reader);
        mma_wait<0>();
        pin(chunk.r);
        mark(mark_chain_has_k, number, is_reader);
        as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    }

    // From R on, as in quad.
    template <bool is_scaled>
    __device__ __forceinline__ bool finish(uint32_t number, int rows, bool has_more, uint32_t factors, Chunk &chunk, StateRows &state) const {
        TokenRows u;
        TokensF16 u_f16;
        const uint32_t stage = chunk.stage;
        const bool is_reader = warp == 0 && lane == 0;
        solve_update(stage, chunk.r_f16, u);                      // U = T R                             [32,64]
        const uint32_t all_fit = is_scaled ? 1 : warpgroup_and(kChainBarrier, is_in_range(chunk.r_f16, chunk.range));
        if (!is_scaled) this->template decay_meanwhile<4, 8>(number, chunk.decays, state);
        const bool fits = is_scaled || __any_sync(~0u, all_fit);
        mma_wait<0>();
        pin(u);
        as_operand<Type16::F16>(u_f16, u);
        if (!fits) return false;
        mark(mark_chain_has_u, number, is_reader);
        mma_begin();
        pin(state);
        add_update(stage, u_f16, state);                          // S += Kr U                           [64,128]
        mma_commit();
        mark(mark_chain_has_issued_the_last_products, number, is_reader);
        const RingSlot done = chunk.slot;
        chunk.slot = this->next_slot(done);
        if (has_more) this->await_chunk(rows - kChunk, chunk);
        mark(mark_chain_has_the_next_operands, number, is_reader);
        send_update(done.index, u_f16, factors);
        mark(mark_chain_has_handed_out, number, is_reader);
        mma_wait<0>();
        pin(state);
        if (is_scaled) multiply_rows(state, factors);
        this->finish_chunk(done);  // the products are done; decays and values came before them
        mark(mark_chain_has_the_state, number, is_reader);
        return true;
    }

    // There is room: the operands of a chunk are sent once all receivers have finished the one before it in their stage.
    __device__ __forceinline__ void send_update(uint32_t slot, const TokensF16 &u, uint32_t factors) const {
        using Memory = ChainSmem<Shape>;
        const uint32_t ready = peer_ready + slot * uint32_t{sizeof(uint64_t)};
        const uint32_t to = peer_update + slot * uint32_t{sizeof(Memory::update[0])};
#pragma unroll
        for (int k = 0; k < 2; k++) store_16_to_peer(to + k * uint32_t{sizeof(Memory::update[0][0][0])}, u[k], ready);
        store_word_to_peer(peer_factors + slot * uint32_t{sizeof(Memory::factors[0])}, factors, ready);
    }
};

}  // namespace fkdai::prefill::quad

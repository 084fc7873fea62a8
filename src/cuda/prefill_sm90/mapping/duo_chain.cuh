// The chain role of duo: the recurrence over all chunks, for the 64 rows of V that are this CTA's.
#pragma once

#include "prefill_sm90/mapping/duo_config.cuh"
#include "prefill_sm90/roles/fork.cuh"

namespace fkdai::prefill::duo {

template <class Memory>
struct ChainRole {
    const Params &p;
    SharedView<Memory> s;
    int rank, cluster, warp, lane;
    // Of this lane: byte offsets of its row in a tile of V or O, and of its factors in those of 16 channels.
    uint32_t tile_row = kept(tile_offset(warp, lane), lane), quarter = kept((lane & 3) * 16u, lane);

    __device__ __forceinline__ void run() const {
        uint32_t number = 0;  // of the chunk, on the cluster's timeline
        const auto await_staging = [&] { await_out(number), await_out(number + 1); };  // where O waits, the state passes
        const auto await_tiles = [&](int chunks) {  // all blocks want tiles and states at once, and tiles are wanted first
            if constexpr (Memory::kStateBehindTiles)
                for (int i = 0; i < kPrepareGroups && (are_lone<Memory> || i * kRanks + rank < chunks); i++) wait(s.at(s->barriers.raw_ready[i]), 0);
        };
        const auto leave_cluster = [] {
            if constexpr (leaves_early<Memory>) cluster_arrive();
        };
        const StateIo<Memory, decltype(await_staging), true, decltype(await_tiles), decltype(leave_cluster)> state_io{
            p, s, rank, cluster, warp, lane, kChainBarrier, s.at(s->state_rows[warp]), await_staging, await_tiles, leave_cluster};
        const auto work = [&](const SegmentParts &parts, StateRows &state, const auto &leave_checkpoint) {
            run_parts(*this, parts, number, state, leave_checkpoint);
        };
        state_io.run(work, [&](int rows, StateRows &state, const auto &leave) {
            fork_state(*this, number++, rows, state, leave);
        });
    }

    __device__ __forceinline__ RingSlot slot_of(uint32_t number) const {
        return number % kRanks == static_cast<uint32_t>(rank) ? own_slot(number / kRanks) : received_slot(number / kRanks);
    }

    // Waits until the operands of a chunk but for T are there. Returns the address of its stage.
    __device__ __forceinline__ uint32_t await_operands(uint32_t number) const {
        const RingSlot slot = slot_of(number);
        wait(s.at(s->barriers.operands_ready[0]) + slot.index * uint32_t{sizeof(uint64_t)}, slot.phase);
        return s.at(s->stages[0]) + slot.index * uint32_t{sizeof(Stage)};
    }
    __device__ __forceinline__ void await_chunk(uint32_t number, int rows, Chunk &chunk) const {
        chunk.stage = await_operands(number);
        load_values(number, rows, chunk.v_bf16);
    }
    __device__ __forceinline__ void await_solve(uint32_t number) const {
        const RingSlot slot = slot_of(number);
        wait(s.at(s->barriers.solve_ready[0]) + slot.index * uint32_t{sizeof(uint64_t)}, slot.phase);
    }

    // One chunk, to R. What the products need least stands in the shadow of others: the decay behind K, and in `finish` Q behind U, O on its way out
    // behind the update.
    __device__ __forceinline__ void begin(uint32_t number, Chunk &chunk, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        Decays decays;
        mark(mark_chain_begins, number, is_reader);
        load_decays(chunk.stage, quarter, decays);
        round_state(state, chunk.state_bf16);
        begin_residual(chunk.stage, chunk.v_bf16, chunk.state_bf16, chunk.r);  // R = V - K S                [32,64]
        mark(mark_chain_has_issued_k, number, is_reader);
        decay(decays, state);                                     // S <- Diag(2^gamma_C) S              [64,128]
        await_solve(number);
        chunk.range = load_range(chunk.stage);
        mark(mark_chain_has_solve, number, is_reader);
        mma_wait<0>();
        pin(chunk.r);
        mark(mark_chain_has_k, number, is_reader);
        free_values(number);
        as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    }

    // From R on; not scaled, false if R does not fit, which is known while U is made: then nothing but that has happened. In the end v_bf16 and stage
    // are those of the next chunk, if the segment has more: what belongs to it is awaited behind the last product.
    // factors: bf16, of the rows of O and S.
    template <bool is_scaled>
    __device__ __forceinline__ bool finish(uint32_t number, int rows, bool has_more, uint32_t factors, Chunk &chunk, StateRows &state) const {
        TokenRows u, o;
        TokensF16 u_f16;
        const uint32_t stage = chunk.stage;
        const bool is_reader = warp == 0 && lane == 0;
        solve_update(stage, chunk.r_f16, u);                      // U = T R                             [32,64]
        multiply_state(stage + offsetof(Stage, kq) + kQueryRows, chunk.state_bf16, o);  // Q S           [32,64]
        const bool fits = is_scaled || warpgroup_all(kChainBarrier, is_in_range(chunk.r_f16, chunk.range));
        mma_wait<1>();
        pin(u);
        if (!fits) {
            mma_wait<0>();
            pin(o);
            return false;
        }
        mark(mark_chain_has_u, number, is_reader);
        as_operand<Type16::F16>(u_f16, u);
        mma_begin();
        read_recent(stage, u_f16, o);                             // O = Q S + M U                       [32,64]
        mma_commit();
        pin(state);
        add_update(stage, u_f16, state);                          // S += Kr U                           [64,128]
        mma_commit();
        mark(mark_chain_has_issued_the_last_products, number, is_reader);
        if (has_more) await_chunk(number + 1, rows - kChunk, chunk);
        mark(mark_chain_has_the_next_operands, number, is_reader);
        mma_wait<1>();
        pin(o);
        if (is_scaled) scale_out(p, stage, lane, factors, o);
        hand_out(number, o);
        mark(mark_chain_has_handed_out, number, is_reader);
        mma_wait<0>();
        pin(state);
        if (is_scaled) multiply_rows(state, factors);
        // Every read of the stage is over: the products are done, and the decays came before them.
        warp_arrive(s.at(s->barriers.chunk_done[number % kDoneStages]), lane);
        mark(mark_chain_has_the_state, number, is_reader);
        return true;
    }

    // Of fork_state.
    __device__ __forceinline__ bool all_fit(bool fits) const { return warpgroup_all(kChainBarrier, fits); }
    __device__ __forceinline__ static void update(uint32_t stage, const TokensF16 &u_f16, StateRows &state) { add_update(stage, u_f16, state); }
    __device__ __forceinline__ void skip_out(uint32_t number, const Chunk &, const TokensF16 &) const {
        await_out(number);
        warp_arrive(s.at(s->barriers.out_ready[ring_slot<kOutStages>(number).index]), lane);
    }
    __device__ __forceinline__ void free_chunk(uint32_t number, const Chunk &) const {
        free_values(number);
        warp_arrive(s.at(s->barriers.chunk_done[number % kDoneStages]), lane);
    }

    // V^T [64,32] of this CTA's half, in the accumulator's layout.
    __device__ __forceinline__ void load_values(uint32_t number, int rows, TokensBf16 &v) const {
        const RingSlot slot = ring_slot<kValueStages>(number);
        const uint32_t from = s.at(s->value[slot.index]) + tile_row;
        wait(s.at(s->barriers.value_ready[slot.index]), slot.phase);
        load_matrices_transposed(v[0], from), load_matrices_transposed(v[1], from + 16 * 128);
        if (rows < kChunk) mask_values(rows, lane, v);
    }
    // Only once V has been used: an arrival does not wait for loads.
    __device__ __forceinline__ void free_values(uint32_t number) const {
        warp_arrive(s.at(s->barriers.value_free[ring_slot<kValueStages>(number).index]), lane);
    }

    __device__ __forceinline__ void await_out(uint32_t number) const {
        const RingSlot slot = ring_slot<kOutStages>(number);
        wait(s.at(s->barriers.out_free[slot.index]), slot.phase ^ 1);
    }

    // O [32 tokens, 16 of this warp] into the tile that the store warp takes out.
    __device__ __forceinline__ void hand_out(uint32_t number, const TokenRows &o) const {
        TokensBf16 o_bf16;
        as_operand<Type16::BF16>(o_bf16, o);
        const RingSlot slot = ring_slot<kOutStages>(number);
        const uint32_t to = s.at(s->out[slot.index]) + tile_row;
        await_out(number);
        store_matrices_transposed(to, o_bf16[0][0], o_bf16[0][1], o_bf16[0][2], o_bf16[0][3]);
        store_matrices_transposed(to + 16 * 128, o_bf16[1][0], o_bf16[1][1], o_bf16[1][2], o_bf16[1][3]);
        warp_arrive(s.at(s->barriers.out_ready[slot.index]), lane);
    }
};

}  // namespace fkdai::prefill::duo

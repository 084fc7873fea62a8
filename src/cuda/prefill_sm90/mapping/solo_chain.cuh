// The chain role of solo: the recurrence over all chunks, a warpgroup for each half of V.
#pragma once

#include "device/sm90/bulk_copy.cuh"
#include "prefill_sm90/roles/fork.cuh"
#include "prefill_sm90/mapping/solo_config.cuh"

namespace fkdai::prefill::solo {

// The chunks of one piece, one after the other.
struct ChainPiece {
    const Params &p;
    View s;
    int half, warp, lane;  // warp 0..3 of the half
    // Of this lane: byte offset of its row in a tile of V, address of its row of O, and byte offset of its factors in those of 16 channels.
    uint32_t value_row = kept(tile_offset(warp, lane), lane), out_row = kept(out_address(s, 4 * half + warp, lane), lane);
    uint32_t quarter = kept((lane & 3) * 16u, lane), minus_zero = kept(0x80000000u, lane);

    // What a chunk leaves between its products.
    struct Chunk {
        TokenRows r;
        TokensF16 r_f16;
        StateBf16 state_bf16;
        uint32_t range;  // of R
    };

    // `rows` of the tokens left belong to the sequence.
    __device__ __forceinline__ void run(int left, int rows, uint32_t &number, StateRows &state) const {
        Chunk chunk;
        for (; left > 0; rows -= kChunk, number++, left--) {
            begin(number, rows, chunk, state);
            const bool is_scaled = !warpgroup_all(kFirstChainBarrier + half, is_in_range(chunk.r_f16, chunk.range));
            uint32_t factors = 0;
            if (is_scaled) factors = scale_into_range(stage_at(stage_slot(number)), lane, chunk.r, chunk.r_f16, state, chunk.state_bf16);
            finish(number, rows, is_scaled, factors, chunk, state);
        }
    }

    // Of fork_state.
    __device__ __forceinline__ void await_chunk(uint32_t number, int rows, prefill::Chunk &chunk) const {
        const RingSlot slot = stage_slot(number);
        chunk.stage = stage_at(slot);
        wait(s.at(s->barriers.operands_ready[slot.index]), slot.phase);
        load_values(number, rows, chunk.v_bf16);
    }
    __device__ __forceinline__ void await_solve(uint32_t number) const {
        const RingSlot slot = stage_slot(number);
        wait(s.at(s->barriers.solve_ready[slot.index]), slot.phase);
    }
    __device__ __forceinline__ bool all_fit(bool fits) const { return warpgroup_all(kFirstChainBarrier + half, fits); }
    __device__ __forceinline__ static void update(uint32_t stage, const TokensF16 &u_f16, StateRows &state) { add_update(stage, u_f16, state); }
    __device__ __forceinline__ static void skip_out(uint32_t, const prefill::Chunk &, const TokensF16 &) {}  // it leaves from here
    __device__ __forceinline__ void free_chunk(uint32_t number, const prefill::Chunk &) const {
        warp_arrive(s.at(s->barriers.chunk_done[stage_slot(number).index]), lane);
    }

    __device__ __forceinline__ uint32_t stage_at(RingSlot slot) const { return s.at(s->stages[0]) + slot.index * uint32_t{sizeof(Stage)}; }

    // One chunk, to R. What the products need least stands in the shadow of others: the decay behind K, and in `finish` O on its way out behind the
    // update of the state.
    __device__ __forceinline__ void begin(uint32_t number, int rows, Chunk &chunk, StateRows &state) const {
        TokensBf16 v_bf16;
        TokenRows x;
        const RingSlot slot = stage_slot(number);
        const uint32_t stage = stage_at(slot);
        mark(mark_chain_begins, number, is_reader());
        wait(s.at(s->barriers.operands_ready[slot.index]), slot.phase);
        mark(mark_chain_has_the_next_operands, number, is_reader());
        load_values(number, rows, v_bf16);
        round_state(state, chunk.state_bf16);
        begin_residual(stage, v_bf16, chunk.state_bf16, x);               // R = V - K S                     [32,64]
        mark(mark_chain_has_issued_k, number, is_reader());
        load_and_decay(stage, quarter, state);                        // S <- Diag(2^gamma_C) S          [64,128]
        wait(s.at(s->barriers.solve_ready[slot.index]), slot.phase);
        mark(mark_chain_has_solve, number, is_reader());
        chunk.range = load_range(stage);
        mma_wait<0>();
        mark(mark_chain_has_k, number, is_reader());
        pin(x);
        // Adding -0 changes nothing. But R must be in registers of its own, or ptxas serialises all products (C7512).
#pragma unroll
        for (int i = 0; i < 16; i++) chunk.r[i] = x[i] + __uint_as_float(minus_zero);
        as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    }

    __device__ __forceinline__ bool is_reader() const { return half == 0 && warp == 0 && lane == 0; }

    // From R on. factors: bf16, of the rows of O and S.
    __device__ __forceinline__ void finish(uint32_t number, int rows, bool is_scaled, uint32_t factors, Chunk &chunk, StateRows &state) const {
        TokenRows u, o;
        TokensF16 u_f16;
        TokensBf16 o_bf16;
        const RingSlot slot = stage_slot(number);
        const uint32_t stage = stage_at(slot);
        solve_update(stage, chunk.r_f16, u);                          // U = T R                         [32,64]
        mma_wait<0>();
        pin(u);
        mark(mark_chain_has_u, number, is_reader());
        multiply_state(stage + offsetof(Stage, kq) + kQueryRows, chunk.state_bf16, o);  // Q S           [32,64]
        as_operand<Type16::F16>(u_f16, u);
        mma_begin();
        read_recent(stage, u_f16, o);                                 // O = Q S + M U                   [32,64]
        mma_commit();
        pin(state);
        add_update(stage, u_f16, state);                              // S += Kr U                       [64,128]
        mma_commit();
        mark(mark_chain_has_issued_the_last_products, number, is_reader());
        mma_wait<1>();
        pin(o);
        if (is_scaled) scale_out(p, stage, lane, factors, o);
        as_operand<Type16::BF16>(o_bf16, o);
        place_out(o_bf16);
        if (rows >= kChunk) send_out(number);
        else write_out(number, rows_out(s, number));
        mark(mark_chain_has_handed_out, number, is_reader());
        mma_wait<0>();
        pin(state);  // nothing reads the stage any more
        if (is_scaled) multiply_rows(state, factors);
        warp_arrive(s.at(s->barriers.chunk_done[slot.index]), lane);
        mark(mark_chain_has_the_state, number, is_reader());
    }

    // V^T [64,32] of this half, in the accumulator's layout.
    __device__ __forceinline__ void load_values(uint32_t number, int rows, TokensBf16 &v) const {
        const RingSlot slot = ring_slot<kValueStages>(number);
        const uint32_t from = s.at(s->value[slot.index][half]) + value_row;
        wait(s.at(s->barriers.value_ready[slot.index]), slot.phase);
        load_matrices_transposed(v[0], from), load_matrices_transposed(v[1], from + 16 * 128);
        if (rows < kChunk) mask_values(rows, lane, v);
    }

    // O [32 tokens, 16 of this warp] to where the copy engine takes it.
    __device__ __forceinline__ void place_out(const TokensBf16 &o_bf16) const {
        if (elect_one()) bulk_wait_read();  // what lay there before has left
        __syncwarp();
        store_matrices_transposed(out_row, o_bf16[0][0], o_bf16[0][1], o_bf16[0][2], o_bf16[0][3]);
        store_matrices_transposed(out_row + 16 * 32, o_bf16[1][0], o_bf16[1][1], o_bf16[1][2], o_bf16[1][3]);
    }

    __device__ __forceinline__ void send_out(uint32_t number) const {
        fence_async_proxy();
        __syncwarp();
        if (!elect_one()) return;
        const ChunkInfo at = chunk_info_of(s, number);
        store_tile(p.o, half * kHalf + warp * 16, at.head, at.token, at.batch, s.at(s->staging[4 * half + warp]));
        bulk_commit();
    }

    // Rows past the sequence belong to the next one: plain stores.
    __device__ __forceinline__ void write_out(uint32_t number, int rows) const {
        __syncwarp();
        if (lane >= rows) return;
        const ChunkInfo at = chunk_info_of(s, number);
        const uint32_t row = s.at(s->staging[4 * half + warp]) + lane * 32, swap = (lane >> 2 & 1) * 16;
        auto *const to = reinterpret_cast<uint4 *>(p.out + p.out_strides.offset(at.batch, at.token + lane, at.head) + half * kHalf + warp * 16);
        to[0] = load_uint4(row + swap), to[1] = load_uint4(row + (swap ^ 16));
    }

    // This lane's row of a [32 tokens][16 V] tile, 32-byte swizzle, for a transposed matrix access to 16 tokens x 16 V.
    __device__ __forceinline__ static uint32_t out_address(const View &s, int chain_warp, int lane) {
        const uint32_t token = (lane & 7) + 8 * (lane >> 4);
        return s.at(s->staging[chain_warp]) + token * 32 + (((lane >> 3 & 1) ^ (token >> 2 & 1)) * 16);
    }
};

// One warpgroup: its pieces, and its half of their states in and out.
template <class Memory>
struct ChainRole {
    const Params &p;
    SharedView<Memory> s;
    int half, warp, lane;  // warp 0..3 of the half

    __device__ __forceinline__ void run() const {
        const auto await_staging = [] {  // the copy engine may still read O there
            if (elect_one()) bulk_wait_read();
            __syncwarp();
        };
        // All blocks want tiles and states at once, and tiles are wanted first.
        const auto await_tiles = [&](int chunks) {
            if constexpr (Memory::kStateBehindTiles)
                for (int turn = 0; turn < kTurns && (are_lone<Memory> || turn < chunks); turn++) wait(s.at(s->barriers.raw_ready[turn]), 0);
        };
        const StateIo<Memory, decltype(await_staging), true, decltype(await_tiles)> state_io{
            p, s, half, static_cast<int>(blockIdx.x), warp, lane, kFirstChainBarrier + half, s.at(s->staging[4 * half + warp]), await_staging, await_tiles};
        uint32_t number = 0;  // of the chunk, on the timeline
        const auto work = [&](const SegmentParts &parts, StateRows &state, const auto &leave_checkpoint) {
            for (int part = 1, rows = parts.rows;; part++, rows -= parts.chunks * kChunk) {
                ChainPiece{p, s, half, warp, lane_here()}.run(parts.chunks, rows, number, state);
                if (part == parts.count) return;
                leave_checkpoint(part, state);
            }
        };
        state_io.run(work, [&](int rows, StateRows &state, const auto &leave) {
            fork_state(ChainPiece{p, s, half, warp, lane_here()}, number++, rows, state, leave);
        });
        bulk_wait_read();
    }
};

}  // namespace fkdai::prefill::solo

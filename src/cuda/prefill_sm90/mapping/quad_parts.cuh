// What the warpgroups that hold a state do alike where several CTAs share a job (quad, octet): chains, and in an octet those that make O.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/fork.cuh"

namespace fkdai::prefill::quad {

template <class Shape>
struct StateParts {
    const Params &p;
    ChainView<Shape> s;
    int half, cluster, warp, lane;  // half: of V
    // Of this lane: byte offsets of its row in a tile of V or O, and of its factors in those of 16 channels.
    uint32_t tile_row = kept(tile_offset(warp, lane), lane), quarter = kept((lane & 3) * 16u, lane);

    // All segments of the cluster. work, fork: as in StateIo.
    template <bool writes, class Work, class Fork = NoFork>
    __device__ __forceinline__ void run_segments(const Work &work, const Fork &fork = {}) const {
        const auto leave = [] {
            if constexpr (leaves_early<ChainSmem<Shape>>) cluster_arrive();
        };
        using Leave = std::conditional_t<writes, decltype(leave), NoMoment>;
        const StateIo<ChainSmem<Shape>, NoMoment, writes, NoMoment, Leave> state_io{
            p, s, half, cluster, warp, lane, kChainBarrier, s.at(s->state_rows[warp]), {}, {}, Leave{}};
        state_io.run(work, fork);
    }

    // A chunk's slot from that of the one before: n % 6 is seven instructions that wait for each other.
    __device__ __forceinline__ static RingSlot next_slot(RingSlot slot) {
        const bool wraps = slot.index == Shape::kStages - 1;
        return {wraps ? 0 : slot.index + 1, wraps ? slot.phase ^ 1 : slot.phase};
    }

    // The first chunk of a segment, or one more: chunk.slot is known.
    __device__ __forceinline__ void await_chunk(uint32_t number, int rows, Chunk &chunk) const {
        chunk.slot = ring_slot<Shape::kStages>(number);
        await_chunk(rows, chunk);
    }
    __device__ __forceinline__ void await_chunk(int rows, Chunk &chunk) const {
        chunk.stage = await_operands(chunk.slot);
        load_values(chunk.slot, rows, chunk.v_bf16);
    }

    // Waits until all that a chunk wants is there. Returns the address of its stage. One barrier: looking at one that flipped long ago takes 50 to 80
    // cycles.
    __device__ __forceinline__ uint32_t await_operands(RingSlot slot) const {
        wait(s.at(s->barriers.chunk_ready[0]) + slot.index * uint32_t{sizeof(uint64_t)}, slot.phase);
        return s.at(s->stages[0]) + slot.index * uint32_t{sizeof(Stage)};
    }

    // Of fork_state.
    __device__ __forceinline__ void await_solve(uint32_t) const {}  // it came with the operands
    __device__ __forceinline__ static bool all_fit(bool fits) { return warpgroup_all(kChainBarrier, fits); }
    __device__ __forceinline__ void skip_out(uint32_t number, const Chunk &, const TokensF16 &) const {
        warp_arrive(s.at(s->barriers.out_ready[number % kOutStages]), lane);
    }
    __device__ __forceinline__ void free_chunk(uint32_t, const Chunk &chunk) const { finish_chunk(chunk.slot); }

    // V^T [64,32] of this CTA's half, in the accumulator's layout.
    __device__ __forceinline__ void load_values(RingSlot slot, int rows, TokensBf16 &v) const {
        const uint32_t from = s.at(s->value[0]) + slot.index * kValueBytes + tile_row;
        load_matrices_transposed(v[0], from), load_matrices_transposed(v[1], from + 16 * 128);
        if (rows < kChunk) mask_values(rows, lane, v);
    }

    // A part of the state's channels, while products run that have nothing to do with it. Between two ends of blocks: ptxas would put all of it between
    // the two products of U, which delays the second.
    template <int from, int to>
    __device__ __forceinline__ static void decay_meanwhile(uint32_t number, const Decays &decays, StateRows &state) {
        end_block(number);
        decay<from, to>(decays, state);
        pin(state);
        end_block(number);
    }

    // Nothing of a chunk is read here any more.
    __device__ __forceinline__ void finish_chunk(RingSlot slot) const {
        warp_arrive(s.at(s->barriers.chunk_done[0]) + slot.index * uint32_t{sizeof(uint64_t)}, lane);
    }

    // O [32 tokens, 16 of this warp] into the tile that the store warp takes out.
    __device__ __forceinline__ void hand_out(uint32_t number, const TokenRows &o) const {
        TokensBf16 o_bf16;
        as_operand<Type16::BF16>(o_bf16, o);
        const uint32_t tile = number % kOutStages, to = s.at(s->out[0]) + tile * kValueBytes + tile_row;
        store_matrices_transposed(to, o_bf16[0][0], o_bf16[0][1], o_bf16[0][2], o_bf16[0][3]);
        store_matrices_transposed(to + 16 * 128, o_bf16[1][0], o_bf16[1][1], o_bf16[1][2], o_bf16[1][3]);
        warp_arrive(s.at(s->barriers.out_ready[tile]), lane);
    }
};

}  // namespace fkdai::prefill::quad

// What the warpgroups that hold a state do alike where several CTAs share a job (quad, octet): chains, and in an octet those that make O.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/chain_parts.cuh"

namespace fkdai::prefill::quad {

template <class Shape>
struct StateParts {
    const Params &p;
    ChainView<Shape> s;
    int half, cluster, warp, lane;  // half: of V
    // Of this lane: byte offsets of its row in a tile of V or O, and of its factors in those of 16 channels.
    uint32_t tile_row = kept(tile_offset(warp, lane), lane), quarter = kept((lane & 3) * 16u, lane);

    // All segments of the cluster. work: as in StateIo.
    template <bool writes, class Work>
    __device__ __forceinline__ void run_segments(const Work &work) const {
        const auto await_staging = [] {};
        const StateIo<ChainSmem<Shape>, decltype(await_staging), writes> state_io{
            p, s, half, cluster, warp, lane, kChainBarrier, s.at(s->state_rows[warp]), await_staging};
        state_io.run(s->piece_queues[warp], work);
    }

    // Waits until all that a chunk wants is there. Returns the address of its stage. One barrier: looking at one that flipped long ago takes 50 to 80
    // cycles.
    __device__ __forceinline__ uint32_t await_operands(uint32_t number) const {
        const RingSlot slot = ring_slot<Shape::kStages>(number);
        wait(s.at(s->barriers.chunk_ready[0]) + slot.index * uint32_t{sizeof(uint64_t)}, slot.phase);
        return s.at(s->stages[0]) + slot.index * uint32_t{sizeof(Stage)};
    }

    // V^T [64,32] of this CTA's half, in the accumulator's layout.
    __device__ __forceinline__ void load_values(uint32_t number, int rows, TokensBf16 &v) const {
        const uint32_t from = s.at(s->value[0]) + ring_slot<Shape::kStages>(number).index * kValueBytes + tile_row;
        load_matrices_transposed(v[0], from), load_matrices_transposed(v[1], from + 16 * 128);
        if (rows < kChunk) mask_values(rows, lane, v);
    }

    // x^T = S^T X^T for 32 rows X of a kq tile; meanwhile S <- Diag(2^gamma_C) S.
    __device__ __forceinline__ void multiply_and_decay(uint32_t stage, uint32_t rows, const StateBf16 &state_bf16, TokenRows &x,
                                                       StateRows &state) const {
        multiply_state(rows, state_bf16, x);
        pass_by(kNobodyWaits);  // or the compiler puts all of this between the first two products, which delays the others
        Decays decays;
        load_decays(stage, quarter, decays);
        decay(decays, state);
    }

    // Nothing of a chunk is read here any more.
    __device__ __forceinline__ void finish_chunk(uint32_t number) const {
        warp_arrive(s.at(s->barriers.chunk_done[0]) + ring_slot<Shape::kStages>(number).index * uint32_t{sizeof(uint64_t)}, lane);
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

// The out role of octet: O of every chunk. It has the state too: the chain's U is all that it needs to take the same steps, one chunk behind.
#pragma once

#include "prefill_sm90/mapping/quad_parts.cuh"

namespace fkdai::prefill::quad {

struct OutRole : StateParts<Octet> {
    __device__ __forceinline__ void run() const {
        uint32_t number = 0;  // of the chunk, on the cluster's timeline
        run_segments<false>([&](const SegmentParts &parts, StateRows &state, const auto &) {
            for (int left = parts.count * parts.chunks; left > 0; left--, number++) {
                make(number, state);
                if (number == 0) tell_chain();
            }
        });
    }

    // The first state has been read, and used.
    __device__ __forceinline__ void tell_chain() const {
        __syncwarp();
        if (kWarpArrivals > 1 || lane == 0) arrive_remote(peer_address(s.at(s->barriers.follower_begun), half));
    }

    __device__ __forceinline__ void make(uint32_t number, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        StateBf16 state_bf16;
        TokenRows o;
        TokensF16 u_f16;
        mark(mark_out_waits, number, is_reader);
        const uint32_t stage = await_operands(number), queries = stage + offsetof(Stage, kq) + kQueryRows;
        mark(mark_out_has_operands, number, is_reader);
        round_state(state, state_bf16);
        multiply_and_decay(stage, queries, state_bf16, o, state);  // Q S                                       [32,64]
        mark(mark_out_has_issued_q, number, is_reader);
        const uint32_t factors = await_update(number, u_f16);
        mark(mark_out_has_the_update, number, is_reader);
        const bool is_scaled = uniform(factors != 0);  // all rows have factors, or none (range_guard.cuh)
        if (is_scaled) {
            mma_wait<0>();
            pin(o);
            multiply_rows(state, inverse_factors(factors)), multiply_rows(state_bf16, inverse_factors(factors));
            multiply_state(queries, state_bf16, o);
        }
        mma_begin();
        read_recent(stage, u_f16, o);                             // O = Q S + M U                       [32,64]
        mma_commit();
        pin(state);
        add_update(stage, u_f16, state);                          // S += Kr U                           [64,128]
        mma_commit();
        mma_wait<1>();
        pin(o);
        if (is_scaled) scale_out(p, stage, lane, factors, o);
        mark(mark_out_has_o, number, is_reader);
        hand_out(number, o);
        mma_wait<0>();
        pin(state);
        if (is_scaled) multiply_rows(state, factors);
        finish_chunk(number);
        mark(mark_out_has_the_state, number, is_reader);
    }

    // U of a chunk and what its rows have been multiplied by; the barrier is armed for the next chunk in this stage.
    __device__ __forceinline__ uint32_t await_update(uint32_t number, TokensF16 &u) const {
        using Memory = ChainSmem<Octet>;
        const RingSlot slot = ring_slot<Octet::kStages>(number);
        const uint32_t ready = s.at(s->barriers.update_ready[0]) + slot.index * uint32_t{sizeof(uint64_t)};
        const uint32_t from = s.at(s->update[0][warp][0][lane]) + slot.index * uint32_t{sizeof(Memory::update[0])};
        wait(ready, slot.phase);
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const uint4 x = load_uint4(from + k * uint32_t{sizeof(Memory::update[0][0][0])});
            u[k][0] = x.x, u[k][1] = x.y, u[k][2] = x.z, u[k][3] = x.w;
        }
        if (warp == 0 && lane == 0) arrive_expecting(ready, kUpdateBytes);
        return __float_as_uint(load_float(s.at(s->factors[0][warp][lane]) + slot.index * uint32_t{sizeof(Memory::factors[0])}));
    }
};

}  // namespace fkdai::prefill::quad

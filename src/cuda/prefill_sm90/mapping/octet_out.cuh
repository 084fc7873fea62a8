// The out role of octet: O of every chunk. It has the state too: the chain's U is all that it needs to take the same steps, one chunk behind.
#pragma once

#include "prefill_sm90/mapping/quad_copy.cuh"
#include "prefill_sm90/mapping/quad_parts.cuh"

namespace fkdai::prefill::quad {

template <class Shape>
struct OutRole : StateParts<Shape> {
    using Parts = StateParts<Shape>;
    using Parts::p, Parts::s, Parts::half, Parts::warp, Parts::lane, Parts::quarter;
    // What a chunk leaves between its products.
    struct Made {
        StateBf16 state_bf16;
        TokensF16 u_f16;
        TokenRows o;
        RingSlot slot;
        uint32_t stage, factors;
    };

    __device__ __forceinline__ void run() const {
        uint32_t number = 0, copied = 0;  // of the chunk, on the cluster's timeline; of checkpoints
        Made made;
        this->template run_segments<false>([&](const SegmentParts &parts, StateRows &state, const auto &) {
            const bool copies = checkpoints_are_copied<Shape>(p);  // else the chain stores them
            const int count = uniform(copies ? parts.count : 1), each = uniform(copies ? parts.chunks : parts.count * parts.chunks);
            for (int part = 1;; part++) {
                run_chunks(each, number, made, state);
                if (part == count) return;
                CopiedRows<Shape, 1>{s, warp, lane}.leave(copied++, state);
            }
        });
    }

    // So many chunks. Those with factors leave the inner loop, as in run_part. Its condition must not be what `make` says: ptxas would serialise all
    // (C7518).
    __device__ __forceinline__ void run_chunks(int left, uint32_t &number, Made &made, StateRows &state) const {
        while (left > 0) {
            bool fits = true;
            for (; left > 0; left--, number++) {
                fits = make(number, made, state);
                if (!fits) break;
            }
            if (fits) return;
            make_scaled(number, made, state);
            left--, number++;
        }
    }

    // The first state has been read, and used.
    __device__ __forceinline__ void tell_chain() const {
        __syncwarp();
        if (kWarpArrivals > 1 || lane == 0) arrive_remote(peer_address(s.at(s->barriers.follower_begun), half));
    }

    // False: U has factors, and nothing but the first product and the decay has been made.
    __device__ __forceinline__ bool make(uint32_t number, Made &made, StateRows &state) const {
        const bool is_reader = warp == 0 && lane == 0;
        TokenRows &o = made.o;
        mark(mark_out_waits, number, is_reader);
        made.slot = ring_slot<Shape::kStages>(number);  // not counted on as in the chain, which becomes 4 % slower by it
        const uint32_t stage = made.stage = this->await_operands(made.slot);
        mark(mark_out_has_operands, number, is_reader);
        made.factors = load_update(made.slot.index, made.u_f16);
        round_state(state, made.state_bf16);
        multiply_and_decay(stage, stage + offsetof(Stage, kq) + kQueryRows, made.state_bf16, o, state);  // Q S   [32,64]
        mark(mark_out_has_issued_q, number, is_reader);
        if (__any_sync(~0u, made.factors != 0)) return false;  // all rows have factors, or none (range_guard.cuh)
        mark(mark_out_has_the_update, number, is_reader);
        mma_begin();
        read_recent(stage, made.u_f16, o);                        // O = Q S + M U                       [32,64]
        mma_commit();
        pin(state);
        add_update(stage, made.u_f16, state);                     // S += Kr U                           [64,128]
        mma_commit();
        mma_wait<1>();
        pin(o);
        mark(mark_out_has_o, number, is_reader);
        this->hand_out(number, o);
        mma_wait<0>();
        pin(state);
        end(number, made);
        mark(mark_out_has_the_state, number, is_reader);
        return true;
    }

    // From there on, with factors.
    __device__ __forceinline__ void make_scaled(uint32_t number, Made &made, StateRows &state) const {
        const uint32_t stage = made.stage, factors = made.factors;
        mma_wait<0>();
        pin(made.o);
        multiply_rows(state, inverse_factors(factors)), multiply_rows(made.state_bf16, inverse_factors(factors));
        multiply_state(stage + offsetof(Stage, kq) + kQueryRows, made.state_bf16, made.o);
        pin(state);
        read_recent(stage, made.u_f16, made.o);
        add_update(stage, made.u_f16, state);
        mma_commit();
        mma_wait<0>();
        pin(state), pin(made.o);
        scale_out(p, stage, lane, factors, made.o);
        this->hand_out(number, made.o);
        multiply_rows(state, factors);
        end(number, made);
    }

    // Nothing of the chunk is read here any more.
    __device__ __forceinline__ void end(uint32_t number, const Made &made) const {
        this->finish_chunk(made.slot);
        if (number == 0) tell_chain();
    }

    // x^T = S^T X^T for 32 rows X of a kq tile; meanwhile S <- Diag(2^gamma_C) S.
    __device__ __forceinline__ void multiply_and_decay(uint32_t stage, uint32_t rows, const StateBf16 &state_bf16, TokenRows &x,
                                                       StateRows &state) const {
        multiply_state(rows, state_bf16, x);
        end_block(rows);  // or ptxas puts all of this between the first two products, which delays the others
        Decays decays;
        load_decays(stage, quarter, decays);
        decay(decays, state);
    }

    // U of a chunk and what its rows have been multiplied by.
    __device__ __forceinline__ uint32_t load_update(uint32_t slot, TokensF16 &u) const {
        using Memory = ChainSmem<Shape>;
        const uint32_t from = s.at(s->update[0][warp][0][lane]) + slot * uint32_t{sizeof(Memory::update[0])};
#pragma unroll
        for (int k = 0; k < 2; k++) {
            const uint4 x = load_uint4(from + k * uint32_t{sizeof(Memory::update[0][0][0])});
            u[k][0] = x.x, u[k][1] = x.y, u[k][2] = x.z, u[k][3] = x.w;
        }
        return __float_as_uint(load_float(s.at(s->factors[0][warp][lane]) + slot * uint32_t{sizeof(Memory::factors[0])}));
    }
};

}  // namespace fkdai::prefill::quad

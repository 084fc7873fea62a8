// A checkpoint inside a chunk: the state that a sequence of fewer tokens would end with, made beside the one that goes on.
#pragma once

#include "prefill_sm90/roles/chain_parts.cuh"

namespace fkdai::prefill {

// chain: as in run_part, and
//     await_solve(number)             until T is there
//     all_fit(fits)                   do all of the warpgroup say so?
//     update(stage, u_f16, state)     S += Kr U, by the products of its loop
//     skip_out(number, chunk, u_f16)  whoever wants O of the chunk goes on without
//     free_chunk(number, chunk)       nothing of the chunk is read here any more

// The next chunk for `rows` of its tokens, on a copy of the state: the operations of `begin` and `finish` but for O, so the same bits. The copy has
// 32 channels at a time, as there are no registers for two states. leave(quarter, columns): of channels 32 quarter and on.
template <class Chain, class Leave>
__device__ __forceinline__ void fork_state(const Chain &chain, uint32_t number, int rows, StateRows &state, const Leave &leave) {
    Chunk chunk;
    TokenRows &u = chunk.r;
    TokensF16 u_f16;
    chain.await_chunk(number, rows, chunk);
    round_state(state, chunk.state_bf16);
    begin_residual(chunk.stage, chunk.v_bf16, chunk.state_bf16, chunk.r);  // R = V - K S                [32,64]
    chain.await_solve(number);
    mma_wait<0>();
    pin(chunk.r);
    as_operand<Type16::F16>(chunk.r_f16, chunk.r);
    const bool is_scaled = !chain.all_fit(is_in_range(chunk.r_f16, load_range(chunk.stage)));
    uint32_t factors = 0;
    if (is_scaled) factors = scale_residual(chunk.stage, chain.lane, chunk.r, chunk.r_f16, chunk.state_bf16);
    solve_update(chunk.stage, chunk.r_f16, u);                    // U = T R                             [32,64]
    mma_wait<0>();
    pin(u);
    as_operand<Type16::F16>(u_f16, u);
    chain.skip_out(number, chunk, u_f16);
#pragma unroll
    for (int quarter = 0; quarter < 4; quarter++) {
        StateColumns &copy = chunk.r;  // these registers again
#pragma unroll
        for (int i = 0; i < 16; i++) copy[i] = state[16 * quarter + i];
#pragma unroll
        for (int k = 0; k < 2; k++) decay_eight(load_decay(chunk.stage, chain.quarter, 2 * quarter + k), k, copy);  // S <- Diag(2^gamma_C) S
        if (is_scaled) multiply_rows(copy, factors);
        pin(copy);
        mma_begin();
        add_update(chunk.stage, u_f16, quarter, copy);            // S += Kr U                           [64,32]
        mma_commit();
        mma_wait<0>();
        pin(copy);
        if (is_scaled) multiply_rows(copy, inverse_factors(factors));
        leave(quarter, copy);
    }
    // Never. But products on the whole state in sight of the compiler keep it where those of the loop want it: ptxas would put the copy there, and
    // move the state aside in every turn of the loop (some 30 of 375 instructions).
    if (number == ~0u) {
        const TokensF16 nothing{};
        mma_begin();
        pin(state);
        chain.update(chunk.stage, nothing, state);
        mma_commit();
        mma_wait<0>();
        pin(state);
    }
    chain.free_chunk(number, chunk);
}

}  // namespace fkdai::prefill

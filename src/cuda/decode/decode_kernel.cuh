// A few tokens of many sequences: S <- Diag(a) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^, states in place. decode.md is its card.
//
// Everything that a block reads is requested before anything is used. Every token is one turn of one loop, whatever their number: S tokens give
// the bits of S calls where states are fp32.
#pragma once

#include "decode/decode_rows.cuh"
#include "device/dependent_launch.cuh"

namespace fkdai::decode {

template <class Config>
__global__ __launch_bounds__(Config::kThreads, Config::kMinBlocks) void decode_kernel(const __grid_constant__ fkdai_decode_call p) {
    __shared__ Tokens<Config> tokens;
    Job job = place_of<Config>(p, blockIdx.x);
    await_previous_kernel();
    find_tokens(p, job);
    if (job.count <= 0) return;
    IndexWords slot{0, 0};
    uint8_t mask = 1;
    if (p.slots.data != nullptr) slot = index_words(p.slots, job.n);
    if (p.initial_mask != nullptr) mask = p.initial_mask[job.n];

    TokenReader<Config> reader;
    Rows<Config> rows;
    reader.request(p, job);
    rows.request(p, job, slot, mask);
    reader.finish(p, job, tokens);
    __syncthreads();
    release_next_kernel();  // not earlier: waiting blocks of it would fill the multiprocessors unevenly
    rows.widen();
    const int count = Config::kTokens == 1 ? 1 : job.count;
#pragma unroll 1
    for (int token = 0; token < count; token++) rows.step(p, job, tokens, token);
    rows.store();
}

}  // namespace fkdai::decode

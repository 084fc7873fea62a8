// A few tokens of many sequences: S <- Diag(a) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^, states in place. decode.md is its card.
//
// What needs no memory is known before the kernel before has ended. Then everything that a block reads is requested before anything is used: with
// slots two round trips, slot and state. Every token is one turn of one loop, whatever their number: S tokens give the bits of S calls where states
// are fp32.
#pragma once

#include "decode/decode_rows.cuh"
#include "device/dependent_launch.cuh"

namespace fkdai::decode {

// The rows that one block has of one state, from its first requests to the last token.
template <class Config>
struct Block {
    static constexpr Stored kStored = Config::kStored;

    const fkdai_decode_call &p;
    Job job;
    States<Config> states;
    TokenReader<Config> reader;
    Rows<Config> rows;
    Line out;

    __device__ __forceinline__ explicit Block(const fkdai_decode_call &call) : p(call), job(place_of<Config>(call, blockIdx.x)) {
        reader.place(p, job);
        rows.place(job);
    }

    __device__ __forceinline__ uint8_t *first_state() const { return rows.template own_in<kStored>(p.state, p.row_stride, states.first_row); }

    // False: nothing to do.
    __device__ __forceinline__ bool request() {
        find_tokens(p, job);
        if (job.count <= 0) return false;
        states.request(p, job);
        reader.request(p, job);
        states.read(p, job);
        if (job.count <= 0) return false;
        rows.request(first_state(), states.first_row >= 0 && states.mask != 0);
        return true;
    }

    __device__ __forceinline__ void place_out() {
        out = line_of<Config::kInputs>(p, p.out, job, job.hv, rows.own_row());
        out.at += job.begin * out.step;
    }
    __device__ __forceinline__ float step(const Tokens<Config> &tokens, int token) {
        return rows.step(tokens, token, rows.own_row() - job.first_row, p.out.data == nullptr ? nullptr : out.of(token), out.is_f32);
    }

    // The state after `store_after` is written over the first, and there may be tokens behind it.
    __device__ __forceinline__ void run(const Tokens<Config> &tokens) {
        const int count = Config::kIsOne ? 1 : job.count;
#pragma unroll 1
        for (int token = 0; token < count; token++) {
            const float update = step(tokens, token);
            if (token == count - 1 && token != states.store_after) break;
            rows.add(tokens, token, update);
            if (token == states.store_after && states.first_row >= 0) rows.template store<kStored>(first_state());
        }
    }

    // ---------------------------------------------------------------- STEPS

    __device__ __forceinline__ uint8_t *step_state(int token, bool is_bf16) const {
        const int64_t row = job.n * p.steps_per_sequence + token;
        return is_bf16 ? rows.template own_in<Stored::BF16>(p.step_states, p.step_row_stride, row)
                       : rows.template own_in<Stored::F32>(p.step_states, p.step_row_stride, row);
    }

    // A token of a tree begins with its parent's state as it was stored.
    __device__ __forceinline__ void go_on_from_parent(int token) {
        const int parent = states.parent_of(p, token);
        if (token == 0 || (parent >= 0 && parent == token - 1)) return;
        if (parent < 0 && (states.first_row < 0 || states.mask == 0)) rows.clear();
        else if (parent < 0) rows.template load<kStored>(first_state());
        else if (p.is_bf16_step) rows.template load<Stored::BF16>(step_state(parent, true));
        else rows.template load<Stored::F32>(step_state(parent, false));
    }

    __device__ __forceinline__ void write_after(int token) {
        if (p.commit == FKDAI_DECODE_EACH) {
            const int64_t row = states.row_after(p, token);
            if (row >= 0) rows.template store<kStored>(rows.template own_in<kStored>(p.state, p.row_stride, row));
        } else if (token == states.store_after && states.first_row >= 0) {
            rows.template store<kStored>(first_state());
        }
        if (p.step_states == nullptr) return;
        if (p.is_bf16_step) rows.template store<Stored::BF16>(step_state(token, true));
        else rows.template store<Stored::F32>(step_state(token, false));
        if (p.is_bf16_step && p.parent.data != nullptr) rows.template round<Stored::BF16>();
    }

    __device__ __forceinline__ void run_steps(const Tokens<Config> &tokens) {
#pragma unroll 1
        for (int token = 0; token < job.count; token++) {
            if (p.parent.data != nullptr) go_on_from_parent(token);
            rows.add(tokens, token, step(tokens, token));
            write_after(token);
        }
    }
};

template <class Config>
__global__ __launch_bounds__(Config::kThreads, Config::kMinBlocks) void decode_kernel(const __grid_constant__ fkdai_decode_call p) {
    __shared__ Tokens<Config> tokens;
    Block<Config> block(p);
    await_previous_kernel();
    if (!block.request()) return;
    block.reader.finish(p, block.job, tokens);
    __syncthreads();
    release_next_kernel();  // not earlier: waiting blocks of it would fill the multiprocessors unevenly
    block.rows.widen();
    block.place_out();
    if constexpr (Config::kWritesSteps) block.run_steps(tokens);
    else block.run(tokens);
}

}  // namespace fkdai::decode

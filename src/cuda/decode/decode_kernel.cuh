// A few tokens of many sequences: S <- Diag(a) S;  u = b (v - S^T k^);  S <- S + k^ u^T;  o = scale S^T q^, states in place. decode.md is its card.
//
// What needs no memory is known before the kernel before has ended, and where blocks are early so is a guess of the slot, whose state is asked into
// the cache. Then everything that a block reads is requested before anything is used, the state of that slot too: one round trip, and another one
// where the slot has changed. Every token is one turn of one loop, whatever their number, so that S tokens give the bits of S calls where states are
// fp32. Only many tokens of which no state in between is written are taken together (decode_chunk.cuh, decode_persistent.cuh).
#pragma once

#include "decode/decode_persistent.cuh"
#include "device/dependent_launch.cuh"

namespace fkdai::decode {

// The rows that one block has of one state, from its first requests to the last token.
template <class Config>
struct Block {
    static constexpr Stored kStored = Config::kStored;

    const fkdai_decode_call &p;
    Job job;
    bool is_packed;
    States<Config> states;
    TokenReader<Config> reader;
    std::conditional_t<Config::kIsChunk, ChunkRows<Config>, Rows<Config>> rows;
    uint8_t *own;    // Rows::own_in the first row of states
    uint8_t *first_state;    // Rows::in_row of the state that the sequence begins with, once its slot is known
    Line<Config::kInputs> out;

    // Where everything lies, as far as that is known without reading.
    __device__ __forceinline__ explicit Block(const fkdai_decode_call &call) : p(call), job(place_of<Config>(call, blockIdx.x)) {
        job.count = p.S, is_packed = p.cu_seqlens.data != nullptr;
        states.place(p, job);
        reader.place(p, job);
        rows.place(job);
        own = rows.template own_in<kStored>(p.state);
    }

    // Who needs it needs all of it: early also what is used behind the wait alone, since lines of the parameter that no block has read are not in the
    // caches.
    __device__ __forceinline__ uint64_t known() const {
        const uint64_t at = address(states.slot_place.at) ^ address(states.mask_at) ^ address(reader.first.at) ^ address(reader.second.at);
        const uint64_t all = at ^ address(reader.beta.at) ^ address(reader.v.at) ^ address(reader.bias) ^ address(reader.A_log) ^ address(own);
        if constexpr (!Config::kIsEarly) return all;
        const uint32_t of_lines = static_cast<uint32_t>(p.null_is_padding) ^ static_cast<uint32_t>(p.is_normalised) ^ __float_as_uint(p.scale);
        return all ^ of_lines ^ static_cast<uint64_t>(p.out.head);
    }
    __device__ __forceinline__ static uint64_t address(const void *x) { return reinterpret_cast<uint64_t>(x); }

    __device__ __forceinline__ uint8_t *state_in(const IndexWords &slot) const { return rows.template in_row<kStored>(own, p.row_stride, slot.low); }

    __device__ __forceinline__ uint8_t *guessed_state() const { return rows.template in_row<kStored>(own, p.row_stride, states.guess); }

    // The last warps of CHUNK_HALF prepare tokens, and no more.
    __device__ __forceinline__ static bool has_rows() { return Config::kRowWarps == Config::kWarps || unsigned_thread() < 32 * Config::kRowWarps; }

    // While the kernel before may still run: the slot as it is now, and its state into the second-level cache. Neither is more than a guess.
    __device__ __forceinline__ void guess() {
        if constexpr (!Config::kIsEarly) return;
        states.guess_first(p, job);
        if (states.has_guess && has_rows()) rows.prefetch(guessed_state());
    }

    // False: nothing to do.
    __device__ __forceinline__ bool request() {
        if (is_packed) {
            find_tokens(p, job);
            if (job.count <= 0) return false;
            reader.go_to(job.begin);
        }
        states.request(job);
        reader.request(p, job);
        if constexpr (Config::kIsEarly) {
            rows.request(guessed_state(), states.has_guess && has_rows());
            if constexpr (Config::kTokens > 1) states.cut(p, job);
            return true;
        } else {
            find_first();
            request_first();
            return find_last();
        }
    }

    // The slot as it is: was that of the guess another one, the state is requested again. False: nothing to do.
    __device__ __forceinline__ bool check_guess() {
        if constexpr (Config::kIsEarly) {
            find_first();
            if (states.guessed_wrong()) request_first();
            return find_last();
        } else {
            return true;
        }
    }

    __device__ __forceinline__ void find_first() {
        states.find_first(p);
        first_state = state_in(states.first);
    }
    __device__ __forceinline__ void request_first() { rows.request(first_state, !states.starts_from_0() && has_rows()); }

    // False: padding, whose out is written.
    __device__ __forceinline__ bool find_last() {
        states.find_last(p, job);
        if (!p.null_is_padding || states.has_first) return true;
        clear_out();
        return false;
    }

    // Of the block's rows.
    __device__ __forceinline__ void clear_out() const {
        for (int i = static_cast<int>(unsigned_thread()); i < job.count * Config::kBlockRows; i += Config::kThreads) {
            Line<Config::kInputs> at = line_of<Config::kInputs>(p, p.out, job, job.hv, job.first_row + i % Config::kBlockRows);
            at.skip(job.begin);
            store_float(at.of(i / Config::kBlockRows), 0, at.is_f32, 0.f);
        }
    }

    __device__ __forceinline__ void place_out() {
        out = line_of<Config::kInputs>(p, p.out, job, job.hv, rows.own_row());
        out.skip(job.begin);
    }
    __device__ __forceinline__ float step(const Tokens<Config> &tokens, int token) {
        return rows.step(tokens, token, rows.own_row() - job.first_row, p.out.data == nullptr ? nullptr : out.of(token), out.is_f32);
    }

    __device__ __forceinline__ void pass(const Tokens<Config> &tokens, int from, int to) {
#pragma unroll 1
        for (int token = from; token < to; token++) rows.values.add(tokens.k[token], rows.lane, step(tokens, token));
    }

    // Through the token whose state is written over the first, and on through those of which only out is wanted.
    __device__ __forceinline__ void run(const Tokens<Config> &tokens) {
        pass(tokens, 0, states.store_after + 1);
        if (states.store_after >= 0) rows.template store<kStored>(state_in(states.first));
        pass(tokens, states.store_after + 1, job.count);
    }

    // The same of one token, and early.
    __device__ __forceinline__ void run_one(const Tokens<Config> &tokens) {
        if (job.count <= 0) return;
        const float update = step(tokens, 0);
        if (states.store_after < 0) return;
        rows.values.add(tokens.k[0], rows.lane, update);
        rows.template store<kStored>(first_state);
    }

    __device__ __forceinline__ void run_chunk(const Tokens<Config> &tokens) {
        rows.multiply(tokens);
        rows.solve(tokens, job.first_row, job.count);
        if (p.out.data != nullptr) rows.store_out(out, job.count);
        if (states.store_after >= 0) rows.store_behind_last(tokens, state_in(states.first));
    }

    // ---------------------------------------------------------------- STEPS

    __device__ __forceinline__ uint8_t *step_state(int token, bool is_bf16) const {
        const uint64_t row = static_cast<uint64_t>(job.n * p.steps_per_sequence + token);
        return is_bf16 ? rows.template in_row<Stored::BF16>(rows.template own_in<Stored::BF16>(p.step_states), p.step_row_stride, row)
                       : rows.template in_row<Stored::F32>(rows.template own_in<Stored::F32>(p.step_states), p.step_row_stride, row);
    }

    // A token of a tree begins with its parent's state as it was stored.
    __device__ __forceinline__ void go_on_from_parent(int token) {
        const int parent = states.parent_of(p, token);
        if (token == 0 || (parent >= 0 && parent == token - 1)) return;
        if (parent < 0 && states.starts_from_0()) rows.clear();
        else if (parent < 0) rows.template load<kStored>(state_in(states.first));
        else if (p.is_bf16_step) rows.template load<Stored::BF16>(step_state(parent, true));
        else rows.template load<Stored::F32>(step_state(parent, false));
    }

    __device__ __forceinline__ void write_after(int token) {
        if (p.commit == FKDAI_DECODE_EACH) {
            const IndexWords slot = states.slot_after(p, token);
            if (is_row(p, slot)) rows.template store<kStored>(state_in(slot));
        } else if (token == states.store_after) {
            rows.template store<kStored>(state_in(states.first));
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
            rows.values.add(tokens.k[token], rows.lane, step(tokens, token));
            write_after(token);
        }
    }
};

template <class Config>
__device__ __forceinline__ void run_block(const fkdai_decode_call &p) {
    __shared__ Tokens<Config> tokens;
    Block<Config> block(p);
    block.guess();
    await_previous_kernel(block.known(), &tokens.unread);
    if constexpr (Config::kIsEarly) release_next_kernel();
    if (!block.request()) return;
    if constexpr (Config::kIsShort) {
        block.place_out();
        if (!block.check_guess()) return;
    }
    block.reader.finish(p, block.job, tokens);
    __syncthreads();
    if constexpr (Config::kIsChunk) {
        relate_tokens(tokens, block.job.count, p.commit == FKDAI_DECODE_LAST);
        __syncthreads();
    }
    if constexpr (!Config::kIsEarly) release_next_kernel();    // not earlier: waiting blocks of it would fill the multiprocessors unevenly
    if constexpr (!Config::kIsShort) {
        if (!block.check_guess() || !block.has_rows()) return;
        block.place_out();
    }
    if constexpr (!Config::kIsChunk) block.rows.widen();
    if constexpr (Config::kWritesSteps) block.run_steps(tokens);
    else if constexpr (Config::kIsShort) block.run_one(tokens);
    else if constexpr (Config::kIsChunk) block.run_chunk(tokens);
    else block.run(tokens);
}

template <class Config>
__global__ __launch_bounds__(Config::kBlockThreads, Config::kMinBlocks) void decode_kernel(const __grid_constant__ fkdai_decode_call p) {
    if constexpr (!Config::kHasCode) return;
    else if constexpr (Config::kIsPersistent) run_persistent<Config>(p);
    else run_block<Config>(p);
}

}  // namespace fkdai::decode

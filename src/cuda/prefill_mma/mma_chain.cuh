// The chain: warps that carry the state from chunk to chunk, 16 columns of V each, and never meet.
//
// All products are of S^T and what follows from it, [16 V, ...], as the left operand: so the accumulators of one product, rounded, are the left
// operand of the next, and nothing of them passes through shared memory. V and O change their layout by transposing 8x8 matrices between lanes.
//
//     R^T = S^T (-K)^T + V^T     O^T = S^T Q^T     S <- Diag(2^gamma_C) S     U^T = R^T T^T     O^T += U^T M^T     S^T += U^T Kr
#pragma once

#include "device/f16_rows.cuh"
#include "device/warp_mma.cuh"
#include "prefill_mma/mma_solve.cuh"
#include "prefill_mma/mma_states.cuh"
#include "prefill_mma/mma_steps.cuh"

namespace fkdai::portable {

using TokenTiles = float[kChunk / 8][4];    // [16 V, 32 tokens]

__device__ __forceinline__ void as_f16(TokensF16 &to, const TokenTiles &x) {
#pragma unroll
    for (int k = 0; k < 2; k++)
#pragma unroll
        for (int i = 0; i < 2; i++)
            to[k][2 * i] = pack_f16(x[2 * k + i][0], x[2 * k + i][1]), to[k][2 * i + 1] = pack_f16(x[2 * k + i][2], x[2 * k + i][3]);
}

template <int n>
__device__ __forceinline__ void multiply_tiles(float (&x)[n][4], float first, float second) {
#pragma unroll
    for (int b = 0; b < n; b++) x[b][0] *= first, x[b][1] *= first, x[b][2] *= second, x[b][3] *= second;
}

// Of the two rows of this lane.
template <int n>
__device__ __forceinline__ float largest_element(const float (&x)[n][4], int h) {
    float largest = 0.f;
#pragma unroll
    for (int b = 0; b < n; b++) largest = fmaxf(largest, fmaxf(fabsf(x[b][2 * h]), fabsf(x[b][2 * h + 1])));
    return largest;
}

template <bool with_checkpoints>
struct ChainRole {
    const Params &p;
    View s;

    // Asked for anew wherever they are wanted: registers are few.
    __device__ __forceinline__ static int lane() { return lane_here(); }
    __device__ __forceinline__ int warp() const { return thread_here() >> 5; }
    __device__ __forceinline__ ChainColumns &columns() const { return s->columns[warp()]; }
    __device__ __forceinline__ const Work &work() const { return columns().work; }
    __device__ __forceinline__ int number() const { return columns().number; }
    __device__ __forceinline__ bool is_silent(int number) const { return with_checkpoints && s.step(number).is_silent(); }
    __device__ __forceinline__ int column() const { return columns().first; }

    // Four columns of V of one token in each eight, of this lane.
    using Values = uint2[kChunk / 8];
    __device__ __forceinline__ void load_values(const Step &at_step, Values &v) const {
        const int here = lane(), rows = p.spans == nullptr || work().has_values ? at_step.rows() - (here >> 2) : 0;
        const int64_t at = columns().v + rows_on(p.v.strides.token, at_step.chunk() * kChunk + (here >> 2)) + 4 * (here & 3);
        const auto *from = static_cast<const __nv_bfloat16 *>(p.v.data) + at;
#pragma unroll
        for (int n = 0; n < kChunk / 8; n++, from += 8 * p.v.strides.token)
            v[n] = 8 * n < rows ? *reinterpret_cast<const uint2 *>(from) : make_uint2(0, 0);
    }
    __device__ __forceinline__ static void add_values(const Values &v, TokenTiles &r) {
#pragma unroll
        for (int n = 0; n < kChunk / 8; n++) {
            const uint32_t first = transpose_matrix(v[n].x), second = transpose_matrix(v[n].y);
            r[n][0] += low_bf16(first), r[n][1] += high_bf16(first), r[n][2] += low_bf16(second), r[n][3] += high_bf16(second);
        }
    }
    __device__ __forceinline__ void store_out(const Step &at_step, const TokenTiles &o) const {
        const uint32_t me = lane();
        const int here = static_cast<int>(kept(me, static_cast<int>(me))), rows = at_step.rows() - (here >> 2);    // or load_values' would be kept
        __nv_bfloat16 *to = p.out + columns().out + rows_on(p.out_strides.token, at_step.chunk() * kChunk + (here >> 2)) + 4 * (here & 3);
#pragma unroll
        for (int n = 0; n < kChunk / 8; n++, to += 8 * p.out_strides.token) {
            const uint2 x = make_uint2(transpose_matrix(pack_bf16(o[n][0], o[n][1])), transpose_matrix(pack_bf16(o[n][2], o[n][3])));
            if (8 * n < rows) *reinterpret_cast<uint2 *>(to) = x;
        }
    }

    // r += S^T (-K)^T, o = S^T Q^T. While two products are made, what the next two need comes from shared memory.
    __device__ __forceinline__ static void multiply_state(uint32_t stage, const StateTiles &state, TokenTiles &r, TokenTiles &o) {
        const Place at_first = place_of_columns(lane());
        const uint32_t keys = stage + uint32_t{offsetof(Stage, k)} + tile_offset(at_first.row, at_first.unit);
        constexpr uint32_t kQueries = offsetof(Stage, q) - offsetof(Stage, k), kRows = 16 * kWidth * 2;
        constexpr int kLoads = kWidth / 16 * 4;    // of channels 16 k to 16 k + 15: keys and queries of tokens 0 to 15, then of 16 to 31
        uint32_t a[4], b[2][4];
        load_matrices(b[0], keys);
#pragma unroll
        for (int i = 0; i < kLoads; i++) {
            const int k = i >> 2, n = i >> 1 & 1;
            if (i + 1 < kLoads) load_matrices(b[(i + 1) & 1], units_on(keys, (i + 1) >> 2) + ((i + 1) >> 1 & 1) * kRows + ((i + 1) & 1) * kQueries);
            if ((i & 3) == 0) {
                const float(&x)[4] = state[2 * k], (&y)[4] = state[2 * k + 1];
                a[0] = pack_bf16(x[0], x[1]), a[1] = pack_bf16(x[2], x[3]), a[2] = pack_bf16(y[0], y[1]), a[3] = pack_bf16(y[2], y[3]);
            }
            TokenTiles &to = i & 1 ? o : r;
            const uint32_t(&now)[4] = b[i & 1];
            multiply_16_bf16(to[2 * n], a, now[0], now[1]), multiply_16_bf16(to[2 * n + 1], a, now[2], now[3]);
        }
    }
    // Two tiles of the state, those of channels 16 k to 16 k + 15.
    __device__ __forceinline__ void decay_tiles(uint32_t stage, int here, int k, float (&x)[4], float (&y)[4]) const {
        const float4 f = load_float4(stage + uint32_t{offsetof(Stage, decay)} + (16 * k + 4 * (here & 3)) * 4);
        x[0] *= f.x, x[1] *= f.y, x[2] *= f.x, x[3] *= f.y, y[0] *= f.z, y[1] *= f.w, y[2] *= f.z, y[3] *= f.w;
    }
    __device__ __forceinline__ void decay(uint32_t stage, StateTiles &state) const {
        const int here = lane();
#pragma unroll
        for (int k = 0; k < kWidth / 16; k++) decay_tiles(stage, here, k, state[2 * k], state[2 * k + 1]);
    }
    // u = R^T T^T; j: tokens that are summed over.
    __device__ __forceinline__ void solve(uint32_t stage, const TokensF16 &r, TokenTiles &u) const {
        const uint32_t square = stage + uint32_t{offsetof(Stage, solve)};
        const Place at = place_of_rows(lane());
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = j; i < 2; i++) {
                uint32_t b[4];
                load_matrices_transposed(b, square + square_offset(16 * j + at.row, 2 * i + at.unit));
                multiply_16_f16(u[2 * i], r[j], b[0], b[1]), multiply_16_f16(u[2 * i + 1], r[j], b[2], b[3]);
            }
    }
    // o += U^T M^T
    __device__ __forceinline__ void read_recent(uint32_t stage, const TokensF16 &u, TokenTiles &o) const {
        const uint32_t square = stage + uint32_t{offsetof(Stage, mqk)};
        const Place at = place_of_columns(lane());
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
            for (int i = j; i < 2; i++) {
                uint32_t b[4];
                load_matrices(b, square + square_offset(16 * i + at.row, 2 * j + at.unit));
                multiply_16_f16(o[2 * i], u[j], b[0], b[1]), multiply_16_f16(o[2 * i + 1], u[j], b[2], b[3]);
            }
    }
    // S^T += U^T Kr
    __device__ __forceinline__ static uint32_t recent_keys(uint32_t stage) {
        const Place at = place_of_rows(lane());
        return stage + uint32_t{offsetof(Stage, recent)} + tile_offset(at.row, at.unit);
    }
    __device__ __forceinline__ void add_update_tiles(uint32_t recent, const TokensF16 &u, int k, float (&x)[4], float (&y)[4]) const {
#pragma unroll
        for (int j = 0; j < 2; j++) {
            uint32_t b[4];
            load_matrices_transposed(b, units_on(recent, k) + j * (16 * kWidth * 2));
            multiply_16_f16(x, u[j], b[0], b[1]), multiply_16_f16(y, u[j], b[2], b[3]);
        }
    }
    __device__ __forceinline__ void add_update(uint32_t stage, const TokensF16 &u, StateTiles &state) const {
        const uint32_t recent = recent_keys(stage);
#pragma unroll
        for (int k = 0; k < kWidth / 16; k++) add_update_tiles(recent, u, k, state[2 * k], state[2 * k + 1]);
    }

    // R or O times what T or O lacks of each token.
    __device__ __forceinline__ void multiply_tokens(uint32_t factors, TokenTiles &x) const {
        const int here = lane();
#pragma unroll
        for (int n = 0; n < kChunk / 8; n++) {
            const float2 pair = load_float2(factors + (8 * n + 2 * (here & 3)) * 4);
            x[n][0] *= pair.x, x[n][1] *= pair.y, x[n][2] *= pair.x, x[n][3] *= pair.y;
        }
    }
    // R does not fit fp16: rows of R, O and S are multiplied by a power of two, for this chunk. The factors of this lane's rows, as bf16.
    __device__ __forceinline__ uint32_t scale_into_range(uint32_t stage, bool is_silent, TokenTiles &r, TokensF16 &r_f16, TokenTiles &o,
                                                         StateTiles &state) const {
        float factor[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float largest = largest_of_row(largest_element(r, h));
            const float largest_state = is_silent ? largest_decayed(stage, state, h) : largest_element(state, h);
            factor[h] = factor_of_row(largest, largest_of_row(fmaxf(largest_state, largest_element(o, h))));
        }
        multiply_tiles(r, factor[0], factor[1]), multiply_tiles(o, factor[0], factor[1]);
        if (!is_silent) multiply_tiles(state, factor[0], factor[1]);
        as_f16(r_f16, r);
        return pack_bf16(factor[0], factor[1]);
    }
    __device__ __forceinline__ static uint32_t inverse_powers(uint32_t factors) { return 0x7f007f00 - factors; }

    // What a silent step ends with: the state is only read, two tiles of it at a time.
    __device__ __forceinline__ void store_checkpoint(uint32_t stage, const TokensF16 &u, uint32_t factors, const StateMatrix &to,
                                                     const StateTiles &state) const {
        const uint32_t undo = inverse_powers(factors);
#pragma unroll
        for (int k = 0; k < kWidth / 16; k++) {
            float after[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) after[0][i] = state[2 * k][i], after[1][i] = state[2 * k + 1][i];
            decay_tiles(stage, lane(), k, after[0], after[1]);
            multiply_tiles(after, low_bf16(factors), high_bf16(factors));
            add_update_tiles(recent_keys(stage), u, k, after[0], after[1]);
            multiply_tiles(after, low_bf16(undo), high_bf16(undo));
            to.store_tile(2 * k, after[0]), to.store_tile(2 * k + 1, after[1]);
        }
    }
    // Of the state as this step's decay leaves it, which a silent step does not write.
    __device__ __forceinline__ float largest_decayed(uint32_t stage, const StateTiles &state, int h) const {
        float largest = 0.f;
#pragma unroll
        for (int k = 0; k < kWidth / 16; k++) {
            float after[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) after[0][i] = state[2 * k][i], after[1][i] = state[2 * k + 1][i];
            decay_tiles(stage, lane(), k, after[0], after[1]);
            largest = fmaxf(largest, largest_element(after, h));
        }
        return largest;
    }

    // Of the place where a step ends.
    template <class Store>
    __device__ __forceinline__ void store_checkpoints(const Step &at_step, const Store &store) const {
        Steps<with_checkpoints>{p, work(), lane()}.at(at_step.chunk() * kChunk + at_step.rows(), s->first_checkpoint,
                                                      [&](int64_t row) { store(StateMatrix(p, p.checkpoints, row, work().head, column(), lane())); });
    }

    // Where no warp has the solves for itself: every chain_warps steps, a power of two, one of them, before the step itself.
    __device__ __forceinline__ void solve_in_turn(int number) const {
        if (p.solve_warps == 0 && (number & (p.chain_warps - 1)) == warp()) SolveRole{p, s, work(), lane()}.run_step(number, s.step(number));
    }

    // All that needs no T: r, o, and the state's decay.
    __device__ __forceinline__ void begin_step(StateTiles &state, TokenTiles &r, TokenTiles &o, Values &v) const {
        const int number = this->number();
        const uint32_t stage = s.stage(number);
        mark(mark_chain_begins, number, warp() == 0);
        operands_ready(stage).wait(number >> 1 & 1);
        mark(mark_chain_has_operands, number, warp() == 0);
        multiply_state(stage, state, r, o);
        mark(mark_chain_has_products, number, warp() == 0);
        const Step now = s.step(this->number());    // anew: registers are few
        // V not before: the products need the registers. Where no step is silent, a branch that is always taken keeps the compiler from it.
        if (with_checkpoints ? !now.is_silent() : lane() < 32) decay(stage, state);
        load_values(now, v);
        mark(mark_chain_has_decayed, number, warp() == 0);
    }
    __device__ __forceinline__ void step(StateTiles &state) const {
        TokenTiles r = {}, o = {}, u = {};
        TokensF16 r_f16, u_f16;
        Values v;
        begin_step(state, r, o, v);
        const int number = this->number();
        const uint32_t stage = s.stage(number);
        solve_ready(stage).wait(number >> 1 & 1);
        add_values(v, r);
        mark(mark_chain_has_solve, number, warp() == 0);
        const bool has_factors = load_float(stage + uint32_t{offsetof(Stage, has_factors)}) != 0.f;
        if (has_factors) [[unlikely]] multiply_tokens(stage + uint32_t{offsetof(Stage, factors)}, r);
        as_f16(r_f16, r);
        const bool is_scaled = !__all_sync(~0u, is_in_range(r_f16, range_up_to(kLargestInRange)));
        uint32_t factors = 0x3f803f80;
        if (is_scaled) [[unlikely]] factors = scale_into_range(stage, is_silent(number), r, r_f16, o, state);
        solve(stage, r_f16, u);
        as_f16(u_f16, u);
        mark(mark_chain_has_u, number, warp() == 0);
        if (is_silent(number)) {
            store_checkpoints(s.step(number), [&](const StateMatrix &to) { store_checkpoint(stage, u_f16, factors, to, state); });
            return chunk_done(stage).arrive(lane());
        }
        read_recent(stage, u_f16, o);
        add_update(stage, u_f16, state);
        if (has_factors) [[unlikely]] multiply_tokens(stage + uint32_t{offsetof(Stage, out_factors)}, o);
        chunk_done(stage).arrive(lane());
        mark(mark_chain_has_the_state, number, warp() == 0);
        const uint32_t undo = inverse_powers(factors);
        if (is_scaled) [[unlikely]] multiply_tiles(state, low_bf16(undo), high_bf16(undo));
        multiply_tiles(o, low_bf16(undo) * p.out_factor, high_bf16(undo) * p.out_factor);
        if (p.spans == nullptr || work().has_out) store_out(s.step(this->number()), o);
        mark(mark_chain_has_stored, number, warp() == 0);
    }

    __device__ __forceinline__ void load_initial(StateTiles &state) const {
        const int n = work().sequence;
        const bool is_wanted = p.initial_state.element != Element::Absent && (p.initial_mask == nullptr || p.initial_mask[n] != 0);
        if (p.span_states.data != nullptr)
            if (const int64_t slot = p.initial_state.slots.at(n); slot <= FKDAI_SPAN_STATE)
                return StateMatrix(p, p.span_states, FKDAI_SPAN_STATE - slot, work().head, column(), lane()).load(state);
        const int64_t row = is_wanted ? p.initial_state.row_of(n, p.status) : kNoRow;
        if (row != kNoRow) return StateMatrix(p, p.initial_state, row, work().head, column(), lane()).load(state);
#pragma unroll
        for (int b = 0; b < kWidth / 8; b++)
#pragma unroll
            for (int i = 0; i < 4; i++) state[b][i] = 0.f;
    }
    // A transition in its two parts (backend/span_call.h).
    __device__ __forceinline__ void store_parts(int64_t row, StateTiles &state) const {
        const StateTable parts{p.final_state.data, int64_t{p.K} * p.V, Element::BF16, false, {}, 0, 0};
#pragma unroll 1
        for (int part = 0; part < 2; part++) {
            StateMatrix(p, parts, 2 * (row * p.heads + work().head) + part, 0, column(), lane()).store(state);
#pragma unroll
            for (int b = 0; b < kWidth / 8; b++)
#pragma unroll
                for (int i = 0; i < 4; i++) state[b][i] -= low_bf16(pack_bf16(state[b][i], 0.f));
        }
    }
    __device__ __forceinline__ void store_final(StateTiles &state) const {
        if (p.final_state.element == Element::Absent) return;
        const int64_t row = p.final_state.row_of(work().sequence, p.status);
        if (row != kNoRow && !work().has_values) return store_parts(row, state);
        if (row != kNoRow) StateMatrix(p, p.final_state, row, work().head, column(), lane()).store(state);
    }

    __device__ __forceinline__ void run() const {
        StateTiles state;
        if (lane() == 0) {
            const int first = (s->work.slice * p.chain_warps + warp()) * kColumns;
            columns() = {0, first, s->work.v + first, s->work.out + first, s->work};
        }
        __syncwarp();
        load_initial(state);
#pragma unroll 1
        while (!s.step(number()).is_none()) {
            solve_in_turn(number());
            step(state);
            if (with_checkpoints && !is_silent(number()))
                store_checkpoints(s.step(number()), [&](const StateMatrix &to) { to.store(state); });
            __syncwarp();
            if (lane() == 0) columns().number++;
            __syncwarp();
        }
        store_final(state);
    }
};

}  // namespace fkdai::portable

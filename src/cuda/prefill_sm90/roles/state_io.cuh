// What the chain does between two pieces: one state goes out, the next comes in, the one after is looked up.
#pragma once

#include "device/sm90/bulk_copy.cuh"
#include "device/flag.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

using StateRows = float[64];  // S^T [64 V, 128 K] of a warpgroup: a wgmma accumulator

template <class Smem>
struct StateIo {
    const Params &p;
    SharedView<Smem> s;
    int half, worker;        // rows of V; cluster or CTA, as spans of the timeline are counted
    int warp, lane;          // of the warpgroup
    int named_barrier;       // of the warpgroup
    uint32_t staging;        // this warp's StateStaging

    // All pieces of the worker, for this warp. work(chunks, rows, state) does the chunks of one; `rows` of the tokens from its begin belong
    // to the sequence.
    template <class Work>
    __device__ __forceinline__ void run(PieceQueue &queue, const Work &work) const {
        if (lane == 0) queue.iterator = PieceIterator<kChunk>(p, worker);
        advance(queue, 0);
        StateRows state;
        for (uint32_t i = 0;; i++) {
            const bool has_next = uniform(queue.is_valid[i & 1]);
            const Piece *const done = i > 0 ? &queue.piece[(i & 1) ^ 1] : nullptr, *const next = has_next ? &queue.piece[i & 1] : nullptr;
            const int chunks = uniform(has_next ? next->end - next->begin : 0);
            const int rows = uniform(has_next ? next->sequence.length - next->begin * kChunk : 0);
            // What follows from the lane and the worker is not kept meanwhile.
            const StateIo here{p, s, half, uniform(worker), warp, lane_here(), named_barrier, staging};
            here.change_state(here.sink(done), here.source(next), queue, i, state);
            if (!has_next) return;
            if (chunks > 0) work(chunks, rows, state);
        }
    }

    // Piece i of the queue, found by one lane; it waits in shared memory, as registers are dear.
    __device__ __forceinline__ void advance(PieceQueue &queue, uint32_t i) const {
        __syncwarp();
        if (lane == 0) queue.is_valid[i & 1] = queue.iterator.next(p, queue.piece[i & 1]);
        __syncwarp();
    }

    // Element 4 b + 2 row_half + e of lane l: row 16 warp + l/4 + 8 row_half of the 64, channel 8 b + 2 (l%4) + e.
    __device__ __forceinline__ int state_offset(int row_half, int b) const {
        return (16 * warp + (lane >> 2) + 8 * row_half) * kWidth + 8 * b + 2 * (lane & 3);
    }
    __device__ __forceinline__ static float &element(StateRows &state, int row_half, int b, int e) {
        return state[4 * b + 2 * row_half + e];
    }
    __device__ __forceinline__ static float element(const StateRows &state, int row_half, int b, int e) {
        return state[4 * b + 2 * row_half + e];
    }
    __device__ __forceinline__ float *hand_over_state(int slot) const {
        return p.hand_over.state + static_cast<int64_t>(slot * kHalves + half) * (kHalf * kWidth);
    }

    // Where a state goes: nowhere, as whole rows of fp32, or as pairs of fp32 or bf16.
    struct StateSink {
        float *rows, *f32;
        __nv_bfloat16 *bf16;
        bool hands_over;  // to the next worker
    };
    __device__ __forceinline__ StateSink sink(const Piece *done) const {
        if (done == nullptr) return {};
        if (done->hands_over) return {hand_over_state(worker + 1), nullptr, nullptr, true};
        const States<void *> &to = p.final_state;
        const int64_t offset = matrix_offset(*done, to.row_stride, half);
        float *const rows = static_cast<float *>(to.data) + offset;
        if (to.element == Element::BF16) return {nullptr, nullptr, static_cast<__nv_bfloat16 *>(to.data) + offset, false};
        if (to.element == Element::Absent) return {};
        return has_whole_rows(rows) ? StateSink{rows, nullptr, nullptr, false} : StateSink{nullptr, rows, nullptr, false};
    }

    // Where a state comes from: nowhere (zero), or the same.
    struct StateSource {
        const float *rows, *f32;
        const __nv_bfloat16 *bf16;
        bool takes_over;  // from the worker before
    };
    __device__ __forceinline__ StateSource source(const Piece *next) const {
        if (next == nullptr) return {};
        if (next->takes_over) return {hand_over_state(worker), nullptr, nullptr, true};
        const States<const void *> &from = p.initial_state;
        const int64_t offset = matrix_offset(*next, from.row_stride, half);
        const float *const rows = static_cast<const float *>(from.data) + offset;
        if (from.element == Element::BF16) return {nullptr, nullptr, static_cast<const __nv_bfloat16 *>(from.data) + offset, false};
        if (from.element == Element::Absent) return {};
        return has_whole_rows(rows) ? StateSource{rows, nullptr, nullptr, false} : StateSource{nullptr, rows, nullptr, false};
    }
    __device__ __forceinline__ static bool has_whole_rows(const float *rows) { return reinterpret_cast<uintptr_t>(rows) % 16 == 0; }

    // The state of piece i - 1 out, that of piece i in. Whole rows pass through shared memory, four of a warp at a time: an access to
    // global memory then touches one row, not one sector of eight. Piece i + 1 is looked up while the new rows travel.
    __device__ __forceinline__ void change_state(const StateSink &out, const StateSource &in, PieceQueue &queue, uint32_t i, StateRows &state) const {
        if (elect_one()) bulk_wait_read();  // where rows pass, the copy engine may still read O
        __syncwarp();
        store_rows<0>(out, state);
        store_rows<1>(out, state);
        if (uniform(out.hands_over)) announce_hand_over();
        if (uniform(in.takes_over)) await_hand_over();
        if (uniform(in.rows != nullptr)) {
            float4 rows[2][8];
            fetch(in.rows, rows);
            advance(queue, i + 1);
            spread<0>(rows[0], state);
            spread<1>(rows[1], state);
        } else {
            advance(queue, i + 1);
            load_rows<0>(in, state);
            load_rows<1>(in, state);
        }
    }

    // Of row j of eight, this lane's four channels as they lie in memory.
    __device__ __forceinline__ int64_t whole_row(int row_half, int j) const { return (16 * warp + 8 * row_half + j) * kWidth + 4 * lane; }

    // Four rows wait in shared memory: row j for all lanes; or, for the half of the lanes that has them in the accumulator, its pairs.
    __device__ __forceinline__ uint32_t staged_row(int j) const { return staging + ((lane * 16) ^ j * 32) + j * uint32_t{sizeof(StateStaging::row[0])}; }
    __device__ __forceinline__ uint32_t staged_pair(int b) const {
        const uint32_t row = lane >> 2 & 3, first = staging + row * uint32_t{sizeof(StateStaging::row[0])} + row * 32 + (lane & 3) * 8;
        return (first ^ (b & 3) * 32) + (b >> 2) * 128;
    }
    __device__ __forceinline__ bool has_rows(int four) const { return lane >> 4 == four; }

    template <int row_half>
    __device__ __forceinline__ void send_rows(float *to, const StateRows &state) const {
        float4 rows[8];
#pragma unroll
        for (int four = 0; four < 2; four++) {
            if (has_rows(four)) {
#pragma unroll
                for (int b = 0; b < 16; b++) store_float2(staged_pair(b), element(state, row_half, b, 0), element(state, row_half, b, 1));
            }
            __syncwarp();
#pragma unroll
            for (int j = 0; j < 4; j++) rows[4 * four + j] = load_float4(staged_row(j));
            __syncwarp();
        }
#pragma unroll
        for (int j = 0; j < 8; j++) *reinterpret_cast<float4 *>(to + whole_row(row_half, j)) = rows[j];
    }
    __device__ __forceinline__ void fetch(const float *from, float4 (&rows)[2][8]) const {
#pragma unroll
        for (int i = 0; i < 16; i++) rows[i >> 3][i & 7] = __ldcg(reinterpret_cast<const float4 *>(from + whole_row(i >> 3, i & 7)));
    }
    template <int row_half>
    __device__ __forceinline__ void spread(const float4 (&rows)[8], StateRows &state) const {
#pragma unroll
        for (int four = 0; four < 2; four++) {
#pragma unroll
            for (int j = 0; j < 4; j++) store_float4(staged_row(j), rows[4 * four + j]);
            __syncwarp();
            if (has_rows(four)) {
#pragma unroll
                for (int b = 0; b < 16; b++) {
                    const float2 pair = load_float2(staged_pair(b));
                    element(state, row_half, b, 0) = pair.x, element(state, row_half, b, 1) = pair.y;
                }
            }
            __syncwarp();
        }
    }

    template <int row_half>
    __device__ __forceinline__ void store_rows(const StateSink &to, const StateRows &state) const {
        if (to.rows != nullptr) send_rows<row_half>(to.rows, state);
        else if (to.f32 != nullptr) write_pairs<row_half>(to.f32, state);
        else if (to.bf16 != nullptr) write_pairs<row_half>(to.bf16, state);
    }
    template <int row_half>
    __device__ __forceinline__ void load_rows(const StateSource &from, StateRows &state) const {
        if (from.f32 != nullptr) {
            read_pairs<row_half>(from.f32, state);
        } else if (from.bf16 != nullptr) {
            read_pairs<row_half>(from.bf16, state);
        } else {
#pragma unroll
            for (int b = 0; b < 16; b++) element(state, row_half, b, 0) = element(state, row_half, b, 1) = 0.f;
        }
    }

    template <int row_half>
    __device__ __forceinline__ void read_pairs(const float *from, StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++) {
            const float2 pair = __ldcg(reinterpret_cast<const float2 *>(from + state_offset(row_half, b)));
            element(state, row_half, b, 0) = pair.x, element(state, row_half, b, 1) = pair.y;
        }
    }
    template <int row_half>
    __device__ __forceinline__ void read_pairs(const __nv_bfloat16 *from, StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++) {
            const uint32_t pair = __ldcg(reinterpret_cast<const uint32_t *>(from + state_offset(row_half, b)));
            element(state, row_half, b, 0) = low_bf16(pair), element(state, row_half, b, 1) = high_bf16(pair);
        }
    }
    template <int row_half>
    __device__ __forceinline__ void write_pairs(float *to, const StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++)
            *reinterpret_cast<float2 *>(to + state_offset(row_half, b)) =
                make_float2(element(state, row_half, b, 0), element(state, row_half, b, 1));
    }
    template <int row_half>
    __device__ __forceinline__ void write_pairs(__nv_bfloat16 *to, const StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++)
            *reinterpret_cast<uint32_t *>(to + state_offset(row_half, b)) =
                pack_bf16(element(state, row_half, b, 0), element(state, row_half, b, 1));
    }

    // The halves of V are independent: each waits for the same half of the worker before.
    __device__ __forceinline__ void announce_hand_over() const {
        __threadfence();
        warpgroup_sync(named_barrier);
        if (warp == 0 && lane == 0) raise_flag(p.hand_over.is_ready + (worker + 1) * kHalves + half, p.hand_over.number);
    }
    // Lowers the flag once all four warps have seen it: the same launch may be repeated on this memory.
    __device__ __forceinline__ void await_hand_over() const {
        uint64_t *const flag = p.hand_over.is_ready + worker * kHalves + half;
        await_flag(flag, p.hand_over.number);
        warpgroup_sync(named_barrier);
        if (warp == 0 && lane == 0) *flag = 0;
    }
};

}  // namespace fkdai::prefill

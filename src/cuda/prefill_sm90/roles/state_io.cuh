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

    // All segments of the worker, for this warp. work(chunks, rows, state) does the chunks of one; `rows` of the tokens from its begin belong
    // to the sequence.
    template <class Work>
    __device__ __forceinline__ void run(PieceQueue &queue, const Work &work) const {
        const int64_t first = first_of_lone_job();
        if (lane == 0) {
            queue.iterator = SegmentIterator(p, worker), queue.first_checkpoint = first;
            queue.segment[0] = queue.segment[1] = {nullptr, nullptr, 0, 0, Form::None, Form::None, true};  // before the first
        }
        __syncwarp();
        StateRows state;
        for (uint32_t i = 0;; i++) {
            const QueuedSegment &done = queue.segment[(i & 1) ^ 1], &next = queue.segment[i & 1];
            const bool has_next = uniform(next.is_valid);
            const int chunks = uniform(next.chunks), rows = uniform(next.rows);
            // What follows from the lane and the worker is not kept meanwhile.
            const StateIo here{p, s, half, uniform(worker), warp, lane_here(), named_barrier, staging};
            here.change_state({done.to, known(done.to_form)}, {next.from, known(next.from_form)}, queue, i, state);
            if (!has_next) return;
            if (chunks > 0) work(chunks, rows, state);
        }
    }
    __device__ __forceinline__ static Form known(Form form) { return static_cast<Form>(uniform(static_cast<int>(form))); }

    // Segment i of the queue, found by one lane; it waits in shared memory, as registers are dear. Whatever memory must be asked to know where
    // a state lies, it is asked here, a segment ahead.
    __device__ __forceinline__ void advance(PieceQueue &queue, uint32_t i) const {
        __syncwarp();
        if (lane == 0) {
            SegmentIterator &at = queue.iterator;
            QueuedSegment &to = queue.segment[i & 1];
            const bool opens = at.step == Next::Piece;
            to.is_valid = at.next(p);
            if (to.is_valid) {
                if (opens && p.checkpoints.exist()) count_checkpoints(queue);
                to.chunks = at.segment.end - at.segment.begin, to.rows = at.segment.length - at.segment.begin * kChunk;
                const StateAddress from = source(at), sink = sink_of(at, queue.first_checkpoint);
                to.from = from.at, to.from_form = from.form, to.to = sink.at, to.to_form = sink.form;
            }
        }
        __syncwarp();
    }

    // The number of the first checkpoint of the sequence that a piece belongs to.
    __device__ __forceinline__ void count_checkpoints(PieceQueue &queue) const {
        const int n = queue.iterator.piece.sequence_index;
        const Schedule schedule = p.schedule_here();
        if (p.mark_every == 0) queue.first_checkpoint = static_cast<int64_t>(n) * p.checkpoints.per_sequence;
        else if (p.sequences.cu_seqlens == nullptr) queue.first_checkpoint = static_cast<int64_t>(n) * p.marks_of(p.sequences.tokens);
        else if (schedule.marks != nullptr) queue.first_checkpoint = schedule.marks[n];
    }
    // Without a schedule the sequences are few, and this worker has one job.
    __device__ __forceinline__ int64_t first_of_lone_job() const {
        int marks = 0;
        if (p.mark_every > 0 && p.sequences.cu_seqlens != nullptr && p.schedule.cut == nullptr)
            for (int n = lane; n < worker / p.heads; n += 32) marks += p.marks_of(p.sequences.span(n).length);
        return warp_sum(marks);
    }

    // Where this half of a state lies, and how.
    struct StateAddress {
        void *at;
        Form form;
    };
    __device__ __forceinline__ StateAddress source(const SegmentIterator &of) const {
        const int n = of.piece.sequence_index;
        if (of.segment.from == Place::Kept) return {nullptr, Form::Kept};
        if (of.segment.from == Place::Parked) return {parked_state(), Form::Rows};
        if (of.segment.from == Place::Worker) return {hand_over_state(worker), Form::HandOver};
        if (p.initial_mask != nullptr && p.initial_mask[n] == 0) return {nullptr, Form::None};
        return find(p.initial_state, n, of.piece.head);
    }
    __device__ __forceinline__ StateAddress sink_of(const SegmentIterator &of, int64_t first_checkpoint) const {
        if (of.segment.to == Place::Parked) return {parked_state(), Form::Rows};
        if (of.segment.to == Place::Worker) return {hand_over_state(worker + 1), Form::HandOver};
        const bool is_checkpoint = of.segment.to == Place::Checkpoint;
        const int64_t i = is_checkpoint ? first_checkpoint + of.checkpoint(p) : of.piece.sequence_index;
        if (is_checkpoint && i >= p.checkpoints.count) return report(p.status, kBrokenCheckpoint), StateAddress{nullptr, Form::None};
        return find(is_checkpoint ? p.checkpoints.states : p.final_state, i, of.piece.head);
    }
    // State i of a tensor. What has no row is nowhere.
    __device__ __forceinline__ StateAddress find(const States &of, int64_t i, int head) const {
        if (of.element == Element::Absent) return {nullptr, Form::None};
        const int64_t row = of.row_of(i, p.status);
        if (row == kNoRow) return {nullptr, Form::None};
        void *const at = of.address(row, head, half);
        const bool is_wide = of.element == Element::F32, is_whole = reinterpret_cast<uintptr_t>(at) % 16 == 0;
        if (of.is_k_first) return {at, is_wide ? Form::Columns32 : Form::Columns16};
        return {at, !is_wide ? Form::Pairs16 : is_whole ? Form::Rows : Form::Pairs32};
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

    __device__ __forceinline__ float *parked_state() const {
        return p.checkpoints.parked + static_cast<int64_t>(worker * kHalves + half) * (kHalf * kWidth);
    }

    // The state of segment i - 1 out, that of segment i in. Whole rows pass through shared memory, four of a warp at a time: an access to
    // global memory then touches one row, not one sector of eight. Segment i + 1 is looked up while the new rows travel.
    __device__ __forceinline__ void change_state(const StateAddress &out, const StateAddress &in, PieceQueue &queue, uint32_t i, StateRows &state) const {
        if (elect_one()) bulk_wait_read();  // where rows pass, the copy engine may still read O
        __syncwarp();
        store_rows<0>(out, state);
        store_rows<1>(out, state);
        if (out.form == Form::HandOver) announce_hand_over();
        if (in.form == Form::HandOver) await_hand_over();
        if (has_rows(in)) fetch(static_cast<const float *>(in.at), state);
        advance(queue, i + 1);
        if (in.form == Form::Kept) return;
        if (has_rows(in)) spread(state);
        else load_rows<0>(in, state), load_rows<1>(in, state);
    }
    __device__ __forceinline__ static bool has_rows(const StateAddress &x) { return x.form == Form::Rows || x.form == Form::HandOver; }

    // Of row j of eight, this lane's four channels as they lie in memory.
    __device__ __forceinline__ int64_t whole_row(int row_half, int j) const { return (16 * warp + 8 * row_half + j) * kWidth + 4 * lane; }

    // Four rows wait in shared memory: row j for all lanes; or, for the half of the lanes that has them in the accumulator, its pairs.
    __device__ __forceinline__ uint32_t staged_row(int j) const { return staging + ((lane * 16) ^ j * 32) + j * uint32_t{sizeof(StateStaging::row[0])}; }
    __device__ __forceinline__ uint32_t staged_pair(int b) const {
        const uint32_t row = lane >> 2 & 3, first = staging + row * uint32_t{sizeof(StateStaging::row[0])} + row * 32 + (lane & 3) * 8;
        return (first ^ (b & 3) * 32) + (b >> 2) * 128;
    }
    __device__ __forceinline__ bool holds_rows(int four) const { return lane >> 4 == four; }

    template <int row_half>
    __device__ __forceinline__ void send_rows(float *to, const StateRows &state) const {
        float4 rows[8];
#pragma unroll
        for (int four = 0; four < 2; four++) {
            if (holds_rows(four)) {
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
    // Sixteen rows as they lie in memory, in the registers that will hold the state.
    __device__ __forceinline__ void fetch(const float *from, StateRows &state) const {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float4 x = __ldcg(reinterpret_cast<const float4 *>(from + whole_row(i >> 3, i & 7)));
            state[4 * i] = x.x, state[4 * i + 1] = x.y, state[4 * i + 2] = x.z, state[4 * i + 3] = x.w;
        }
    }
    __device__ __forceinline__ void spread(StateRows &state) const {
        StateRows fetched;
#pragma unroll
        for (int i = 0; i < 64; i++) fetched[i] = state[i];
#pragma unroll
        for (int four = 0; four < 4; four++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float *const x = fetched + 16 * four + 4 * j;
                store_float4(staged_row(j), make_float4(x[0], x[1], x[2], x[3]));
            }
            __syncwarp();
            if (holds_rows(four & 1)) {
#pragma unroll
                for (int b = 0; b < 16; b++) {
                    const float2 pair = load_float2(staged_pair(b));
                    element(state, four >> 1, b, 0) = pair.x, element(state, four >> 1, b, 1) = pair.y;
                }
            }
            __syncwarp();
        }
    }

    template <int row_half>
    __device__ __forceinline__ void store_rows(const StateAddress &to, const StateRows &state) const {
        auto *const wide = static_cast<float *>(to.at);
        if (has_rows(to)) send_rows<row_half>(wide, state);
        else if (to.form == Form::Pairs32) write_pairs<row_half>(wide, state);
        else if (to.form == Form::Pairs16) write_pairs<row_half>(static_cast<__nv_bfloat16 *>(to.at), state);
        else if (to.form == Form::Columns32) write_columns<row_half>(wide, state);
        else if (to.form == Form::Columns16) write_columns<row_half>(static_cast<uint16_t *>(to.at), state);
    }
    template <int row_half>
    __device__ __forceinline__ void load_rows(const StateAddress &from, StateRows &state) const {
        const auto *const wide = static_cast<const float *>(from.at);
        if (from.form == Form::Pairs32) {
            read_pairs<row_half>(wide, state);
        } else if (from.form == Form::Pairs16) {
            read_pairs<row_half>(static_cast<const __nv_bfloat16 *>(from.at), state);
        } else if (from.form == Form::Columns32) {
            read_columns<row_half>(wide, state);
        } else if (from.form == Form::Columns16) {
            read_columns<row_half>(static_cast<const uint16_t *>(from.at), state);
        } else {
#pragma unroll
            for (int b = 0; b < 16; b++) element(state, row_half, b, 0) = element(state, row_half, b, 1) = 0.f;
        }
    }

    // [K,V]: the eight lanes of a quad column have eight rows of V side by side.
    __device__ __forceinline__ int column_offset(int row_half, int b, int e) const {
        return (8 * b + 2 * (lane & 3) + e) * kWidth + 16 * warp + (lane >> 2) + 8 * row_half;
    }
    __device__ __forceinline__ static float widened(float x) { return x; }
    __device__ __forceinline__ static float widened(uint16_t x) { return low_bf16(x); }
    __device__ __forceinline__ static void narrow(float x, float &to) { to = x; }
    __device__ __forceinline__ static void narrow(float x, uint16_t &to) { to = static_cast<uint16_t>(pack_bf16(x, 0.f)); }
    template <int row_half, class T>
    __device__ __forceinline__ void read_columns(const T *from, StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++)
#pragma unroll
            for (int e = 0; e < 2; e++) element(state, row_half, b, e) = widened(__ldcg(from + column_offset(row_half, b, e)));
    }
    template <int row_half, class T>
    __device__ __forceinline__ void write_columns(T *to, const StateRows &state) const {
#pragma unroll
        for (int b = 0; b < 16; b++)
#pragma unroll
            for (int e = 0; e < 2; e++) narrow(element(state, row_half, b, e), to[column_offset(row_half, b, e)]);
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

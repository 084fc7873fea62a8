// Which segment comes next, where its state comes from and where it goes: asked of memory a segment ahead.
#pragma once

#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

struct StateAddress {
    void *at;
    Form form;
};

// One warp of a chain.
struct StateLookup {
    const Params &p;
    int half, worker, lane;

    // Returns the number of the segment to begin with: 1, or 0 if that is still to be looked up.
    __device__ __forceinline__ uint32_t begin(PieceQueue &queue) const {
        if (has_one_segment(p)) return begin_with_the_only(queue), 1;
        const int64_t first = first_of_lone_job();
        if (lane == 0) {
            queue.iterator = SegmentIterator(p, worker), queue.first_checkpoint = first;
            queue.segment[0] = queue.segment[1] = {nullptr, nullptr, 0, 0, 0, 1, 0, Form::None, Form::None, 0, true};  // before the first
        }
        __syncwarp();
        return 0;
    }
    __device__ __forceinline__ void begin_with_the_only(PieceQueue &queue) const {
        if (lane == 0) {
            const int2 job = p.lone_job(worker);
            const int length = p.sequences.span(job.x).length;
            const StateAddress from = initial_state(job.x, job.y), to = find(p.final_state, job.x, job.y);
            queue.segment[0] = {nullptr, nullptr, 0, 0, 0, 1, 0, Form::None, Form::None, 0, true};
            queue.segment[1] = {from.at, to.at, 0, chunk_count<kChunk>(length), length, 1, job.y, from.form, to.form, 0, true};
        }
        __syncwarp();
    }

    // Segment i of the queue, found by one lane; it waits in shared memory, as registers are dear. Behind the last: a state from nowhere.
    __device__ __forceinline__ void advance(PieceQueue &queue, uint32_t i) const {
        __syncwarp();
        if (lane == 0) {
            SegmentIterator &at = queue.iterator;
            QueuedSegment &to = queue.segment[i & 1];
            const bool opens = at.step == Next::Piece;
            to.is_valid = !has_one_segment(p) && at.next(p), to.from_form = Form::None;
            if (to.is_valid) {
                if (opens && p.checkpoints.exist()) count_checkpoints(queue);
                to.parts = at.parts(p), to.head = at.piece.head, to.rows_forked = 0;
                to.chunks = (at.segment.end - at.segment.begin) / to.parts, to.rows = at.segment.length - at.segment.begin * kChunk;
                const StateAddress from = source(at);
                to.from = from.at, to.from_form = from.form;
                if (at.segment.to == Place::Parked) at.fork(), to.parts = 2, to.rows_forked = static_cast<uint8_t>(at.key % kChunk);
                const int64_t last = queue.first_checkpoint + at.checkpoint(p);
                const StateAddress sink = sink_of(at, last);
                to.to = sink.at, to.to_form = sink.form, to.checkpoint = last - (to.parts - 1);
            }
        }
        __syncwarp();
    }

    // Where the state goes between parts part - 1 and part of a segment.
    __device__ __forceinline__ StateAddress sink_before(const QueuedSegment &segment, int part) const {
        if (segment.rows_forked > 0) return {parked_state(), Form::Parked};
        return checkpoint(segment.checkpoint + part - 1, segment.head);
    }

    // The number of the first checkpoint of the sequence that a piece belongs to.
    __device__ __forceinline__ void count_checkpoints(PieceQueue &queue) const {
        const int n = queue.iterator.piece.sequence_index;
        const Schedule schedule = p.schedule_here();
        if (p.mark_every == 0) queue.first_checkpoint = static_cast<int64_t>(n) * p.per_sequence;
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
    __device__ __forceinline__ StateAddress source(const SegmentIterator &of) const {
        const int n = of.piece.sequence_index;
        if (of.segment.from == Place::Kept) return {nullptr, Form::Kept};
        if (of.segment.from == Place::Parked) return {parked_state(), Form::Parked};
        if (of.segment.from == Place::Worker) return {hand_over_state(worker), Form::HandOver};
        return initial_state(n, of.piece.head);
    }
    __device__ __forceinline__ StateAddress initial_state(int n, int head) const {
        if (p.initial_mask != nullptr && p.initial_mask[n] == 0) return {nullptr, Form::None};
        return find(p.initial_state, n, head);
    }
    __device__ __forceinline__ StateAddress sink_of(const SegmentIterator &of, int64_t last_checkpoint) const {
        if (of.segment.to == Place::Worker) return {hand_over_state(worker + 1), Form::HandOver};
        if (of.segment.to == Place::Caller) return find(p.final_state, of.piece.sequence_index, of.piece.head);
        return checkpoint(last_checkpoint, of.piece.head);
    }
    __device__ __forceinline__ StateAddress checkpoint(int64_t i, int head) const {
        if (i < p.checkpoints.count) return find(p.checkpoints.states, i, head);
        report(p.status, kBrokenCheckpoint);
        return {nullptr, Form::None};
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

    // Workspace: of the job that a worker takes over, and while a checkpoint inside a chunk is made.
    __device__ __forceinline__ float *hand_over_state(int slot) const {
        return p.hand_over.state + static_cast<int64_t>(slot * kHalves + half) * (kHalf * kWidth);
    }
    __device__ __forceinline__ float *parked_state() const {
        return p.checkpoints.parked + static_cast<int64_t>(worker * kHalves + half) * (kHalf * kWidth);
    }
};

}  // namespace fkdai::prefill

// Where states lie: the caller's, checkpoints, what workers hand over, what is parked.
#pragma once

#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// Of the first half of V; half_bytes leads to the second.
struct StateAddress {
    void *at;
    Form form;
};

struct StatePlaces {
    const Params &p;
    int worker;

    // State i of a tensor. What has no row is nowhere.
    __device__ __forceinline__ StateAddress find(const States &of, int64_t i, int head) const {
        if (of.element == Element::Absent) return {nullptr, Form::None};
        const int64_t row = of.row_of(i, p.status);
        if (row == kNoRow) return {nullptr, Form::None};
        void *const at = of.address(row, head, 0);
        const bool is_wide = of.element == Element::F32, is_whole = reinterpret_cast<uintptr_t>(at) % 16 == 0;
        if (of.is_k_first) return {at, is_wide ? Form::Columns32 : Form::Columns16};
        return {at, !is_wide ? Form::Pairs16 : is_whole ? Form::Rows : Form::Pairs32};
    }
    __device__ __forceinline__ StateAddress initial(int n, int head) const {
        if (p.initial_mask != nullptr && p.initial_mask[n] == 0) return {nullptr, Form::None};
        return find(p.initial_state, n, head);
    }
    __device__ __forceinline__ StateAddress checkpoint(int64_t i, int head) const {
        if (i < p.checkpoints.count) return find(p.checkpoints.states, i, head);
        report(p.status, kBrokenCheckpoint);
        return {nullptr, Form::None};
    }

    // Workspace: of the job that a worker takes over, and while a checkpoint inside a chunk is made.
    __device__ __forceinline__ StateAddress handed_over(int slot) const { return {p.hand_over.state + int64_t{slot} * (kWidth * kWidth), Form::HandOver}; }
    __device__ __forceinline__ StateAddress parked() const { return {p.checkpoints.parked + int64_t{worker} * (kWidth * kWidth), Form::Parked}; }

    // Where the state goes between parts part - 1 and part of a segment.
    __device__ __forceinline__ StateAddress sink_before(const QueuedSegment &segment, int part) const {
        if (segment.rows_forked > 0) return parked();
        return checkpoint(segment.checkpoint + part - 1, segment.head);
    }

    // What the segment of an iterator begins with, and where it goes.
    template <bool is_lone>
    __device__ __forceinline__ StateAddress source(const SegmentIterator<is_lone> &of) const {
        if (of.segment.from == Place::Kept) return {nullptr, Form::Kept};
        if (of.segment.from == Place::Parked) return parked();
        if (of.segment.from == Place::Worker) return handed_over(worker);
        return initial(of.piece.sequence_index, of.piece.head);
    }
    template <bool is_lone>
    __device__ __forceinline__ StateAddress sink(const SegmentIterator<is_lone> &of, int64_t last_checkpoint) const {
        if (of.segment.to == Place::Worker) return handed_over(worker + 1);
        if (of.segment.to == Place::Caller) return find(p.final_state, of.piece.sequence_index, of.piece.head);
        return checkpoint(last_checkpoint, of.piece.head);
    }
};

}  // namespace fkdai::prefill

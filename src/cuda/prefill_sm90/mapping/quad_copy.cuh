// Checkpoints of an octet: the chain and the CTA that follows it have the same state, a chunk apart, and each sends half of its rows. They leave them in
// shared memory and go on; the copy engine brings them to memory. A chain that stores a state itself takes 1,700 cycles for it.
#pragma once

#include "prefill_sm90/mapping/quad_config.cuh"
#include "prefill_sm90/roles/state_io.cuh"

namespace fkdai::prefill::quad {

template <class Shape>
__device__ __forceinline__ bool checkpoints_are_copied(const Params &p) { return Shape::kCopies > 0 && p.checkpoints.are_rows; }

// Of row r of eight, among those of a warp.
__device__ __forceinline__ uint32_t place_of_row(uint32_t r) { return (r & 3) * kRowPairBytes + (r >> 2) * kRowBytes; }

// Half of the rows of a warpgroup's state, on their way. part: 0 in a chain, which has rows 0 to 7 of 16, 1 in the CTA that follows it.
template <class Shape, int part>
struct CopiedRows {
    ChainView<Shape> s;
    int warp, lane;

    // A state [64 V, 128 K] that nobody changes meanwhile, the n-th that this warpgroup leaves.
    __device__ __forceinline__ void leave(uint32_t n, const StateRows &state) const {
        const bool is_reader = part == 0 && warp == 0 && lane == 0;
        mark(mark_checkpoint_begins, n, is_reader);
        wait(s.at(s->barriers.checkpoint_free), (n & 1) ^ 1);
        __syncwarp();
        mark(mark_checkpoint_has_room, n, is_reader);
        const uint32_t pair = s.at(s->copied_rows[warp]) + place_of_row(lane >> 2) + (lane & 3) * uint32_t{sizeof(float2)};
#pragma unroll
        for (int b = 0; b < 16; b++) store_float2(pair + 32 * b, state[4 * b + 2 * part], state[4 * b + 2 * part + 1]);
        warp_arrive(s.at(s->barriers.checkpoint_ready), lane);
        mark(mark_checkpoint_is_left, n, is_reader);
    }
};

// One warp: takes them to the caller's rows, once the first state has been read everywhere.
template <class Shape>
struct CopyRole {
    const Params &p;
    ChainView<Shape> s;
    int half, cluster;
    bool is_chain;
    int lane;

    __device__ __forceinline__ void run() const {
        const QueueReader<ChainSmem<Shape>> segments{s};
        uint32_t number = 0;  // of checkpoints
        for (uint32_t i = 0;; i++) {
            const QueuedSegment &segment = segments.await(i);
            if (!uniform(segment.is_valid)) return;
            const int parts = uniform(segment.parts), head = uniform(segment.head);
            for (int part = 1; part < parts; part++) copy(number++, StatePlaces{p, cluster}.checkpoint(segment.checkpoint + part - 1, head));
            segments.release(i);
        }
    }

    // One thread. to: the first row of the first warp.
    __device__ __forceinline__ void copy_rows(float *to) const {
#pragma unroll 1
        for (int warp = 0; warp < 4; warp++, to += 16 * kWidth)
#pragma unroll
            for (uint32_t row = 0; row < kCopiedRows; row++)
                store_bytes(to + row * kWidth, s.at(s->copied_rows[warp]) + place_of_row(row), kRowBytes);
    }

    __device__ __forceinline__ void copy(uint32_t number, const StateAddress &state) const {
        if (is_chain && number == 0) wait(s.at(s->barriers.follower_begun), 0);
        wait_together(s.at(s->barriers.checkpoint_ready), number & 1);
        fence_async_proxy();  // here, not where they were written: a chain would wait for its stores
        if (elect_one()) {
            if (state.form != Form::None) copy_rows(static_cast<float *>(state.at) + (half * kHalf + (is_chain ? 0 : kCopiedRows)) * kWidth);
            bulk_commit();
            bulk_wait_read();
        }
        __syncwarp();
        mark(mark_checkpoint_is_read, number, is_chain && lane == 0);
        warp_arrive(s.at(s->barriers.checkpoint_free), lane);
    }
};

}  // namespace fkdai::prefill::quad

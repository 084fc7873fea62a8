// Which segment comes next, where its state comes from and where it goes: found ahead of those who work on it, by one warp of a CTA. A look-up is
// some hundred instructions that hardly ever are in the cache, and several loads, one after the other: thousands of cycles.
#pragma once

#include "device/flag.cuh"
#include "prefill_sm90/roles/loads.cuh"
#include "prefill_sm90/roles/state_places.cuh"

namespace fkdai::prefill {

// The worker that goes on with a job: its state is where it was handed over, these halves of V. By one lane.
__device__ __forceinline__ void tell_next_worker(const Params &p, int worker, int first_half, int halves) {
    const HandOver &to = p.hand_over;
    for (int half = first_half; half < first_half + halves; half++) raise_flag(to.is_ready + (worker + 1) * kHalves + half, to.number);
}

// A whole warp, of which one lane finds. finds_states: without, where states lie is not asked. first_half, halves: of V, that this CTA has.
template <class Smem, bool finds_states>
struct SegmentFinder {
    const Params &p;
    SharedView<Smem> s;
    int worker, first_half, halves;
    using Queue = decltype(Smem::segment_queue);
    using Iterator = decltype(Queue::iterator);

    __device__ __forceinline__ void begin() const {
        Queue &queue = s->segment_queue;
        if (has_one_segment<Smem>(p)) return;
        const int64_t first = finds_states && !are_plain<Smem> ? first_of_lone_job() : 0;
        if (lane_here() == 0) queue.iterator = Iterator(p, worker), queue.first_checkpoint = first;
        __syncwarp();
    }

    // Segment i of the queue. Those before it have been found.
    __device__ __forceinline__ void find(uint32_t i) const {
        __syncwarp();
        if (lane_here() == 0) {
            Queue &queue = s->segment_queue;
            QueuedSegment &to = queue.segment[i % Queue::kPlaces];
            to.from_form = Form::None, to.has_chunks = false, to.rows_forked = 0;
            if (has_one_segment<Smem>(p)) find_the_only(to, i);
            else find_next(queue, to);
            if (finds_states && to.is_valid && !(Smem::kStateBehindTiles && i == 0)) prefetch_rows({to.from, to.from_form});
        }
        __syncwarp();
    }

    // The same in two halves, of a plain call's.
    __device__ __forceinline__ void find_next_piece(uint32_t i) const {
        __syncwarp();
        if (lane_here() == 0) {
            Queue &queue = s->segment_queue;
            QueuedSegment &to = queue.segment[i % Queue::kPlaces];
            Piece &piece = queue.iterator.piece;
            to.from_form = Form::None, to.rows_forked = 0, to.is_valid = queue.iterator.pieces.next(p, piece);
            to.head = piece.head, to.start = piece.sequence.start, to.batch = piece.sequence.batch;
            set_chunks(piece, to);
        }
        __syncwarp();
    }
    __device__ __forceinline__ void find_states_of(uint32_t i) const {
        Queue &queue = s->segment_queue;
        QueuedSegment &to = queue.segment[i % Queue::kPlaces];
        if (lane_here() == 0 && to.is_valid) {
            find_states(queue.iterator.piece, to);
            if (!(Smem::kStateBehindTiles && i == 0)) prefetch_rows({to.from, to.from_form});
        }
        __syncwarp();
    }

    __device__ __forceinline__ void find_the_only(QueuedSegment &to, uint32_t i) const {
        to.is_valid = i == 0;
        if (!to.is_valid) return;
        const StatePlaces places{p, worker};
        const int2 job = p.lone_job(worker);
        const SequenceSpan of = p.sequences.span(job.x);
        to.first = 0, to.chunks = chunk_count<kChunk>(of.length), to.rows = of.length, to.parts = 1;
        to.head = job.y, to.start = of.start, to.batch = of.batch, to.has_chunks = of.length > 0;
        if (!finds_states) return;
        const StateAddress from = places.initial(job.x, job.y), end = places.find(p.final_state, job.x, job.y);
        to.from = from.at, to.from_form = from.form, to.to = end.at, to.to_form = end.form;
    }
    __device__ __forceinline__ void find_next(Queue &queue, QueuedSegment &to) const {
        Iterator &at = queue.iterator;
        const bool opens = are_plain<Smem> || at.step == Next::Piece;
        to.is_valid = !opens || at.pieces.next(p, at.piece);
        if (!to.is_valid) return;
        to.head = at.piece.head, to.start = at.piece.sequence.start, to.batch = at.piece.sequence.batch;
        if (!are_plain<Smem> && p.checkpoints.exist()) find_segment(queue, to, opens);
        else find_piece(at.piece, to);
        to.has_chunks = to.chunks > 0 || (!are_plain<Smem> && to.rows_forked > 0) || has_chunks_behind(at);
    }
    // A whole piece.
    __device__ __forceinline__ void find_piece(const Piece &piece, QueuedSegment &to) const {
        set_chunks(piece, to);
        if (finds_states) find_states(piece, to);
    }
    __device__ __forceinline__ static void set_chunks(const Piece &piece, QueuedSegment &to) {
        to.first = piece.begin, to.chunks = piece.end - piece.begin, to.rows = piece.sequence.length - piece.begin * kChunk, to.parts = 1;
    }
    __device__ __forceinline__ void find_states(const Piece &piece, QueuedSegment &to) const {
        const StatePlaces places{p, worker};
        const StateAddress from = !are_lone<Smem> && piece.takes_over ? places.handed_over(worker) : places.initial(piece.sequence_index, piece.head);
        const StateAddress end = !are_lone<Smem> && piece.hands_over ? places.handed_over(worker + 1) : places.find(p.final_state, piece.sequence_index, piece.head);
        to.from = from.at, to.from_form = from.form, to.to = end.at, to.to_form = end.form;
    }
    // Or one that checkpoints cut. opens: it is the first of its piece.
    __device__ __forceinline__ void find_segment(Queue &queue, QueuedSegment &to, bool opens) const {
        Iterator &at = queue.iterator;
        if (opens) at.open(p);
        at.next(p);
        if (finds_states && opens) count_checkpoints(queue);
        to.parts = at.parts(p);
        to.first = at.segment.begin, to.chunks = (at.segment.end - at.segment.begin) / to.parts;
        to.rows = at.segment.length - at.segment.begin * kChunk;
        const StatePlaces places{p, worker};
        if (finds_states) {
            const StateAddress from = places.source(at);
            to.from = from.at, to.from_form = from.form;
        }
        if (at.segment.to == Place::Parked) at.fork(), to.parts = 2, to.rows_forked = static_cast<uint8_t>(at.key % kChunk);
        if (!finds_states) return;
        const int64_t last = queue.first_checkpoint + at.checkpoint(p);
        const StateAddress end = places.sink(at, last);
        to.to = end.at, to.to_form = end.form, to.checkpoint = last - (to.parts - 1);
    }
    // Behind a segment without any. Rare.
    __device__ __forceinline__ bool has_chunks_behind(const Iterator &at) const {
        if (!are_plain<Smem> && at.step != Next::Piece && at.key / kChunk < at.piece.end) return true;
        if (are_lone<Smem>) return false;
        auto pieces = at.pieces;
        Piece piece{};
        while (pieces.next(p, piece))
            if (piece.begin < piece.end) return true;
        return false;
    }

    // The number of the first checkpoint of the sequence that a piece belongs to.
    __device__ __forceinline__ void count_checkpoints(Queue &queue) const {
        const int n = queue.iterator.piece.sequence_index;
        if (p.mark_every == 0) queue.first_checkpoint = static_cast<int64_t>(n) * p.per_sequence;
        else if (p.sequences.cu_seqlens == nullptr) queue.first_checkpoint = static_cast<int64_t>(n) * p.marks_of(p.sequences.tokens);
        else if (!are_lone<Smem> && p.schedule.marks != nullptr) queue.first_checkpoint = p.schedule_here().marks[n];
    }
    // Without a schedule the sequences are few, and this worker has one job.
    __device__ __forceinline__ int64_t first_of_lone_job() const {
        int marks = 0;
        if (p.mark_every > 0 && p.sequences.cu_seqlens != nullptr && p.schedule.cut == nullptr)
            for (int n = lane_here(); n < worker / p.heads; n += 32) marks += p.marks_of(p.sequences.span(n).length);
        return warp_sum(marks);
    }

    // The chain will want a caller's state some chunks from now: a contiguous block, where V is outermost.
    __device__ __forceinline__ void prefetch_rows(const StateAddress &from) const {
        if (from.form == Form::None || from.form == Form::Kept || from.form == Form::Parked || from.form == Form::HandOver) return;
        const bool is_k_first = !are_plain<Smem> && p.initial_state.is_k_first;
        const void *const start = static_cast<const char *>(from.at) + (is_k_first ? 0 : first_half * half_bytes(from.form));
        const uint32_t elements = (is_k_first ? kHalves : halves) * kHalf * kWidth;
        if (reinterpret_cast<uintptr_t>(start) % 16 == 0) prefetch_l2(start, static_cast<uint32_t>(p.initial_state.bytes()) * elements);
    }
};

// The find role: all segments of the worker, for the roles of its CTA. Once they have done with one, and it is a job that the next worker goes on
// with, that one is told: a release, which waits for the state's stores, would hold up the chain.
template <class Smem, bool finds_states = true>
struct FindRole {
    SegmentFinder<Smem, finds_states> finder;

    __device__ __forceinline__ void run() const {
        const SharedView<Smem> &s = finder.s;
        const auto &queue = s->segment_queue;
        finder.begin();
        uint32_t done = 0;  // segments
        for (uint32_t i = 0;; i++) {
            const RingSlot slot = ring_slot<kPlaces>(i);
            if (i >= kPlaces) await_end(done++);
            finder.find(i);
            if (i == 0) {
                if (lane_here() == 0) s->segment_queue.has_chunks = queue.segment[0].has_chunks;
                warp_arrive(s.at(queue.begun), lane_here());
            }
            const bool is_valid = uniform(queue.segment[slot.index].is_valid);
            warp_arrive(s.at(queue.ready[slot.index]), lane_here());
            if (is_valid) continue;
            while (!has_the_only<Smem> && done < i) await_end(done++);
            return;
        }
    }

    static constexpr int kPlaces = decltype(Smem::segment_queue)::kPlaces;

    // Waits until all have done with a segment: its place is free, its state is where it goes.
    __device__ __forceinline__ void await_end(uint32_t i) const {
        const SharedView<Smem> &s = finder.s;
        const RingSlot slot = ring_slot<kPlaces>(i);
        wait_together(s.at(s->segment_queue.free[slot.index]), slot.phase);
        if (!finds_states || are_lone<Smem> || lane_here() != 0 || s->segment_queue.segment[slot.index].to_form != Form::HandOver) return;
        tell_next_worker(finder.p, finder.worker, finder.first_half, finder.halves);
    }
};

// Of a load warp that finds segments for itself and for the chain, in one place of its code, while it has nothing else to do. That is not as long as a
// look-up takes, so it does half of one at a time: which piece comes next; where its states are.
template <class Smem>
struct LeadingSegments {
    SegmentFinder<Smem, true> finder;
    uint32_t found = 0;
    bool has_piece = false;  // the next one is half found
    static constexpr uint32_t kPlaces = decltype(Smem::segment_queue)::kPlaces;

    __device__ __forceinline__ const QueuedSegment &at(uint32_t i) const { return finder.s->segment_queue.segment[i % kPlaces]; }
    // Is there a place for the next one already?
    __device__ __forceinline__ bool has_room() const {
        return found < kPlaces || uniform(has_flipped(free_barrier(), ring_slot<kPlaces>(found).phase ^ 1));
    }
    // before_waiting: what the chain may want before it lets a place go.
    template <class BeforeWaiting>
    __device__ __forceinline__ void find_half(const BeforeWaiting &before_waiting) {
        if (has_piece) return find_states();
        if (found == 0) finder.begin();
        if (!has_room()) before_waiting(), wait_together(free_barrier(), ring_slot<kPlaces>(found).phase ^ 1);
        finder.find_next_piece(found);
        has_piece = true;
    }

private:
    __device__ __forceinline__ void find_states() {
        finder.find_states_of(found);
        if (found == 0 && lane_here() == 0) finder.s->segment_queue.hands_over = at(0).is_valid && at(0).to_form == Form::HandOver;
        warp_arrive(finder.s.at(finder.s->segment_queue.ready[found % kPlaces]), lane_here());
        found++, has_piece = false;
    }
    __device__ __forceinline__ uint32_t free_barrier() const { return finder.s.at(finder.s->segment_queue.free[found % kPlaces]); }
};

// Of a warp that finds for itself: the queue holds what it reads now and the segment behind that.
template <class Smem>
struct OwnSegments {
    SegmentFinder<Smem, false> finder;
    uint32_t found = 0;
    static constexpr bool kArePlain = are_plain<Smem>;

    template <class BeforeWaiting>
    __device__ __forceinline__ const QueuedSegment &await(uint32_t i, const BeforeWaiting &) {
        if (found == 0) finder.begin();
        while (found <= i) finder.find(found++);
        return at(i);
    }
    __device__ __forceinline__ const QueuedSegment &at(uint32_t i) const {
        constexpr int kPlaces = decltype(Smem::segment_queue)::kPlaces;
        return finder.s->segment_queue.segment[i % kPlaces];
    }
    __device__ __forceinline__ void release(uint32_t) const {}
};

}  // namespace fkdai::prefill

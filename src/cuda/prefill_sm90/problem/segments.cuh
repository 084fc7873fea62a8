// The pieces of a worker, cut where checkpoints of the state are wanted.
//
// A checkpoint after `o` tokens is the state that a run of these o tokens alone would end with, bit for bit. At a border of chunks, or at
// the end of the sequence, that is the state as it passes: the piece is left there and entered again. Inside a chunk it is the end of a
// chunk of fewer tokens: a segment of that chunk alone goes as far as o and writes no out, on a copy of the state (fork.cuh), or while the
// state is parked in memory; and the piece goes on from the border before. So a piece is a row of segments, which all roles see alike:
//
//     [begin, border) -> checkpoint        [border, border) -> parked, [border, o) -> checkpoint        parked -> [border, end)
//
// Checkpoints every so many whole chunks, one behind the other, are one segment: only the chain, which leaves them, counts its parts.
#pragma once

#include "device/scalar_math.cuh"
#include "device/sm90/barrier.cuh"
#include "prefill_sm90/problem/params.cuh"

namespace fkdai::prefill {

// What a kernel with this shared memory is compiled for, so that it has no code for more. Lone: each worker has one job. Plain: no checkpoints, and the
// caller's states are fp32 rows of V at 16 bytes, or none.
template <class Smem>
inline constexpr bool are_lone = Smem::kIsLone;
template <class Smem>
inline constexpr bool are_plain = Smem::kIsPlain;
// Both: a worker has one segment.
template <class Smem>
inline constexpr bool has_the_only = are_lone<Smem> && are_plain<Smem>;
// Then a chain's warps arrive at the cluster's last meeting before their state goes out, which concerns nobody else there.
template <class Smem>
inline constexpr bool leaves_early = has_the_only<Smem> && kWarpsMeetApart;

// Where the state of a segment comes from, and where it goes.
enum class Place : uint8_t {
    Caller,      // initial state; final state
    Worker,      // the hand-over slot of this worker; of the next one
    Kept,        // it stays in registers
    Parked,      // in this worker's memory, or where it is while a copy of it goes on
    Checkpoint
};

// Chunks [begin, end) of a piece, between two changes of the state.
struct Segment {
    int begin, end;
    int length;        // tokens of the sequence that it sees
    Place from, to;
    bool is_silent;    // it writes no out
};

// What comes behind a segment.
enum class Next : uint8_t {
    Piece,     // the next piece
    Forked,    // from the parked border into the chunk, as far as the checkpoint
    Onward     // the same piece, from the border on
};

// A worker without schedule has one job, and without checkpoints that is one segment. It is found without the iterators, whose code takes thousands
// of cycles to arrive where nobody has run it before.
template <class Smem>
__device__ __forceinline__ bool has_one_segment(const Params &p) {
    return (are_lone<Smem> || p.has_lone_jobs()) && (are_plain<Smem> || !p.checkpoints.exist());
}
// No checkpoint lies inside a chunk: a worker's chunks are those of its pieces, in order.
__device__ __forceinline__ bool has_whole_chunks(const Params &p) {
    return !p.checkpoints.exist() || (p.mark_every > 0 && p.mark_every % kChunk == 0);
}

// The segments of one worker, where there are checkpoints; else each piece is one. For one lane or for lanes that agree.
template <bool is_lone>
struct SegmentIterator {
    PieceIterator<kChunk, is_lone> pieces;
    Piece piece;       // that the segment belongs to
    Segment segment;
    int key;           // where the last checkpoint lies (key_of)
    int index;         // and which of its sequence it is; with mark_every, the one after it
    Next step;
    Place from;        // of the segment onward

    __device__ SegmentIterator(const Timeline &timeline, int worker)
        : pieces(timeline, worker), piece(), segment(), key(0), index(0), step(Next::Piece), from(Place::Caller) {}

    // The next segment of the piece, which has been opened.
    __device__ __forceinline__ void next(const Params &p) {
        const int border = key / kChunk;
        if (step == Next::Forked) return fork();
        segment = {border, piece.end, piece.sequence.length, from, !is_lone && piece.hands_over ? Place::Worker : Place::Caller, false};
        step = Next::Piece;
        if (!find_checkpoint(p)) return;
        segment.end = key / kChunk;
        step = key % kChunk == 0 ? Next::Onward : Next::Forked;
        segment.to = step == Next::Onward ? Place::Checkpoint : Place::Parked;
        from = Place::Kept;
    }

    // From the border behind a segment that is parked, into the chunk.
    __device__ __forceinline__ void fork() {
        const int border = key / kChunk;
        segment = {border, border + 1, key, Place::Kept, Place::Checkpoint, true};
        from = Place::Parked, step = Next::Onward;
    }

    // The parts of a segment, with a checkpoint behind each.
    __device__ int parts(const Timeline &timeline) const {
        if (timeline.mark_every == 0 || timeline.mark_every % kChunk != 0 || segment.to != Place::Checkpoint) return 1;
        const int marks = (segment.end - segment.begin) * kChunk / timeline.mark_every;
        return marks > 1 ? marks : 1;
    }

    // Which of its sequence the checkpoint is that a segment goes to.
    __device__ int checkpoint(const Timeline &timeline) const { return timeline.mark_every > 0 ? index - 1 : index; }

    // Checkpoints at a border belong to the piece that ends there.
    __device__ void open(const Timeline &timeline) {
        key = piece.begin * kChunk;
        index = timeline.mark_every > 0 ? key / timeline.mark_every : INT32_MAX;
        from = !is_lone && piece.takes_over ? Place::Worker : Place::Caller;
    }

    // Checkpoints are passed in this order. The end of a sequence counts as a border.
    __device__ int key_of(int64_t tokens) const {
        return tokens == piece.sequence.length ? chunk_count<kChunk>(piece.sequence.length) * kChunk : static_cast<int>(tokens);
    }
    __device__ bool is_inside(int64_t tokens) const { return tokens > 0 && tokens <= piece.sequence.length; }

    // The first one behind (key, index) in this piece. Few are expected: each looks at all of its sequence.
    __device__ __forceinline__ bool find_checkpoint(const Params &p) {
        int first = INT32_MAX, which = 0;
        if (p.mark_every > 0) {
            which = index + 1;
            const int64_t tokens = int64_t{which} * p.mark_every;
            if (is_inside(tokens)) first = key_of(tokens);
            if (p.mark_every % kChunk == 0 && key == index * p.mark_every && first <= piece.end * kChunk) {  // all that the piece has
                const int end = piece.end * kChunk;
                which = (end < piece.sequence.length ? end : piece.sequence.length) / p.mark_every, first = which * p.mark_every;
            }
        } else {
            bool is_broken = false;
#pragma unroll 1
            for (int i = 0; i < p.per_sequence; i++) {
                const int64_t tokens = p.offset(piece.sequence_index, i);
                is_broken |= tokens > piece.sequence.length;
                const int at = is_inside(tokens) ? key_of(tokens) : 0;
                if ((at > key || (at == key && i > index)) && at < first) first = at, which = i;
            }
            if (is_broken) report(p.status, kBrokenCheckpoint);
        }
        if (first > piece.end * kChunk) return false;
        key = first, index = which;
        return true;
    }
};

// How one half of a state lies in memory.
enum class Form : uint8_t {
    None,                   // nowhere; read, it is zero
    Kept,                   // read: what is in registers
    Rows,                   // fp32, rows of V at 16 bytes
    Parked,                 // fp32 as the registers of a warpgroup have it, 16 bytes of a thread at a time
    HandOver,               // the same in a slot, whose flag the worker before raises for this one
    Pairs32, Pairs16,       // fp32 or bf16, pairs of channels
    Columns32, Columns16    // [K,V]
};

// A segment as all roles of its CTA see it. One that is parked, and the fork behind it, are one here, of two parts.
struct QueuedSegment {
    void *from, *to;        // of the first half of V (half_bytes); to: the last part's
    int64_t checkpoint;     // the number of the first part's
    int first, chunks;      // its first chunk, inside the sequence; chunks of a part
    int rows;               // tokens from its begin to the end of what it sees
    int parts, head;
    int start, batch;       // of the sequence: its first token
    Form from_form, to_form;
    uint8_t rows_forked;    // > 0: of two parts, the second goes from the parked state so far into the next chunk
    bool is_valid;          // false: behind the last
    bool has_chunks;        // it, or one behind it
};

// From the first half of a state to the second.
__device__ __forceinline__ uint32_t half_bytes(Form form) {
    constexpr uint32_t kRows = kHalf * kWidth, kColumns = kHalf;
    if (form == Form::Pairs16) return kRows * sizeof(uint16_t);
    if (form == Form::Columns32) return kColumns * sizeof(float);
    if (form == Form::Columns16) return kColumns * sizeof(uint16_t);
    return kRows * sizeof(float);
}

// The segments of a CTA's worker, found ahead of those who work on them (roles/find_segments.cuh). In shared memory.
template <int places, bool is_lone = false>
struct SegmentQueue {
    static constexpr int kPlaces = places;
    SegmentIterator<is_lone> iterator;
    int64_t first_checkpoint;        // of the sequence that the iterator is in
    QueuedSegment segment[kPlaces];  // segment i in i % kPlaces
    uint64_t ready[kPlaces];         // barriers: it has been found
    uint64_t free[kPlaces];          // all who read it have done so
    uint64_t begun;                  // has_chunks is known
    bool has_chunks;                 // the worker
    bool hands_over;                 // its first segment, to the next worker; of LeadingSegments
};

}  // namespace fkdai::prefill

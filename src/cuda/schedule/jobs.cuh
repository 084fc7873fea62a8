// How jobs are laid out over workers. A job is one (sequence, head); a worker is a cluster or a block: one timeline, cut into equal spans.
//
// Every job has as many units as chunks, so many for itself (job_cost), and some for the checkpoints of its state (Stops); jobs stand end to end, sequences outermost, heads
// inside.
// Worker p works on span p of the timeline, [p*span, (p+1)*span), with span = max(longest job, total / workers): no
// schedule ends earlier (McNaughton's wrap-around rule), whatever the order of the sequences. A job that a cut
// crosses is done in two pieces: worker p does its first chunks *first* and leaves the fp32 state in hand-over
// slot p+1; worker p+1 does the rest *last*. As no job is longer than a span, the state is ready when it is
// wanted; and a worker only ever waits for one of lower index, which the hardware started before it.
//
// Cuts fall between chunks and the state crosses them in fp32, so they change no bit of any result.
#pragma once

#include <cstdint>

#include "device/call_tensors.cuh"
#include "device/scalar_math.cuh"
#include "device/shared_access.cuh"
#include "schedule/schedule_tuning.h"

namespace fkdai {

inline constexpr int kBorderCost = FKDAI_BORDER_COST, kForkCost = FKDAI_FORK_COST;
inline constexpr int kMostStopCost = FKDAI_MOST_UNITS - 1;   // a chunk, on average: so that a prefix sum of units fits an int
inline constexpr int kSmallestPiece = FKDAI_SMALLEST_PIECE;  // chunks; a cut that would leave less moves to the end of the job

struct SequenceSpan {
    int start;   // first token, on the packed axis (dense: 0)
    int batch;   // dense: the sequence; packed: 0
    int length;  // tokens
};

// cu_seqlens as the caller gave it, read with every value clamped so that no bad array leads out of bounds.
struct Sequences {
    const void *cu_seqlens;  // [N+1], or null: dense
    bool is_64bit;
    int count;               // N
    int tokens;              // T

    __device__ int64_t entry(int n) const {
        return is_64bit ? static_cast<const int64_t *>(cu_seqlens)[n] : static_cast<const int32_t *>(cu_seqlens)[n];
    }
    __device__ int inside(int64_t at) const { return static_cast<int>(at < 0 ? 0 : at > tokens ? tokens : at); }
    // Does entry n of [0, N] break 0 = c[0] <= ... <= c[N] <= T?
    __device__ bool is_broken_at(int n) const {
        bool is_broken;
        if (n < count) (void)span(n, is_broken);
        else is_broken = cu_seqlens != nullptr && entry(n) > tokens;
        return is_broken;
    }
    __device__ SequenceSpan span(int n) const {
        bool is_broken;
        return span(n, is_broken);
    }
    // Both entries are asked for together.
    __device__ SequenceSpan span(int n, bool &is_broken) const {
        is_broken = false;
        if (cu_seqlens == nullptr) return {0, n, tokens};
        const int64_t first = entry(n), last = entry(n + 1);
        is_broken = (n == 0 && first != 0) || last < first;
        const int begin = inside(first), end = inside(last);
        return {begin, 0, end > begin ? end - begin : 0};
    }
};

// The kinds of worker that can do the jobs: so many of a kind, 0 if it is not to be considered; what a chunk costs one of them; what a job costs it
// beside its chunks, in chunks; what they cost before they start.
inline constexpr int kWorkerKinds = 3;
struct WorkerKind {
    int count, chunk_cost, job_cost, start_cost;
};

struct Cut {
    int64_t span;  // units per worker
    int kind;      // of the workers
};

// Where the jobs lie on the timeline. Broken cu_seqlens: span and prefix[N] are 0, which they never are otherwise.
struct Schedule {
    Cut *cut;         // [1]; null: worker c does job c alone, and nothing else is there
    int32_t *prefix;  // [N+1] units of one head before sequence n
    int2 *sequence;   // [N] (start, length), clamped
    int32_t *marks;   // [N] marks of all sequences before n (Timeline::mark_every); null: nobody asks
    bool is_own;      // every block has one for itself, and they stand one behind the other; else there is one for all
    uint32_t near = 0;  // is_own: the block's is a NearSchedule, so far into its dynamic shared memory; 0: it is not
};

// The schedule of few sequences, without marks: a look-up takes some 30 cycles, and there are some ten, one behind the other, before the first tile can
// be asked for.
inline constexpr int kNearSequences = 64;
struct NearSchedule {
    Cut cut;
    int32_t prefix[kNearSequences + 1];
    int2 sequence[kNearSequences];
};

// A schedule of jobs that are all equal is three numbers, and nobody has to make it.
struct EqualJobs {
    int weight;  // units of each; 0: they are not equal, or there is no schedule
    int span;    // units a worker
    int kind;    // of the workers
};

// Part of one job: chunks [begin, end) of `sequence`, `head`.
struct Piece {
    int sequence_index, head;
    SequenceSpan sequence;
    int begin, end;
    bool takes_over;   // the state comes from this worker's hand-over slot, else from the caller
    bool hands_over;   // the state goes to the next worker's slot, else to the caller
};

template <int kChunk>
__host__ __device__ constexpr int chunk_count(int length) {
    return static_cast<int>((static_cast<int64_t>(length) + kChunk - 1) / kChunk);
}

// What an iterator reads: it stays in constant memory. Copies of the state are wanted inside the sequences, every so many tokens or at the caller's
// offsets.
struct Timeline {
    Sequences sequences;
    Schedule schedule;
    EqualJobs equal;
    WorkerKind kinds[kWorkerKinds];
    int job_cost;      // of the kinds among which a schedule decides
    int heads;
    int mark_every;    // tokens from one mark of a sequence to the next, the first after so many; 0: there are none
    Indices offsets;   // [N][per_sequence], at most 0: none; where there are no marks
    int per_sequence;

    // A job of its own for each worker?
    __host__ __device__ bool has_lone_jobs() const { return schedule.cut == nullptr && equal.weight == 0; }
    // Without a schedule: the job of a worker, (sequence, head).
    __device__ int2 lone_job(int worker) const {
        const int n = sequences.count == 1 ? 0 : worker / heads;
        return {n, worker - n * heads};
    }
    __host__ __device__ int marks_of(int length) const { return length / mark_every; }
    __device__ int64_t offset(int n, int i) const { return offsets.at(static_cast<int64_t>(n) * per_sequence + i); }

    // What the checkpoints of sequence n cost a job, in units.
    template <int kChunk>
    __device__ int stop_units(int n, int length) const {
        if (mark_every > 0) return mark_units<kChunk>(length);
        int64_t borders = 0, forks = 0;
#pragma unroll 4
        for (int i = 0; i < per_sequence; i++) {
            const int64_t tokens = offset(n, i);
            const bool is_inside = tokens > 0 && tokens <= length, is_border = tokens % kChunk == 0 || tokens == length;
            borders += is_inside && is_border, forks += is_inside && !is_border;
        }
        return units_of<kChunk>(borders, forks, length);
    }
    // The same, of marks.
    template <int kChunk>
    __host__ __device__ int mark_units(int length) const {
        if (mark_every == 0) return 0;
        const int of = mark_every | kChunk, marks = marks_of(length), step = kChunk / (of & -of);  // every `step`-th lies at a border
        const int borders = marks / step, at_end = length % kChunk != 0 && marks > 0 && length % mark_every == 0;
        return units_of<kChunk>(borders + at_end, marks - borders - at_end, length);
    }
    template <int kChunk>
    __host__ __device__ static int units_of(int64_t borders, int64_t forks, int length) {
        const int64_t units = borders * kBorderCost + forks * kForkCost, most = int64_t{kMostStopCost} * chunk_count<kChunk>(length);
        return static_cast<int>(units < most ? units : most);
    }
    // Units of a job of sequence n, but for job_cost.
    template <int kChunk>
    __device__ int units(int n, int length) const { return chunk_count<kChunk>(length) + stop_units<kChunk>(n, length); }
    __device__ Schedule schedule_here() const {
        Schedule here = schedule;
        if (schedule.near > 0) {
            auto &near = *reinterpret_cast<NearSchedule *>(&dynamic_shared<uint8_t>() + schedule.near);
            here.cut = &near.cut, here.prefix = near.prefix, here.sequence = near.sequence;
        } else if (schedule.is_own) {
            const int block = blockIdx.x;
            const int64_t before = static_cast<int64_t>(block) * sequences.count;
            here.cut += block, here.prefix += before + block, here.sequence += before;
            if (here.marks != nullptr) here.marks += before;
        }
        here.cut = generic(here.cut), here.prefix = generic(here.prefix), here.sequence = generic(here.sequence);
        return here;
    }
};

// The part of the timeline that is a worker's.
struct Span {
    int64_t low, high;
    __device__ Span(int64_t its_low, int64_t its_high) : low(its_low), high(its_high) {}
    __device__ Span(const Timeline &timeline, const Schedule &schedule, int worker) {
        const EqualJobs &equal = timeline.equal;
        const int64_t span = equal.weight > 0 ? equal.span : schedule.cut->span;
        const int64_t total = static_cast<int64_t>(equal.weight > 0 ? equal.weight * timeline.sequences.count : schedule.prefix[timeline.sequences.count]) * timeline.heads;
        low = span * worker, high = low + span < total ? low + span : total;
    }
};

// Chunks of a job of `chunks` and `weight` units that lie before a cut so many units inside: as if its checkpoints lay evenly.
__device__ __noinline__ inline int chunks_before(int cut, int chunks, int weight, int job_cost) {
    int before = cut - job_cost;
    if (weight > chunks + job_cost && before > 0)  // whoever asks gets the same answer
        before = static_cast<int>(static_cast<float>(before) * (static_cast<float>(chunks) * reciprocal(static_cast<float>(weight - job_cost))));
    if (before < kSmallestPiece) return 0;
    return before > chunks - kSmallestPiece ? chunks : before;
}

// The first piece of a worker, of equal jobs: what PieceIterator finds, or nothing, in fewer instructions.
template <int kChunk>
__device__ __forceinline__ bool first_equal_piece(const Timeline &timeline, int worker, Piece &piece) {
    const EqualJobs &equal = timeline.equal;
    const auto weight = static_cast<uint32_t>(equal.weight), span = static_cast<uint32_t>(equal.span), low = span * worker;
    const uint32_t total = weight * timeline.sequences.count * timeline.heads, high = min(low + span, total);
    if (low >= total) return false;
    const uint32_t job = (high - 1) / weight, start = job * weight;
    const int chunks = chunk_count<kChunk>(timeline.sequences.tokens);
    piece.sequence_index = job / timeline.heads, piece.head = job % timeline.heads, piece.sequence = {0, piece.sequence_index, timeline.sequences.tokens};
    piece.begin = start >= low ? 0 : chunks_before(low - start, chunks, equal.weight, timeline.job_cost);
    piece.end = start + weight <= high ? chunks : chunks_before(high - start, chunks, equal.weight, timeline.job_cost);
    piece.takes_over = piece.begin > 0, piece.hands_over = piece.end < chunks;
    return piece.begin < piece.end;
}

// The pieces of one worker, last job first. All threads that iterate see the same pieces. is_lone: every worker has one job, which else is asked.
template <int kChunk, bool is_lone = false>
struct PieceIterator {
    Span span;  // of the worker
    int n, h;   // the job to look at next; n < 0: none is left

    __device__ PieceIterator(const Timeline &timeline, int worker) : span{0, 0}, n(0), h(0) {
        if (is_lone || timeline.has_lone_jobs()) {
            const int2 job = timeline.lone_job(worker);
            n = job.x, h = job.y;
            return;
        }
        span = Span(timeline, timeline.schedule_here(), worker);
        if (span.low < span.high) locate(timeline, span.high - 1);
        else n = -1;
    }

    // The job that holds position x, by binary search unless jobs are equal.
    __device__ void locate(const Timeline &timeline, int64_t x) {
        const Schedule schedule = timeline.schedule_here();
        const int heads = timeline.heads;
        if (timeline.equal.weight > 0) {
            const auto job = static_cast<uint32_t>(x) / static_cast<uint32_t>(timeline.equal.weight);
            n = static_cast<int>(job / heads), h = static_cast<int>(job % heads);
            return;
        }
        int first = 0, last = timeline.sequences.count - 1;
        while (first < last) {
            const int middle = (first + last + 1) / 2;
            if (static_cast<int64_t>(schedule.prefix[middle]) * heads <= x) first = middle;
            else last = middle - 1;
        }
        n = first;
        h = static_cast<int>((x - static_cast<int64_t>(schedule.prefix[n]) * heads) /
                             (schedule.prefix[n + 1] - schedule.prefix[n]));
    }

    __device__ bool next(const Timeline &timeline, Piece &piece) {
        if (is_lone || timeline.has_lone_jobs()) return next_direct(timeline.sequences, piece);
        const Schedule schedule = timeline.schedule_here();
        const int heads = timeline.heads;
        if (n < 0) return false;
        const int64_t low = span.low, high = span.high;
        while (n >= 0) {
            const bool are_equal = timeline.equal.weight > 0;
            const int before = are_equal ? n * timeline.equal.weight : schedule.prefix[n];
            const int weight = are_equal ? timeline.equal.weight : schedule.prefix[n + 1] - before;
            const int64_t start = static_cast<int64_t>(before) * heads + int64_t{h} * weight, end = start + weight;
            const int2 at = are_equal ? make_int2(0, timeline.sequences.tokens) : schedule.sequence[n];
            const int chunks = chunk_count<kChunk>(at.y);
            piece.sequence_index = n, piece.head = h;
            piece.sequence = timeline.sequences.cu_seqlens == nullptr ? SequenceSpan{0, n, at.y} : SequenceSpan{at.x, 0, at.y};
            piece.begin = start >= low ? 0 : chunks_before(static_cast<int>(low - start), chunks, weight, timeline.job_cost);
            piece.end = end <= high ? chunks : chunks_before(static_cast<int>(high - start), chunks, weight, timeline.job_cost);
            piece.takes_over = piece.begin > 0;
            piece.hands_over = piece.end < chunks;
            const bool is_mine = chunks > 0 ? piece.begin < piece.end : end <= high;
            if (start <= low) n = -1;
            else if (--h < 0) h = heads - 1, n--;
            if (is_mine) return true;
        }
        return false;
    }

    __device__ bool next_direct(const Sequences &sequences, Piece &piece) {
        if (n < 0) return false;
        piece.sequence_index = n, piece.head = h;
        piece.sequence = sequences.span(n);
        n = -1;
        piece.begin = 0, piece.end = chunk_count<kChunk>(piece.sequence.length);
        piece.takes_over = piece.hands_over = false;
        return true;
    }
};

}  // namespace fkdai

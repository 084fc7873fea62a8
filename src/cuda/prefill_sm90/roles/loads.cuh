// What is asked of memory ahead of use: the raw tiles of a chunk by the copy engine, and what its gates need.
#pragma once

#include "device/requests.cuh"
#include "device/sm90/bulk_copy.cuh"
#include "prefill_sm90/problem/chunks.cuh"

namespace fkdai::prefill {

// The head of q and k that a value head reads: head / (HV / H), by one product in place of a division.
__device__ __forceinline__ int key_head(const Params &p, int head) {
    return static_cast<int>(__umulhi(static_cast<uint32_t>(head) + 1, p.key_factor));
}

// k, q, g of one chunk, [32,128] each, into a stage. One thread; `ready` counts the bytes.
template <GateKind kind, class Smem>
__device__ __forceinline__ void load_raw_tiles(const Params &p, const SharedView<Smem> &s, uint32_t stage, const ChunkInfo &at, uint32_t ready) {
    const Stage &to = s->stages[stage];
    const int key = key_head(p, at.head);
    constexpr bool copies_g = kind != GateKind::PrecomputedF32;
    arrive_expecting(ready, copies_g ? kRawBytes : kRawBytes / 3 * 2);
#pragma unroll 1
    for (int half = 0; half < kHalves; half++) {
        load_tile(s.at(to.kq[half]), p.k, half * kHalf, key, at.token, at.batch, ready);
        load_tile(s.at(to.kq[half]) + kQueryRows, p.q, half * kHalf, key, at.token, at.batch, ready);
        if (copies_g) load_tile(s.at(to.ki[half]), p.g, half * kHalf, at.head, at.token, at.batch, ready);
    }
}

// The same into L2.
template <GateKind kind>
__device__ __forceinline__ void prefetch_raw_tiles(const Params &p, const ChunkInfo &at) {
    const int key = key_head(p, at.head);
#pragma unroll 1
    for (int half = 0; half < kHalves; half++) {
        prefetch_tile(p.k, half * kHalf, key, at.token, at.batch), prefetch_tile(p.q, half * kHalf, key, at.token, at.batch);
        if (kind != GateKind::PrecomputedF32) prefetch_tile(p.g, half * kHalf, at.head, at.token, at.batch);
    }
}

// The operand warps will want what the gates of a head need. A whole warp.
__device__ __forceinline__ void prefetch_gate(const Params &p, int head, int lane) {
    constexpr int kChannels = kWidth / 32;  // of a lane
    if (p.dt_bias.element != Element::Absent) prefetch_l1(p.dt_bias.address(static_cast<int64_t>(head) * kWidth + lane * kChannels));
    if (p.A_log.element != Element::Absent && lane == 0) prefetch_l1(p.A_log.address(head));
}

// The first chunks of a worker, where they are known without segments: of a lone job, of equal ones, or of a schedule. Their tiles travel before the
// roles begin.
// has_marks: with checkpoints behind whole chunks, too. Not in duo and solo: 40 instructions more in their kernel cost calls of many heads 0.5 %.
// asks_schedule: where there is one.
struct FirstPiece {
    int head, begin, end, early;  // early: how many of its chunks that are; not the last of a worker with more jobs
    SequenceSpan sequence;

    __device__ __forceinline__ int chunks() const { return end - begin; }
    // A chunk of it. ahead: what ChunkInfo::rows_ahead looks at, 0: nothing.
    template <int ahead>
    __device__ __forceinline__ ChunkInfo chunk(int number) const {
        const int left = sequence.length - (begin + number) * kChunk, left_ahead = number + ahead < chunks() ? left - ahead * kChunk : 0;
        const uint8_t rows = rows_of_chunk(left), rows_ahead = ahead > 0 && left_ahead > 0 ? rows_of_chunk(left_ahead) : uint8_t{0};
        return {uniform(sequence.start + (begin + number) * kChunk), head, uniform(sequence.batch), rows, left <= kChunk, rows, rows_ahead};
    }
};
template <class Memory, bool has_marks, bool asks_schedule = false>
__device__ __forceinline__ FirstPiece first_piece(const Params &p, int worker, int most) {
    const bool is_known = are_plain<Memory> || (has_marks ? has_whole_chunks(p) : !p.checkpoints.exist());
    if ((are_lone<Memory> || p.has_lone_jobs()) && is_known && worker < p.heads * p.sequences.count) {
        const int2 job = p.lone_job(worker);
        const SequenceSpan of = p.sequences.span(job.x);
        const int chunks = chunk_count<kChunk>(of.length);
        return {job.y, 0, chunks, are_lone<Memory> ? most : min(most, chunks), of};  // in kernels of lone jobs nobody reads what lies beyond
    }
    if (are_lone<Memory>) return {};
    Piece piece{};
    if (!is_known) return {};
    if (asks_schedule && p.schedule.cut != nullptr) {
        PieceIterator<kChunk> pieces(p, worker);
        if (!pieces.next(p, piece) || piece.begin == piece.end) return {};
    } else if (p.equal.weight == 0 || !first_equal_piece<kChunk>(p, worker, piece)) {
        return {};
    }
    return {piece.head, piece.begin, piece.end, min(most, piece.end - piece.begin - 1), piece.sequence};
}

// Are a worker's first chunks known before the block has met?
__device__ __forceinline__ bool may_ask_first(const Params &p) { return p.turn == Turn::Alone && p.schedule.cut == nullptr; }

// The chunks first, first + step ... before `most`. Returns how many are early, of all. load(number, info): by a whole warp. ahead: of
// FirstPiece::chunk.
template <class Memory, int ahead, bool has_marks, class Load>
__device__ __forceinline__ int load_early_chunks(const Params &p, int worker, int first, int step, int most, const Load &load) {
    const FirstPiece of = first_piece<Memory, has_marks, Memory::kAsksSchedule>(p, worker, most);
    if (of.early > 0 && !are_lone<Memory>) prefetch_gate(p, of.head, lane_here());  // behind tiles of all blocks it would wait
#pragma unroll 1
    for (int number = first; number < min(of.early, of.chunks()); number += step) load(static_cast<uint32_t>(number), of.template chunk<ahead>(number));
    return of.early;
}

// By the load warp of a block whose first tiles are asked for before all else (kAsksFirst): their barriers, which nobody else makes then.
template <class Smem>
__device__ __forceinline__ void init_raw_barriers(const SharedView<Smem> &s) {
    constexpr int kCount = sizeof(s->barriers.raw_ready) / sizeof(uint64_t);
    if (lane_here() == 0) {
        for (int i = 0; i < kCount; i++) barrier_init(s.at(s->barriers.raw_ready[i]), 1);
        fence_barrier_init();
    }
    __syncwarp();
}

// Do the operand warps ask for the gates of a chunk while they make the one before?
template <class Smem, GateKind kind>
inline constexpr bool keeps_gates = kind == GateKind::PrecomputedF32 && Smem::kGatesAhead > 0;

// fp32 gates are read by the operand warps themselves, some chunks from now: a row of 512 bytes each, into L2. A whole warp.
template <GateKind kind>
__device__ __forceinline__ void prefetch_gates(const Params &p, const ChunkInfo &at, int lane) {
    if (kind == GateKind::PrecomputedF32 && lane < at.rows) prefetch_l2(p.g_f32 + p.g_strides.offset(at.batch, at.token + lane, at.head), kWidth * sizeof(float));
}

// beta of the lane's token, as it lies in memory: it travels while something else is waited for, so nothing is made of it here, and no branch stands
// around it (requests.cuh). Rows past the sequence are not read.
__device__ __forceinline__ uint32_t load_beta(const Params &p, const ChunkInfo &at, int lane, bool is_wanted = true) {
    const bool is_wide = p.beta.element == Element::F32;
    const int64_t i = p.beta.strides.offset_of(at.batch, at.token + lane, at.head);
    return request_4_or_2(static_cast<const char *>(p.beta.data) + i * (is_wide ? 4 : 2), is_wanted && lane < at.rows, is_wide);
}

// b of the lane's token, made of its beta; rows past the sequence have 0.
__device__ __forceinline__ float step_size(const Params &p, const ChunkInfo &at, int lane, uint32_t bits) {
    const float beta = p.beta.element == Element::F32 ? __uint_as_float(bits) : low_bf16(bits);
    const float b = p.beta.is_activated ? beta : sigmoid(beta);
    return lane < at.rows ? p.beta.multiplier * b : 0.f;
}

}  // namespace fkdai::prefill

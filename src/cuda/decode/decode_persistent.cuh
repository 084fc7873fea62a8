// CHUNK by blocks that stay: one on a multiprocessor, with half of its warps for the tokens of a state and half for its rows, while the states of the
// next two jobs are on their way to shared memory. So copies, preparation and products of three jobs overlap, and no block waits for its first load but
// once a launch. Its bits are those of CHUNK.
//
//     preparers    wait until a stage is free; q^, k^, a, b; relate_tokens; the stage is full
//     rows         a warp has 16 rows of every state, copied by itself: state to registers; next copies; products with a full stage; out, state
#pragma once

#include "decode/decode_chunk.cuh"
#include "device/async_copy.cuh"
#include "device/dependent_launch.cuh"
#include "device/phase_barrier.cuh"

namespace fkdai::decode {

inline constexpr int kStages = 2;    // of tokens, and of states

template <class Config>
struct PersistentShared {
    static constexpr int kRowBytes = kWidth * Four<Config::kStored>::kBytes / 4, kPitch = kRowBytes + 32;    // rows of a quarter warp meet no bank twice
    alignas(16) uint8_t states[kStages][kWidth][kPitch];
    Tokens<Config> tokens[kStages];
    alignas(8) uint64_t full[kStages], empty[kStages];
};
template <class Config>
inline constexpr int kPersistentBytes = Config::kIsPersistent ? static_cast<int>(sizeof(PersistentShared<Config>)) + 16 : 0;

// The stage of the block's job `number`, and the parity of its phase.
struct Stage {
    uint32_t index, parity;
};
__device__ __forceinline__ Stage stage_of(uint32_t number) { return {number % kStages, number / kStages & 1}; }
__device__ __forceinline__ PhaseBarrier barrier_at(uint64_t &x) { return {shared_address(&x)}; }

// ---------------------------------------------------------------- tokens

template <class Config>
struct Preparer {
    const fkdai_decode_call &p;
    PersistentShared<Config> &shared;
    Job job{};
    TokenReader<Config> reader{};

    __device__ __forceinline__ Preparer(const fkdai_decode_call &call, PersistentShared<Config> &of) : p(call), shared(of) {}

    // Requests the tokens of a state.
    __device__ __forceinline__ void request(uint32_t state) {
        job = place_of<Config>(p, state), job.count = p.S;
        reader.place(p, job);
        if (p.cu_seqlens.data != nullptr) {
            find_tokens(p, job);
            reader.go_to(job.begin);
        }
        reader.request(p, job);
    }

    __device__ __forceinline__ void finish(Tokens<Config> &to) const {
        reader.finish(p, job, to);
        if (unsigned_thread() == 0) to.n = job.n, to.hv = job.hv, to.count = job.count, to.begin = job.begin;
    }

    __device__ __forceinline__ void run() {
        const int lane = static_cast<int>(unsigned_thread() % 32);
        uint32_t number = 0, state = blockIdx.x;
        request(state);
#pragma unroll 1
        while (state < p.grid.states) {
            const Stage stage = stage_of(number++);
            Tokens<Config> &tokens = shared.tokens[stage.index];
            barrier_at(shared.empty[stage.index]).wait(stage.parity ^ 1);
            finish(tokens);
            const int count = job.count;
            state += p.grid.blocks;
            if (state < p.grid.states) request(state);
            else release_next_kernel();
            warps_meet<Config::kThreads>(1);
            relate_tokens(tokens, count, p.commit == FKDAI_DECODE_LAST);
            barrier_at(shared.full[stage.index]).arrive(lane);
        }
    }
};

// ---------------------------------------------------------------- rows

// Which state it is.
struct Source {
    uint32_t slot;
    uint32_t facts;
    static constexpr uint32_t kIsRow = 1, kIsRead = 2, kIsBroken = 4;    // in the pool; not from 0; neither in the pool nor null
    __device__ __forceinline__ bool is(uint32_t fact) const { return (facts & fact) != 0; }
};

template <class Config>
struct PersistentRows : ChunkRows<Config> {
    using Shared = PersistentShared<Config>;
    using ChunkRows<Config>::raw, ChunkRows<Config>::lane, ChunkRows<Config>::row;
    using Piece = uint4;
    static constexpr int kElementBytes = Four<Config::kStored>::kBytes / 4, kWarpRows = kWidth / Config::kWarps;
    static constexpr int kPiecesOfRow = Shared::kRowBytes / 16, kRowsAtOnce = 32 / kPiecesOfRow;
    static_assert(Config::kAxes == Axes::VK);

    const fkdai_decode_call &p;
    Shared &shared;
    IndexWords slot;    // of the job behind those whose copies are on their way
    uint32_t mask;
    Source now, next, after;

    __device__ __forceinline__ PersistentRows(const fkdai_decode_call &call, Shared &of) : p(call), shared(of) {
        this->place(Job{}, row_thread());
    }
    __device__ __forceinline__ static unsigned row_thread() { return unsigned_thread() - Config::kThreads; }
    __device__ __forceinline__ static bool is_first() { return unsigned_thread() == Config::kThreads; }

    __device__ __forceinline__ void request_slot(uint32_t state) {
        const int64_t n = static_cast<int64_t>(divide(state, p.by_heads)) + zero_of_thread();
        slot = place_of_index(p.slots, n, state < p.grid.states).request(static_cast<uint32_t>(n));
        mask = request_byte(p.initial_mask + n, p.initial_mask != nullptr && state < p.grid.states, 1);
    }

    __device__ __forceinline__ Source source_of(uint32_t state) const {
        const bool is_in_pool = is_row(p, slot);
        const uint32_t read = is_in_pool && mask != 0 && state < p.grid.states ? Source::kIsRead : 0;
        const uint32_t broken = p.slots.data != nullptr && !is_in_pool && index_of(slot, p.slots.is_i64) >= p.null_below ? Source::kIsBroken : 0;
        return {slot.low, (is_in_pool ? Source::kIsRow : 0) | read | broken};
    }

    // Where it begins in memory.
    __device__ __forceinline__ uint8_t *matrix_of(const Source &x, uint32_t state) const {
        const uint32_t head = state - divide(state, p.by_heads) * static_cast<uint32_t>(p.HV);
        const uint64_t elements = x.slot * static_cast<uint64_t>(p.row_stride) + static_cast<uint64_t>(head) * (kWidth * kWidth);
        return static_cast<uint8_t *>(p.state) + elements * kElementBytes;
    }

    // While the kernel before may still run: the warp's rows of its first states into the second-level cache, if their slots are what they are now.
    __device__ __forceinline__ void guess() const {
        const int thread = static_cast<int>(row_thread());
#pragma unroll 1
        for (uint32_t state = blockIdx.x, i = 0; i < kStages && state < p.grid.states; i++, state += p.grid.blocks) {
            const uint32_t n = divide(state, p.by_heads);
            const IndexWords seen = place_of_index(p.slots, n).request_early(n);
            if (!is_row(p, seen)) continue;
            const uint8_t *const at = matrix_of({seen.low, 0}, state) + thread / 32 * kWarpRows * Shared::kRowBytes;
            for (int line = thread % 32; line < kWarpRows * Shared::kRowBytes / 128; line += 32) prefetch_line(at + line * 128);
        }
    }

    // The warp's rows, or zeros; one group of copies in any case.
    __device__ __forceinline__ void copy(uint32_t stage, const Source &from, uint32_t state) {
        const int thread = static_cast<int>(row_thread()), first = thread / 32 * kWarpRows + thread % 32 / kPiecesOfRow, piece = thread % kPiecesOfRow;
        if (from.is(Source::kIsRead)) {
            const uint8_t *const at = matrix_of(from, state) + first * Shared::kRowBytes + piece * 16;
            uint8_t *const to = shared.states[stage][first] + piece * 16;
#pragma unroll
            for (int i = 0; i < kWarpRows / kRowsAtOnce; i++)
                copy_async(reinterpret_cast<Piece *>(to + i * kRowsAtOnce * Shared::kPitch),
                           reinterpret_cast<const Piece *>(at + i * kRowsAtOnce * Shared::kRowBytes));
        } else {
#pragma unroll 1
            for (int i = 0; i < kWarpRows / kRowsAtOnce; i++)
                *reinterpret_cast<Piece *>(shared.states[stage][first + i * kRowsAtOnce] + piece * 16) = make_uint4(0, 0, 0, 0);
        }
        close_copies();
    }

    // From the copies of this warp to the registers of the products; then the copies of the job after the next may take their place.
    __device__ __forceinline__ void take(uint32_t stage) {
        using Type = typename Four<Config::kStored>::Type;
        await_copies<1>();
        __syncwarp();
        const uint8_t *const at = shared.states[stage][row] + lane * Four<Config::kStored>::kBytes;
#pragma unroll
        for (int i = 0; i < Config::kRows; i++)
#pragma unroll
            for (int j = 0; j < Config::kFours; j++)
                raw[i][j] = *reinterpret_cast<const Type *>(at + i * Shared::kPitch + j * 4 * Four<Config::kStored>::kBytes);
        __syncwarp();
    }

    // What the tokens of the job make of it.
    __device__ __forceinline__ void compute(const Tokens<Config> &tokens, uint32_t state) {
        const Job job{tokens.n, tokens.hv, 0, tokens.count, tokens.begin};
        if (job.count <= 0) return;
        if (now.is(Source::kIsBroken) && is_first()) report(p.device_status, FKDAI_DECODE_SLOT_BROKEN);
        this->multiply(tokens);
        this->solve(tokens, 0, job.count);
        if (p.null_is_padding && !now.is(Source::kIsRow)) this->clear_out();
        Line<Config::kInputs> out = line_of<Config::kInputs>(p, p.out, job, job.hv, row);
        out.skip(job.begin);
        if (p.out.data != nullptr) this->store_out(out, job.count);
        if (p.commit == FKDAI_DECODE_LAST && now.is(Source::kIsRow))
            this->store_behind_last(tokens, matrix_of(now, state) + (row * kWidth + Config::channel(lane, 0)) * kElementBytes);
    }

    __device__ __forceinline__ void run() {
        uint32_t state = blockIdx.x;
        request_slot(state);
        next = source_of(state), request_slot(state + p.grid.blocks), copy(0, next, state);
        after = source_of(state + p.grid.blocks), request_slot(state + 2 * p.grid.blocks), copy(1, after, state + p.grid.blocks);
#pragma unroll 1
        for (uint32_t number = 0; state < p.grid.states; number++, state += p.grid.blocks) {
            const Stage stage = stage_of(number);
            now = next, next = after;
            take(stage.index);
            after = source_of(state + 2 * p.grid.blocks);
            copy(stage.index, after, state + 2 * p.grid.blocks);
            request_slot(state + 3 * p.grid.blocks);
            barrier_at(shared.full[stage.index]).wait(stage.parity);
            compute(shared.tokens[stage.index], state);
            barrier_at(shared.empty[stage.index]).arrive(static_cast<int>(unsigned_thread() % 32));
        }
    }
};

template <class Config>
__device__ __forceinline__ void run_persistent(const fkdai_decode_call &p) {
    auto &shared = dynamic_shared<PersistentShared<Config>, 16>();
    if (unsigned_thread() == 0)
        for (int i = 0; i < kStages; i++) barrier_at(shared.full[i]).init(Config::kWarps), barrier_at(shared.empty[i]).init(Config::kWarps);
    __syncthreads();
    if (unsigned_thread() < Config::kThreads) {
        await_previous_kernel();
        Preparer<Config>(p, shared).run();
    } else {
        PersistentRows<Config> rows(p, shared);
        // It is early. Without the test nvcc 13.0 orders the products of fp32 states in another way: 8 tokens of 64 x 32, the last written, 87.3 us for 83.8.
        if (p.grid.is_early) rows.guess();
        await_previous_kernel();
        rows.run();
    }
}

}  // namespace fkdai::decode

// What the chain does between two segments: one state goes out, the next comes in.
#pragma once

#include <type_traits>

#include "device/sm90/bulk_copy.cuh"
#include "device/flag.cuh"
#include "prefill_sm90/roles/state_places.cuh"

namespace fkdai::prefill {

using StateRows = float[64];     // S^T [64 V, 128 K] of a warpgroup: a wgmma accumulator
using StateColumns = float[16];  // [64 V, 32 K] of it

// Of a chain that parks its state to make a checkpoint inside a chunk.
struct NoFork {};

// What a chain does in one go: `count` times as many chunks, with a checkpoint between two.
struct SegmentParts {
    int count, chunks;
    int rows;  // tokens from the first part's begin that belong to the sequence
};

// Of nothing to do.
struct NoMoment {
    template <class... Of>
    __device__ __forceinline__ void operator()(const Of &...) const {}
};

// writes: states go out; without, this is a copy of a chain's state, and the chain writes them. BeforeFirst(chunks): what comes before the first state is
// asked for, of a segment with so many chunks; BeforeLast: where a worker has one segment and the call is plain, before it goes out.
template <class Smem, class AwaitStaging, bool writes = true, class BeforeFirst = NoMoment, class BeforeLast = NoMoment>
struct StateIo {
    const Params &p;
    SharedView<Smem> s;
    int half, worker;        // rows of V; cluster or CTA, as spans of the timeline are counted
    int warp, lane;          // of the warpgroup
    int named_barrier;       // of the warpgroup
    uint32_t staging;        // this warp's StateStaging
    AwaitStaging await_staging;  // until nothing else is there
    BeforeFirst before_first = {};
    BeforeLast before_last = {};
    static constexpr bool kIsPlain = are_plain<Smem>;

    // All segments of the worker, for this warp. work(parts, state, leave_checkpoint) does the chunks of one, or of one part of it; between part - 1
    // and part it calls leave_checkpoint(part, state). fork(rows, state, leave) does the next chunk for so many tokens on a copy of the state, and
    // calls leave(quarter, columns) for channels 32 quarter and on; without it, the state is parked and work does the chunk.
    template <class Work, class Fork = NoFork>
    __device__ __forceinline__ void run(const Work &work, const Fork &fork = {}) const {
        if constexpr (has_the_only<Smem>) return run_the_only(work);
        constexpr bool forks = !std::is_same_v<Fork, NoFork>;
        const QueueReader<Smem> segments{s};
        StateRows state;
        for (uint32_t i = 0, part = 0;;) {
            const QueuedSegment &next = segments.await(i), &done = segments.at(i - 1);
            const bool has_next = uniform(next.is_valid), is_first = kIsPlain || part == 0;
            const int forked = kIsPlain ? 0 : uniform(static_cast<int>(next.rows_forked));
            const int parts = kIsPlain || (forks && forked > 0) ? 1 : uniform(next.parts);
            const bool is_fork = !forks && !is_first && forked > 0;
            const int each = uniform(next.chunks);
            const int rows = is_fork ? forked : uniform(next.rows) - static_cast<int>(part) * each * kChunk;
            // What follows from the lane and the worker is not kept meanwhile.
            const StateIo here{p, s, half, uniform(worker), warp, lane_here(), named_barrier, staging, await_staging, before_first, before_last};
            const bool is_begin = i == 0 && is_first;  // no state yet
            StateAddress out{nullptr, Form::None}, in{next.from, next.from_form};
            if (!is_first) out = StatePlaces{p, here.worker}.sink_before(next, part), in = {nullptr, Form::Kept};
            else if (!is_begin && !(forks && !kIsPlain && done.rows_forked > 0)) out = {done.to, done.to_form};
            if (forks && in.form == Form::Parked) in = {nullptr, Form::Kept};
            const bool is_reader = warp == 0 && here.lane == 0;
            mark(mark_state_begins, i, is_reader);
            out = here.of_half(out), in = here.of_half(in);
            const bool is_exchange = Smem::kExchangesStates && writes && out.form == Form::Rows && in.form == Form::Rows;
            if (!is_begin) {
                if (is_exchange) here.exchange(static_cast<float *>(out.at), static_cast<const float *>(in.at), state);
                else if (writes) here.send(out, state);
                if (is_first) segments.release(i - 1);
                if constexpr (Smem::kAnnouncesFirst)
                    if (i == 1) warp_arrive(s.at(s->barriers.first_done), here.lane);
                mark(mark_state_has_gone, i, is_reader);
            }
            if (!has_next) return;
            if (is_begin) before_first(each);
            if (!is_exchange) here.ask(in, state);
            mark(mark_state_is_asked_for, i, is_reader);
            here.take(in, state);
            mark(mark_state_is_there, i, is_reader);
            // [K,V] states go out by the code above alone.
            const int at_once = kIsPlain || forked > 0 || p.checkpoints.states.is_k_first ? 1 : parts;
            const auto leave_checkpoint = [&](int before, const StateRows &x) {
                const StateIo there{p, s, half, uniform(worker), warp, lane_here(), named_barrier, staging, await_staging, before_first, before_last};
                const QueuedSegment &now = QueueReader<Smem>{s}.at(i);
                there.send_pairs(there.of_half(StatePlaces{p, there.worker}.checkpoint(now.checkpoint + before - 1, now.head)), x);
            };
            const int chunks = is_fork ? 1 : each;
            if (chunks > 0) work(SegmentParts{at_once, chunks, rows}, state, leave_checkpoint);
            if constexpr (forks)
                if (forked > 0) fork(forked, state, [&](int quarter, const StateColumns &x) {
                    const StateIo there{p, s, half, uniform(worker), warp, lane_here(), named_barrier, staging, await_staging, before_first, before_last};
                    const QueuedSegment &now = QueueReader<Smem>{s}.at(i);
                    there.store(there.of_half({now.to, now.to_form}), x, quarter);
                });
            if ((part += at_once) == static_cast<uint32_t>(parts)) part = 0, i++;
        }
    }
    // The same, of one segment: it is not released, as nobody waits for that.
    template <class Work>
    __device__ __forceinline__ void run_the_only(const Work &work) const {
        const QueueReader<Smem> segments{s};
        const QueuedSegment &only = segments.await(0);
        const int chunks = uniform(only.chunks), rows = uniform(only.rows);
        StateRows state;
        begin_the_only({only.from, only.from_form}, chunks, state);
        if (chunks > 0) work(SegmentParts{1, chunks, rows}, state, [](int, const StateRows &) {});
        end_the_only({only.to, only.to_form}, state);
    }
    __device__ __forceinline__ void begin_the_only(const StateAddress &from, int chunks, StateRows &state) const {
        const StateIo here{p, s, half, worker, warp, lane_here(), named_barrier, staging, await_staging, before_first, before_last};
        const bool is_reader = warp == 0 && here.lane == 0;
        mark(mark_state_begins, 0, is_reader);
        const StateAddress in = here.of_half(from);
        before_first(chunks);
        here.ask(in, state);
        mark(mark_state_is_asked_for, 0, is_reader);
        here.take(in, state);
        mark(mark_state_is_there, 0, is_reader);
    }
    __device__ __forceinline__ void end_the_only(const StateAddress &to, const StateRows &state) const {
        const StateIo here{p, s, half, worker, warp, lane_here(), named_barrier, staging, await_staging, before_first, before_last};
        const bool is_reader = warp == 0 && here.lane == 0;
        mark(mark_state_begins, 1, is_reader);
        before_last();
        if (writes) here.send(here.of_half(to), state);
        mark(mark_state_has_gone, 1, is_reader);
    }

    // Of this half of V; the compiler knows that all lanes have the same form.
    __device__ __forceinline__ StateAddress of_half(const StateAddress &x) const {
        const Form form = static_cast<Form>(uniform(static_cast<int>(x.form)));
        return {static_cast<char *>(x.at) + half * half_bytes(form), form};
    }

    // Element 4 b + 2 row_half + e of lane l: row 16 warp + l/4 + 8 row_half of the 64, channel 8 b + 2 (l%4) + e.
    __device__ __forceinline__ int state_offset(int row_half, int b) const {
        return (16 * warp + (lane >> 2) + 8 * row_half) * kWidth + 8 * b + 2 * (lane & 3);
    }
    __device__ __forceinline__ static float &element(StateRows &state, int row_half, int b, int e) {
        return state[4 * b + 2 * row_half + e];
    }
    template <int n>
    __device__ __forceinline__ static float element(const float (&state)[n], int row_half, int b, int e) {
        return state[4 * b + 2 * row_half + e];
    }
    // One state out, the next in. A store of pairs fills whole sectors, and nobody waits for it.
    // What is read comes in whole rows, which pass through shared memory, four of a warp at a time: a load of pairs would touch eight lines for 256
    // bytes.
    __device__ __forceinline__ void send(const StateAddress &out, const StateRows &state) const {
        if (out.form == Form::None) return;
        if (is_as_registers(out)) return park(static_cast<float *>(out.at), state);
        if constexpr (kIsPlain) send_pairs(out, state);
        else store(out, state);
    }
    __device__ __forceinline__ void send_pairs(const StateAddress &out, const StateRows &state) const {
        auto *const wide = static_cast<float *>(out.at);
        auto *const in_bf16 = static_cast<__nv_bfloat16 *>(out.at);
        if (!kIsPlain && out.form == Form::Pairs16) write_pairs<0>(in_bf16, state), write_pairs<1>(in_bf16, state);
        else if (out.form != Form::None) write_pairs<0>(wide, state), write_pairs<1>(wide, state);
    }
    __device__ __forceinline__ void ask(const StateAddress &in, StateRows &state) const {
        if (!are_lone<Smem> && in.form == Form::HandOver) await_hand_over();
        if (in.form == Form::Rows || is_as_registers(in)) fetch(static_cast<const float *>(in.at), state);
    }
    __device__ __forceinline__ void take(const StateAddress &in, StateRows &state) const {
        if (in.form == Form::Kept || is_as_registers(in)) return;
        if (in.form == Form::Rows) return spread(state);
        if constexpr (kIsPlain) clear(state);
        else load_rows<0>(in, state), load_rows<1>(in, state);
    }
    __device__ __forceinline__ static bool is_as_registers(const StateAddress &x) {
        return !(are_lone<Smem> && kIsPlain) && (x.form == Form::Parked || x.form == Form::HandOver);
    }
    __device__ __forceinline__ static void clear(StateRows &state) {
#pragma unroll
        for (int i = 0; i < 64; i++) state[i] = 0.f;
    }

    // Of row j of eight, this lane's four channels as they lie in memory.
    __device__ __forceinline__ int64_t whole_row(int row_half, int j) const { return (16 * warp + 8 * row_half + j) * kWidth + 4 * lane; }

    // Four rows wait in shared memory: row j for all lanes; or, for the half of the lanes that will have them in the accumulator, its pairs.
    __device__ __forceinline__ uint32_t staged_row(int j) const { return staging + ((lane * 16) ^ j * 32) + j * uint32_t{sizeof(StateStaging::row[0])}; }
    __device__ __forceinline__ uint32_t staged_pair(int b) const {
        const uint32_t row = lane >> 2 & 3, first = staging + row * uint32_t{sizeof(StateStaging::row[0])} + row * 32 + (lane & 3) * 8;
        return (first ^ (b & 3) * 32) + (b >> 2) * 128;
    }
    __device__ __forceinline__ bool holds_rows(int four) const { return lane >> 4 == four; }

    // Sixteen rows as they lie in memory, in the registers that will hold the state; or what these registers held when it was parked there.
    __device__ __forceinline__ void park(float *to, const StateRows &state) const {
#pragma unroll
        for (int i = 0; i < 16; i++)
            *reinterpret_cast<float4 *>(to + whole_row(i >> 3, i & 7)) = make_float4(state[4 * i], state[4 * i + 1], state[4 * i + 2], state[4 * i + 3]);
    }
    __device__ __forceinline__ void fetch(const float *from, StateRows &state) const {
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const float4 x = __ldcg(reinterpret_cast<const float4 *>(from + whole_row(i >> 3, i & 7)));
            state[4 * i] = x.x, state[4 * i + 1] = x.y, state[4 * i + 2] = x.z, state[4 * i + 3] = x.w;
        }
    }
    // One state out and one in, in turns: what comes would wait behind all that goes.
    __device__ __forceinline__ void exchange(float *to, const float *from, StateRows &state) const {
        float *const pairs = to + state_offset(0, 0);
        const float *const rows = from + whole_row(0, 0);
        constexpr int kBehind = 2;  // a store still reads the registers that the next load would write
#pragma unroll
        for (int i = 0; i < 16 + kBehind; i++) {
            if (i < 16) {
#pragma unroll
                for (int row_half = 0; row_half < 2; row_half++)
                    *reinterpret_cast<float2 *>(pairs + 8 * row_half * kWidth + 8 * i) =
                        make_float2(element(state, row_half, i, 0), element(state, row_half, i, 1));
            }
            if (i < kBehind) continue;
            const int j = i - kBehind;
            const float4 x = __ldcg(reinterpret_cast<const float4 *>(rows + j * kWidth));
            state[4 * j] = x.x, state[4 * j + 1] = x.y, state[4 * j + 2] = x.z, state[4 * j + 3] = x.w;
        }
    }
    __device__ __forceinline__ void spread(StateRows &state) const {
        await_staging();
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
        warpgroup_sync(named_barrier);  // O of a warp will lie where another's rows have passed
    }

    // All channels, or 32 of them from 32 quarter on.
    template <int n>
    __device__ __forceinline__ void store(const StateAddress &to, const float (&state)[n], int quarter = 0) const {
        store_rows<0>(to, state, quarter), store_rows<1>(to, state, quarter);
    }
    template <int row_half, int n>
    __device__ __forceinline__ void store_rows(const StateAddress &to, const float (&state)[n], int quarter) const {
        auto *const wide = static_cast<float *>(to.at);
        if (to.form == Form::Rows || to.form == Form::Pairs32) write_pairs<row_half>(wide, state, quarter);
        else if (to.form == Form::Pairs16) write_pairs<row_half>(static_cast<__nv_bfloat16 *>(to.at), state, quarter);
        else if (to.form == Form::Columns32) write_columns<row_half>(wide, state, quarter);
        else if (to.form == Form::Columns16) write_columns<row_half>(static_cast<uint16_t *>(to.at), state, quarter);
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
    template <int row_half, int n, class T>
    __device__ __forceinline__ void write_columns(T *to, const float (&state)[n], int quarter) const {
#pragma unroll
        for (int b = 0; b < n / 4; b++)
#pragma unroll
            for (int e = 0; e < 2; e++) narrow(element(state, row_half, b, e), to[column_offset(row_half, 4 * quarter + b, e)]);
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
    template <int row_half, int n>
    __device__ __forceinline__ void write_pairs(float *to, const float (&state)[n], int quarter = 0) const {
#pragma unroll
        for (int b = 0; b < n / 4; b++)
            *reinterpret_cast<float2 *>(to + state_offset(row_half, 4 * quarter + b)) =
                make_float2(element(state, row_half, b, 0), element(state, row_half, b, 1));
    }
    template <int row_half, int n>
    __device__ __forceinline__ void write_pairs(__nv_bfloat16 *to, const float (&state)[n], int quarter = 0) const {
#pragma unroll
        for (int b = 0; b < n / 4; b++)
            *reinterpret_cast<uint32_t *>(to + state_offset(row_half, 4 * quarter + b)) =
                pack_bf16(element(state, row_half, b, 0), element(state, row_half, b, 1));
    }

    // The halves of V are independent: each waits for the same half of the worker before, whose find role raises the flag. Lowers it once all four
    // warps have seen it: the same launch may be repeated on this memory.
    __device__ __forceinline__ void await_hand_over() const {
        uint64_t *const flag = p.hand_over.is_ready + worker * kHalves + half;
        await_flag(flag, p.hand_over.number);
        warpgroup_sync(named_barrier);
        if (warp == 0 && lane == 0) *flag = 0;
    }
};

}  // namespace fkdai::prefill

// The state: from memory to shared memory while the inputs are made ready, and in turns of a few rows through registers back to memory.
#pragma once

#include "decode_fused/decode_fused_inputs.cuh"
#include "device/async_copy.cuh"

namespace fkdai::decode_fused {

template <class Config>
struct Rows {
    static constexpr int kRows = Config::kRows, kFours = Config::kFours, kLanesOfRow = Config::kLanes / kRows;
    using Stored4 = Four<Config::kStored>;
    using Raw = typename Stored4::Type;
    using Piece = typename Shared<Config>::Piece;

    uint8_t *base;       // the matrix in memory
    int lane;            // inside the group of lanes
    bool is_zero;        // the sequence starts from 0
    float kq;            // k^ . scale q^

    __device__ __forceinline__ static int row_of(int turn) { return turn * Config::kTurnRows + thread_here() / Config::kLanes * kRows; }

    // Piece i of the thread's rows of a turn.
    __device__ __forceinline__ Piece *at(int turn, int i) const {
        const int channel = Config::channel(lane, Config::kPairs ? 0 : i % kFours), r = Config::kPairs ? i : i / kFours;
        const int element = Config::kAxes == Axes::VK ? (row_of(turn) + r) * kWidth + channel : (channel + r) * kWidth + row_of(turn);
        return reinterpret_cast<Piece *>(base + element / 4 * Stored4::kBytes);
    }

    __device__ __forceinline__ void request(const fkdai_fused_call &p, const Job &job, int64_t row, bool starts_from_0, Shared<Config> &shared) {
        lane = thread_here() % Config::kLanes, is_zero = starts_from_0;
        base = static_cast<uint8_t *>(p.state) + (row * p.row_stride + int64_t{job.h} * (kWidth * kWidth)) / 4 * Stored4::kBytes;
        if (is_zero) return;
#pragma unroll
        for (int turn = 0; turn < Config::kTurns; turn++) {
#pragma unroll
            for (int i = 0; i < Config::kPieces; i++) copy_async(&shared.pieces[turn][i][thread_here()], at(turn, i));
            close_copies();
        }
    }

    // The inputs are ready.
    __device__ __forceinline__ void begin(const Shared<Config> &shared) {
        const int c = 4 * (thread_here() % 32);
        kq = sum_warp(dot4(*reinterpret_cast<const float4 *>(shared.k + c), *reinterpret_cast<const float4 *>(shared.q + c)));
    }

    __device__ __forceinline__ void take(const Shared<Config> &shared, int turn, RowValues<Config> &values) const {
        Raw raw[kRows][kFours];
#pragma unroll
        for (int i = 0; i < Config::kPieces; i++) {
            const Piece piece = shared.pieces[turn][i][thread_here()];
            if constexpr (Config::kPairs) raw[i][0] = make_uint2(piece.x, piece.y), raw[i][1] = make_uint2(piece.z, piece.w);
            else raw[i / kFours][i % kFours] = piece;
        }
        if (is_zero)
#pragma unroll
            for (int i = 0; i < kRows * kFours; i++) raw[i / kFours][i % kFours] = Stored4::zero();
        values.widen(raw);
    }

    __device__ __forceinline__ void store(int turn, const RowValues<Config> &values) const {
#pragma unroll
        for (int i = 0; i < Config::kPieces; i++) {
            if constexpr (Config::kPairs) {
                const uint2 low = values.narrowed(i, 0), high = values.narrowed(i, 1);
                *at(turn, i) = make_uint4(low.x, low.y, high.x, high.y);
            } else {
                *at(turn, i) = values.narrowed(i / kFours, i % kFours);
            }
        }
    }

    // From this turn on: rows that have come are stepped while the others are on their way.
    template <int turn = 0>
    __device__ __forceinline__ void step(Shared<Config> &shared) const {
        RowValues<Config> values;
        float t[kRows], u[kRows];
        await_copies<Config::kTurns - 1 - turn>();
        take(shared, turn, values);
        values.decay_and_dot(shared.decay, shared.k, shared.q, lane, t, u);
        const float with_k = sum_rows<Config>(t, lane), with_q = sum_rows<Config>(u, lane);
        const int own = row_of(turn) + lane / kLanesOfRow;
        const float update = (shared.v[own] - with_k) * shared.beta;
        if (lane % kLanesOfRow == 0) shared.out[own] = fmaf(update, kq, with_q);
        values.add(shared.k, lane, update);
        store(turn, values);
        if constexpr (turn + 1 < Config::kTurns) step<turn + 1>(shared);
    }
};

}  // namespace fkdai::decode_fused
